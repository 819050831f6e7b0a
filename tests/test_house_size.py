"""The repository stays light, so that it can be carried whole to a machine with a GPU."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 45_000_000
"""Bytes of all tracked files together."""


def test_tracked_files_are_light() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    files = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in files if path.is_file()}
    heaviest = sorted(sizes.items(), key=lambda item: -item[1])[:12]
    shown = "\n".join(f"  {size / 1e6:6.2f} MB  {path}" for path, size in heaviest)
    assert sum(sizes.values()) <= LIMIT, (
        f"tracked files are {sum(sizes.values()) / 1e6:.1f} MB, and at most {LIMIT / 1e6:.0f} MB are wanted; "
        f"the heaviest:\n{shown}"
    )
