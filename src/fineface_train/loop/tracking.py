"""What a run reports while it works: metrics.jsonl always, and Weights & Biases (wandb) when it can.

The file is the record; wandb is a view of it. Whatever goes wrong in wandb prints one warning and switches it off.
"""

import dataclasses
import enum
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm import tqdm

from fineface_train.files import flat, write_text

if TYPE_CHECKING:
    import pandas as pd

METRICS_FILE = "metrics.jsonl"
GLANCE = "glance"
"""Of a line: what an evaluation of a few images saw while training went on."""
VALIDATION = "validation"
"""Key of a line: the error on images held out of training, while it went on."""
WANDB_TIMEOUT = 60.0
"""Seconds that wandb may hold up the start or the end of a run."""


class WandbMode(enum.Enum):
    """`auto`: WANDB_MODE if it is set, else online where wandb knows an API key, else offline."""

    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclasses.dataclass
class TrackingConfig:
    """What is reported where; nothing here can change a run's result."""

    wandb: bool = True
    mode: WandbMode = WandbMode.auto
    project: str = "fineface-train"
    group: str | None = None
    """Default: the sweep, in one."""
    arm: str | None = None
    """What sets a sweep's arm apart; the sweep fills it in."""
    tags: list[str] = dataclasses.field(default_factory=list)
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""

    def validate(self, key: str) -> None:
        """Raises ValueError that names the key below `key`, its value and what is allowed."""
        if self.log_every < 1:
            raise ValueError(f"{key}.log_every={self.log_every} must be at least 1")
        if not re.fullmatch(r"[^/\\#?%:]{1,128}", self.project):
            raise ValueError(f"{key}.project={self.project!r} must be 1 to 128 characters without / \\ # ? % :")
        if any(not 1 <= len(tag) <= 64 for tag in self.tags):
            raise ValueError(f"{key}.tags={self.tags} must each be 1 to 64 characters long")


class Tracker:
    """Writes a run's numbers, pictures and tables; made by the main process only."""

    def __init__(self, folder: Path, config: TrackingConfig, run_config: dict[str, Any], name: str) -> None:
        """`folder`: the run folder, made if missing; `run_config`: what the run is, shown by wandb; `name`: how wandb
        calls it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / METRICS_FILE
        self._file = self.path.open("a", encoding="utf-8")
        self._step = 0
        self._wandb: Any = None
        if config.wandb and config.mode is not WandbMode.disabled:
            self._attempt(lambda: self._start_wandb(config, run_config, name))

    def resume(self, step: int, *, evaluations: bool = True) -> None:
        """Drop the lines of steps later than `step` (and a torn last line), so that continuing from there writes each
        step once.

        Without `evaluations`, drop those too: the caller writes a new one. What was seen at `step` itself while
        training is seen again.
        """
        self._file.close()
        lines = [
            line
            for line in read_metrics(self.path)
            if line["step"] <= step and (evaluations or "evaluation" not in line)
        ]
        if evaluations:
            lines = [line for line in lines if line["step"] < step or not {GLANCE, VALIDATION} & set(line)]
        kept = [json.dumps(line) + "\n" for line in lines]
        write_text(self.path, "".join(kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._step = step

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Append `values` as one line; numbers, or one "evaluation", "glance" or "validation" dictionary of numbers.
        Not-a-number and infinity become null."""
        self._step = step
        line = _finite({"step": step, **values})
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._wandb is not None:
            numbers = dict(_named_numbers(line))
            self._attempt(lambda: self._wandb.log(numbers, step=step))
            if "evaluation" in line:  # a resumed run may drop what is logged at a step that it has seen
                self._attempt(lambda: self._wandb.summary.update(numbers))

    def images(self, step: int, name: str, images: dict[str, Image.Image]) -> None:
        """Show pictures, caption by caption, under `name`; wandb only, as the run folder holds its own files."""
        if self._wandb is not None:
            self._attempt(lambda: self._log_images(step, name, images))

    def table(self, name: str, frame: "pd.DataFrame") -> None:
        """Show a table, whose cells may be pictures, under `name` at the last step; wandb only."""
        if self._wandb is not None:
            self._attempt(lambda: self._log_table(name, frame))

    def finish(self) -> None:
        """Close the file and end the wandb run; may be called twice."""
        self._file.close()
        if self._wandb is not None:
            self._attempt(self._finish_wandb)
            self._wandb = None

    def _start_wandb(self, config: TrackingConfig, run_config: dict[str, Any], name: str) -> None:
        _settle_wandb(self.folder)
        import wandb  # here, as the import takes a second and may itself fail

        mode: Any = config.mode.value
        if config.mode is WandbMode.auto:
            mode = os.environ.get("WANDB_MODE") or (
                "online" if os.environ.get("WANDB_API_KEY") or wandb.login(prompt=False) else "offline"
            )
        self._wandb = wandb.init(
            project=config.project,
            group=config.group,
            tags=config.tags or None,
            name=name,
            id=run_id(self.folder),
            resume="allow",
            mode=mode,
            dir=str(self.folder),
            config=json.loads(json.dumps(run_config | {"arm": config.arm}, default=str)),
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=WANDB_TIMEOUT,
                finish_timeout=WANDB_TIMEOUT,
                x_disable_stats=True,
            ),
        )

    def _finish_wandb(self) -> None:
        import wandb

        self._wandb.finish()
        wandb.teardown()  # `finish` alone may return before wandb's background process has written its file

    def _log_images(self, step: int, name: str, images: dict[str, Image.Image]) -> None:
        import wandb

        self._wandb.log({name: [wandb.Image(image, caption=caption) for caption, image in images.items()]}, step=step)

    def _log_table(self, name: str, frame: "pd.DataFrame") -> None:
        import wandb

        rows = [
            [wandb.Image(value) if isinstance(value, Image.Image) else value for value in row]
            for row in frame.itertuples(index=False)
        ]
        self._wandb.log({name: wandb.Table(columns=list(frame.columns), data=rows)}, step=self._step)

    def _attempt(self, action: Callable[[], None]) -> None:
        """A dashboard must never stop a run: any failure of wandb switches it off for the rest of the run, with one
        warning."""
        try:
            action()
        except Exception as error:
            self._wandb = None
            said = " ".join(str(error).split())
            tqdm.write(
                f"warning: wandb failed ({type(error).__name__}: {said}) and is off from here on; {self.path} stays "
                f"complete",
                file=sys.stderr,
            )


def _settle_wandb(folder: Path) -> None:
    """Where nothing can be written in the home, wandb keeps its log, cache and settings in the run's folder; it would
    write its log to the terminal."""
    for variable, place in (("CACHE", "~/.cache"), ("CONFIG", "~/.config"), ("DATA", "~/.local/share")):
        usual = Path(os.environ.get(f"XDG_{variable}_HOME") or os.path.expanduser(place)).absolute()
        nearest = next(path for path in (usual, *usual.parents) if path.exists())
        if not os.environ.get(f"WANDB_{variable}_DIR") and not (
            nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
        ):
            os.environ[f"WANDB_{variable}_DIR"] = str((folder / "wandb").resolve())
    if not os.access(os.path.expanduser("~"), os.X_OK):
        os.environ.setdefault("NETRC", os.devnull)  # else wandb tells that it cannot look for a key there
    if not os.environ.get("WANDB_MODE", "?"):
        del os.environ["WANDB_MODE"]  # set to nothing, which wandb takes for a mode that it does not know


def log_tables(
    folder: Path, config: TrackingConfig, name: str, tables: Callable[[], dict[str, "pd.DataFrame"]]
) -> None:
    """Show tables as a wandb run of their own; nothing without wandb."""
    if config.wandb and config.mode is not WandbMode.disabled:
        tracker = Tracker(folder, config, {}, name)
        for title, frame in tables().items():
            tracker.table(title, frame)
        tracker.finish()
        if not tracker.path.stat().st_size:
            tracker.path.unlink()


def run_id(folder: Path) -> str:
    """wandb's id of the run in `folder`: the same whenever that folder is resumed."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl in order, without a last line that a kill tore; ValueError for any other line that
    is no JSON."""
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if texts and not texts[-1].endswith("\n"):
        texts.pop()
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                raise ValueError("no step")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is damaged ({error}); remove that line") from None
        lines.append(line)
    return lines


def _finite(value: Any) -> Any:
    """`value` as plain JSON types, from numbers of numpy or torch too; null where a number is not finite, as JSON has
    none."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _named_numbers(line: dict[str, Any]) -> list[tuple[str, float]]:
    """wandb's grouped names: ("train/loss", 0.5), ("evaluation/individual/slope", 0.9)."""
    named = {
        key if key in ("evaluation", GLANCE, VALIDATION) else f"train/{key}": value
        for key, value in line.items()
        if key != "step"
    }
    return [(key, value) for key, value in flat(named, "/") if isinstance(value, (int, float))]
