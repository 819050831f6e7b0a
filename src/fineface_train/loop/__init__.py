"""The training loop: clock, players, checkpoints, run folders, trackers."""
