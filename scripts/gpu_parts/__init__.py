"""The parts of scripts/gpu_check.py: what is checked, what is measured, and the processes that do it."""
