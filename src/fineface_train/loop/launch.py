"""What a launcher (torchrun, `accelerate launch`) tells its processes before accelerate is up, and what becomes of them
when it is killed.

Imports nothing that takes time.
"""

import os
import signal
import sys
import threading
import time

LAUNCHER = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
"""The process that started this one as one of several; None where that is no launcher."""
LOOKS_EVERY = 0.1
"""Seconds between two looks at whether the launcher is still there."""


def is_main_process() -> bool:
    """Whether this is the only or the first process; launchers tell by RANK."""
    return os.environ.get("RANK", "0") == "0"


def launcher_is_gone() -> bool:
    """Whether there was a launcher that has ended before this process."""
    return LAUNCHER is not None and os.getppid() != LAUNCHER


def end_with_launcher() -> None:
    """See to it that this process is told to stop, as by SIGTERM, once the launcher that started it is gone; a SIGKILL
    lets a launcher tell nobody."""

    def watch() -> None:
        while not launcher_is_gone():
            time.sleep(LOOKS_EVERY)
        if is_main_process():
            print(
                f"fineface: the launcher (process {LAUNCHER}) is gone; stopping, as on SIGTERM",
                file=sys.stderr,
                flush=True,
            )
        os.kill(os.getpid(), signal.SIGTERM)

    if LAUNCHER is not None:
        threading.Thread(target=watch, daemon=True).start()
