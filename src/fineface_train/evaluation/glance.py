"""A plan's images made and judged in memory, without writing anything: looks while training goes on, calibration."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from fineface_train.evaluation.judges.judges import Judges
from fineface_train.evaluation.judging import readings_of
from fineface_train.evaluation.media import from_bytes, planned_frame
from fineface_train.evaluation.metrics import readings, scores
from fineface_train.evaluation.plan import Kind, PlannedImage
from fineface_train.methods.protocol import FaceGenerator
from fineface_train.toyfacs.render import to_uint8


def glance(generator: FaceGenerator, judges: Judges, plan: Sequence[PlannedImage], batch_size: int) -> dict[str, float]:
    """The first judge's scores of a plan's single AUs (see `scores`)."""
    seen = readings(read_images(generator, judges, plan, batch_size), next(iter(judges.aus)), Kind.individual)
    return {name: float(values[0]) for name, values in scores(seen, np.ones((1, seen.units))).items()}


def read_images(
    generator: FaceGenerator, judges: Judges, plan: Sequence[PlannedImage], batch_size: int
) -> pd.DataFrame:
    """A row for each of a plan's images: what was planned, and what all judges see in what the generator makes."""
    assert judges.clip is not None, "asked for what only judges see"
    frame = planned_frame(plan)
    starts = range(0, len(plan), batch_size)
    bar = tqdm(starts, desc="looking", unit="batch", mininterval=1, leave=False)
    made = [
        from_bytes(to_uint8(generator.generate([image.request for image in plan[start : start + batch_size]])))
        for start in bar
    ]
    embedded = dict(zip(frame["path"], torch.cat([judges.clip.embed(images) for images in made]), strict=True))
    seen = [
        readings_of(images, judges, frame.iloc[start : start + batch_size], embedded.__getitem__)
        for start, images in zip(starts, made, strict=True)
    ]
    return frame.merge(pd.concat(seen, ignore_index=True), on="id", validate="one_to_one")
