"""What a run reports while it works: metrics.jsonl always, and dashboards (wandb, TensorBoard) when they can.

The file is the record; a dashboard is a view of it. Whatever goes wrong in one prints one warning and switches it off.
"""

import dataclasses
import enum
import functools
import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fineface_train.files import write_text
from fineface_train.loop.dashboards import GLANCE, VALIDATION, Dashboard, TensorBoard, Wandb

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

METRICS_FILE = "metrics.jsonl"


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
    """Whether Weights & Biases shows the run."""
    mode: WandbMode = WandbMode.auto
    """How wandb logs."""
    project: str = "fineface-train"
    """wandb's project."""
    group: str | None = None
    """Default: the sweep, in one."""
    arm: str | None = None
    """What sets a sweep's arm apart; the sweep fills it in."""
    tags: list[str] = dataclasses.field(default_factory=list)
    """wandb's tags of the run."""
    tensorboard: bool = False
    """Write numbers and pictures for TensorBoard too, into the run's folder `tensorboard`. Needs the package:
    pip install 'fineface-train[tensorboard]'."""
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
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                f"{key}.tensorboard=true: the package tensorboard is not installed; pip install "
                f"'fineface-train[tensorboard]', or leave {key}.tensorboard out"
            )


class Tracker:
    """Writes a run's numbers, pictures and tables; made by the main process only."""

    def __init__(self, folder: Path, config: TrackingConfig, run_config: dict[str, Any], name: str) -> None:
        """`folder`: the run folder, made if missing; `run_config`: what the run is, shown by wandb; `name`: how wandb
        calls it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS_FILE
        self._file = self.path.open("a", encoding="utf-8")
        self._step = 0
        self._dashboards: list[Dashboard] = []
        if config.tensorboard:
            self._dashboards.append(TensorBoard(folder))
        if config.wandb and config.mode is not WandbMode.disabled:
            self._attempt("wandb", lambda: self._dashboards.append(Wandb(folder, config, run_config, name)))

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
        self._show(lambda dashboard: dashboard.resume(step))

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Append `values` as one line; numbers, or one "evaluation", "glance" or "validation" dictionary of numbers.
        Not-a-number and infinity become null."""
        self._step = step
        line = finite({"step": step, **values})
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._show(lambda dashboard: dashboard.log(step, line))

    def images(self, step: int, name: str, images: "dict[str, Image]") -> None:
        """Show pictures, caption by caption, under `name`; in dashboards only, as the run folder holds its own
        files."""
        self._show(lambda dashboard: dashboard.images(step, name, images))

    def table(self, name: str, frame: "pd.DataFrame") -> None:
        """Show a table, whose cells may be pictures, under `name` at the last step; in dashboards only."""
        self._show(lambda dashboard: dashboard.table(self._step, name, frame))

    def finish(self) -> None:
        """Close the file and end the dashboards' runs; may be called twice."""
        self._file.close()
        self._show(lambda dashboard: dashboard.finish())
        self._dashboards = []

    def _show(self, action: Callable[[Dashboard], None]) -> None:
        for dashboard in list(self._dashboards):
            self._attempt(dashboard.name, functools.partial(action, dashboard))

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        """A dashboard must never stop a run: any failure of one switches it off for the rest of the run, with one
        warning."""
        try:
            action()
        except Exception as error:
            self._dashboards = [dashboard for dashboard in self._dashboards if dashboard.name != name]
            said = " ".join(str(error).split())
            tqdm.write(
                f"warning: {name} failed ({type(error).__name__}: {said}) and is off from here on; {self.path} stays "
                f"complete",
                file=sys.stderr,
            )


def log_tables(
    folder: Path, config: TrackingConfig, name: str, tables: Callable[[], "dict[str, pd.DataFrame]"]
) -> None:
    """Show tables as a wandb run of their own; nothing without wandb."""
    if config.wandb and config.mode is not WandbMode.disabled:
        tracker = Tracker(folder, config, {}, name)
        for title, frame in tables().items():
            tracker.table(title, frame)
        tracker.finish()
        if not tracker.path.stat().st_size:
            tracker.path.unlink()


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


def finite(value: Any) -> Any:
    """`value` as plain JSON types, from numbers of numpy or torch too; null where a number is not finite, as JSON has
    none."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
