"""A run folder, read once: every page, table and message about a run is made from this object."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pandas as pd

from fineface_train.earlier_keys import of_evaluation
from fineface_train.evaluation.media import METRICS, PICTURES
from fineface_train.files import flat, read_json, read_parquet
from fineface_train.loop.runs import FINISHED, VALIDATION_FILE
from fineface_train.loop.tracking import METRICS_FILE, read_metrics

CONFIG, PROVENANCE, AUDIT, IMAGES, SAMPLES = (
    "config.yaml",
    "provenance.json",
    "audit.json",
    "images.parquet",
    "samples",
)
CEILING = Path("ceiling") / METRICS
"""What true drawings of the same requests reach; written by an evaluation on ToyFACS."""
Curve = list[tuple[float, float]]
"""(step, value) pairs."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """What lies in the folder of a training, of an evaluation, or of both. A part that is not there is empty."""

    folder: Path
    evaluation: Path
    """Where the evaluation lies: in the run's folder, or in one within it."""
    config: str
    """config.yaml as text."""
    provenance: dict[str, Any]
    audit: dict[str, Any]
    """The parameters by part: {"parts": [...]}."""
    finished: dict[str, Any]
    """What the training took: steps, training_seconds, training_petaflop. Empty before it ended."""
    validation: dict[str, Any]
    """The error on held-out images at the last look, example by example."""
    curves: dict[str, Curve]
    """Every number of metrics.jsonl by its name ("loss", "critic/loss", "validation.loss"), over steps."""
    samples: list[Path]
    """Sample sheets drawn while it trained, in the order of their steps."""
    metrics: dict[str, Any]
    """metrics.json: what a judge measured. Empty where nothing was."""
    pictures: dict[str, Any]
    """pictures.json: what is known of pictures that no judge has seen. Empty where they are judged."""
    ceiling: dict[str, Any]
    """metrics.json of true drawings of the same requests."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def judge(self) -> str:
        """The judge whose readings the page shows; "" where there is none."""
        return str(self.metrics.get("first_judge", ""))

    @property
    def evaluated(self) -> dict[str, Any]:
        """What is known of the evaluation, judged or not."""
        return self.metrics or self.pictures

    @property
    def of_pictures(self) -> bool:
        """Whether pictures of another program were judged (`fineface judge`)."""
        return "pictures" in self.metrics

    @property
    def evaluation_alone(self) -> bool:
        """Whether an evaluation lies here that was made away from its run."""
        trained = (CONFIG, PROVENANCE, AUDIT, METRICS_FILE, SAMPLES, "bundle")
        return bool(self.evaluated) and not any((self.folder / part).exists() for part in trained)

    @functools.cached_property
    def frame(self) -> pd.DataFrame | None:
        """A row per image of the evaluation; None without one. Raises ValueError that names a damaged file."""
        path = self.evaluation / IMAGES
        return read_parquet(path) if path.is_file() else None


def read_run(folder: Path, evaluation: Path | None = None) -> RunFolder:
    """Read what lies in a run folder; `evaluation`: the folder of its evaluation, where that is another.

    Raises ValueError for a folder that is none, and for a damaged file, which it names. A file that is not there is no
    error: runs are killed, are not evaluated, are judged later, and older ones wrote fewer files.
    """
    if not folder.is_dir():
        raise ValueError(
            f"run={folder} is not a folder; give the folder that `fineface train` or `fineface evaluate` wrote"
        )
    evaluation = evaluation or folder
    metrics = of_evaluation(_json(evaluation / METRICS, "individual", "combination"))
    return RunFolder(
        folder=folder,
        evaluation=evaluation,
        config=_text(folder / CONFIG),
        provenance=_json(folder / PROVENANCE),
        audit=_json(folder / AUDIT, "parts"),
        finished=_json(folder / FINISHED),
        validation=_json(folder / VALIDATION_FILE),
        curves=_curves(folder / METRICS_FILE),
        samples=sorted((folder / SAMPLES).glob("step_*.png")),
        metrics=metrics,
        pictures={} if metrics else of_evaluation(_json(evaluation / PICTURES, "protocol", "images")),
        ceiling=_json(evaluation / CEILING),
    )


def _json(path: Path, *keys: str) -> dict[str, Any]:
    return read_json(path, *keys) if path.is_file() else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); bring back a copy, or remove it") from error


def _curves(path: Path) -> dict[str, Curve]:
    """The finite numbers of each name in metrics.jsonl; of a step that was logged twice, the later one."""
    curves: dict[str, dict[float, float]] = {}
    for line in read_metrics(path) if path.is_file() else []:
        for name, value in flat(line):
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                curves.setdefault(name, {})[line["step"]] = value
    return {name: sorted(values.items()) for name, values in curves.items()}
