#!/usr/bin/env bash
# Set up, then lint, check types and test; arguments go to pytest: ./scripts/test.sh -k report
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

# Two single-threaded workers beat one worker with two threads on models this small.
export OMP_NUM_THREADS=1
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n 2 "$@"
