"""Views of a run in other programs: Weights & Biases (wandb) and TensorBoard."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fineface_train.files import flat

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from fineface_train.loop.tracking import TrackingConfig

GLANCE = "glance"
"""Key of a line: what an evaluation of a few images saw while training went on."""
VALIDATION = "validation"
"""Key of a line: the error on images held out of training, while it went on."""
WANDB_TIMEOUT = 60.0
"""Seconds that wandb may hold up the start or the end of a run."""


class Dashboard(Protocol):
    """What shows a run. Its methods may raise anything: the tracker then goes on without it."""

    name: str

    def resume(self, step: int) -> None:
        """What was shown of steps after `step` will come again."""
        ...

    def log(self, step: int, line: dict[str, Any]) -> None:
        """Show the numbers of a line of metrics.jsonl."""
        ...

    def images(self, step: int, name: str, images: "dict[str, Image]") -> None:
        """Show pictures, caption by caption."""
        ...

    def table(self, step: int, name: str, frame: "pd.DataFrame") -> None:
        """Show a table, whose cells may be pictures, where the program has tables."""
        ...

    def finish(self) -> None: ...


class Wandb:
    """A wandb run, which a resumed training continues."""

    name = "wandb"

    def __init__(self, folder: Path, config: "TrackingConfig", run_config: dict[str, Any], name: str) -> None:
        _settle_wandb(folder)
        import wandb  # here, as the import takes a second and may itself fail

        mode: Any = config.mode.value
        if mode == "auto":
            mode = os.environ.get("WANDB_MODE") or (
                "online" if os.environ.get("WANDB_API_KEY") or wandb.login(prompt=False) else "offline"
            )
        self._run: Any = wandb.init(
            project=config.project,
            group=config.group,
            tags=config.tags or None,
            name=name,
            id=run_id(folder),
            resume="allow",
            mode=mode,
            dir=str(folder),
            config=json.loads(json.dumps(run_config | {"arm": config.arm}, default=str)),
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=WANDB_TIMEOUT,
                finish_timeout=WANDB_TIMEOUT,
                x_disable_stats=True,
            ),
        )

    def resume(self, step: int) -> None:
        """wandb drops what it has seen."""

    def log(self, step: int, line: dict[str, Any]) -> None:
        numbers = dict(named_numbers(line))
        self._run.log(numbers, step=step)
        if "evaluation" in line:  # a resumed run may drop what is logged at a step that it has seen
            self._run.summary.update(numbers)

    def images(self, step: int, name: str, images: "dict[str, Image]") -> None:
        import wandb

        self._run.log({name: [wandb.Image(image, caption=caption) for caption, image in images.items()]}, step=step)

    def table(self, step: int, name: str, frame: "pd.DataFrame") -> None:
        import wandb
        from PIL.Image import Image

        rows = [
            [wandb.Image(value) if isinstance(value, Image) else value for value in row]
            for row in frame.itertuples(index=False)
        ]
        self._run.log({name: wandb.Table(columns=list(frame.columns), data=rows)}, step=step)

    def finish(self) -> None:
        import wandb

        self._run.finish()
        wandb.teardown()  # `finish` alone may return before wandb's background process has written its file


class TensorBoard:
    """Event files in the run's folder `tensorboard`, made with the first number or picture; it has no tables."""

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._purge: int | None = None
        self._made: Any = None

    @property
    def _writer(self) -> Any:
        if self._made is None:
            from torch.utils.tensorboard import SummaryWriter

            self._made = SummaryWriter(str(self._folder), purge_step=self._purge)
        return self._made

    def resume(self, step: int) -> None:
        self.finish()
        self._purge = step + 1

    def log(self, step: int, line: dict[str, Any]) -> None:
        for name, value in named_numbers(line):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def images(self, step: int, name: str, images: "dict[str, Image]") -> None:
        import numpy as np

        for caption, image in images.items():
            self._writer.add_image(f"{name}/{caption}", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def table(self, step: int, name: str, frame: "pd.DataFrame") -> None:
        """Nothing."""

    def finish(self) -> None:
        if self._made is not None:
            self._made.close()
        self._made = None


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


def run_id(folder: Path) -> str:
    """wandb's id of the run in `folder`: the same whenever that folder is resumed."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def named_numbers(line: dict[str, Any]) -> list[tuple[str, float]]:
    """Grouped names, as dashboards show them: ("train/loss", 0.5), ("evaluation/individual/slope", 0.9)."""
    named = {
        key if key in ("evaluation", GLANCE, VALIDATION) else f"train/{key}": value
        for key, value in line.items()
        if key != "step"
    }
    return [(key, value) for key, value in flat(named, "/") if isinstance(value, (int, float))]
