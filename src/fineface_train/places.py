"""Where the checkout lies, with its configs and what is shipped in it."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"


def found(path: str | None) -> str | None:
    """The path of what is shipped, from any working directory: one that is not there is looked for beside configs/."""
    if path and not Path(path).exists() and (REPOSITORY / path).exists():
        return str(REPOSITORY / path)
    return path
