"""A program for `torchrun FILE OUT SECONDS`: true drawings evaluated by all processes of a launch; a batch takes at
least so many seconds."""

import sys
import time
from pathlib import Path

from torch import Tensor

from fineface_train.evaluation.ceiling import DrawnFaces
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.evaluate import evaluate
from fineface_train.evaluation.judges.config import JudgeConfig
from fineface_train.evaluation.judges.judges import load_judges
from fineface_train.evaluation.plan import build_plan, toyfacs_combinations, toyfacs_prompts
from fineface_train.loop.accelerator import launched
from fineface_train.loop.launch import end_with_launcher
from fineface_train.loop.processes import make_crew
from fineface_train.methods.protocol import Request

ALL = (toyfacs_prompts(), toyfacs_combinations())
SETS = [image for image in build_plan(ProtocolName.quick, *ALL, seed=3) if image.set_index >= 0]
PLAN = build_plan(ProtocolName.glance, *ALL, seed=3) + [image for image in SETS if image.unit in ("p05", "p06")][:12]
"""62 images: 2 neutral, 48 of single AUs, 12 of combinations; of two prompts."""


class Slow:
    def __init__(self, seconds: float) -> None:
        self.inner, self.seconds = DrawnFaces(PLAN), seconds

    def generate(self, requests: list[Request]) -> Tensor:
        time.sleep(self.seconds)
        return self.inner.generate(requests)


if __name__ == "__main__":
    end_with_launcher()
    evaluate(
        Slow(float(sys.argv[2])),
        load_judges(JudgeConfig()),
        PLAN,
        Path(sys.argv[1]),
        protocol=ProtocolName.quick,
        bundle="true drawings",
        generator_fingerprint="drawn",
        batch_size=8,
        crew=make_crew(launched()),
    )
