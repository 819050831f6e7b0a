"""True drawings of the requested faces: what a perfect generator of ToyFACS would make.

Their CLIP-I is the ceiling that a CLIP which sees expression allows, and their AU error is the judge's own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fineface_train.data.crew import ALONE, Crew
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.evaluate import evaluate
from fineface_train.evaluation.judges.judges import Judges
from fineface_train.evaluation.plan import PlannedImage
from fineface_train.methods.protocol import Request
from fineface_train.toyfacs.faces import Face
from fineface_train.toyfacs.render import draw, draw_nuisances


class DrawnFaces:
    """A `FaceGenerator` that draws the planned faces; position, proportions and gaze come from the request's seed."""

    def __init__(self, plan: Sequence[PlannedImage]) -> None:
        """Raises ValueError where a planned prompt does not say whom it describes."""
        self.faces: dict[str, Face] = {}
        for image in plan:
            if image.prompt.face is None:
                raise ValueError(
                    f"prompt {image.prompt.text!r} describes no ToyFACS face, so that it cannot be drawn; use the "
                    f"ToyFACS prompts"
                )
            self.faces[image.prompt.text] = image.prompt.face

    def generate(self, requests: list[Request]) -> Tensor:
        """See `FaceGenerator.generate`."""
        faces = [self.faces[request.prompt] for request in requests]
        nuisances = torch.cat([draw_nuisances(np.random.default_rng(request.seed), 1) for request in requests])
        return draw(faces, torch.tensor([request.aus for request in requests]), nuisances)


def ceiling(
    judges: Judges,
    plan: list[PlannedImage],
    out: Path,
    protocol: ProtocolName,
    batch_size: int = 64,
    earlier: Sequence[Judges] = (),
    crew: Crew = ALONE,
) -> dict[str, Any]:
    """Evaluate true drawings as a generator is evaluated, see `evaluate`; returns the metrics."""
    return evaluate(
        DrawnFaces(plan),
        judges,
        plan,
        out,
        protocol=protocol,
        bundle="true drawings",
        generator_fingerprint="drawn",
        batch_size=batch_size,
        earlier=earlier,
        crew=crew,
    )[1]
