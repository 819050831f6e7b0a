"""What a launcher (torchrun, `accelerate launch`) tells its processes before accelerate is up, and what becomes of them when it is killed.

Imports nothing that takes time.
"""

import os
import signal
import sys
import threading
import time

LOOKS_EVERY = 0.1
"""Seconds."""


def is_main_process() -> bool:
    """Whether this is the only or the first process; launchers tell by RANK."""
    return os.environ.get("RANK", "0") == "0"


def end_with_launcher() -> None:
    """See to it that this process is told to stop, as by SIGTERM, once the launcher that started it is gone; a SIGKILL lets a launcher tell nobody."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOKS_EVERY)
        if is_main_process():
            print(f"fineface: the launcher (process {launcher}) is gone; stopping, as on SIGTERM", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=watch, daemon=True).start()
