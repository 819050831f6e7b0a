"""From a generator to numbers, in two phases: media are made and written (`media`), then judges read the files
(`judging`). Either can be stopped and goes on where it was; another judge reads media that are there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fineface_train.data.crew import ALONE, Crew
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.judges.judges import Judges
from fineface_train.evaluation.judging import finished, judge_media, judged_folder
from fineface_train.evaluation.media import METRICS, make_media, media_fingerprint
from fineface_train.evaluation.plan import PlannedImage
from fineface_train.files import read_json
from fineface_train.methods.protocol import FaceGenerator


def evaluate(
    generator: FaceGenerator,
    judges: Judges,
    plan: Sequence[PlannedImage],
    out: Path,
    *,
    protocol: ProtocolName,
    bundle: str,
    generator_fingerprint: str,
    batch_size: int = 32,
    earlier: Sequence[Judges] = (),
    crew: Crew = ALONE,
) -> tuple[Path, dict[str, Any]]:
    """Make the plan's media under `out` and judge them; returns the folder of the numbers (see `judged_folder`) and
    what metrics.json (without judges pictures.json) there holds. Without judges, media that were judged are enough.

    Args:
        generator_fingerprint: stands for everything that decides the images beside the plan (weights, guidance,
            steps).
        earlier: judges of an evaluation in `out` that a version made which knew media by those who judged them.
        crew: the processes that call this together; all of them get the same.
    Raises:
        ValueError: `out` holds an evaluation of another plan or generator; `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; use 1 or more")

    def known_by(who: Judges) -> str:
        return media_fingerprint(plan, generator_fingerprint, [who.fingerprint, *who.aus])

    images, fingerprint = media_fingerprint(plan, generator_fingerprint), known_by(judges)
    place = judged_folder(out, judges, fingerprint) if judges.aus else out
    found = finished(place, fingerprint if judges.aus else images)
    crew.wait()  # nobody writes before all have read what there was
    if found:
        return place, found
    media = make_media(
        generator,
        plan,
        out,
        fingerprint=images,
        earlier=[known_by(who) for who in (judges, *earlier)],
        batch_size=batch_size,
        crew=crew,
    )
    if not judges.aus and (out / METRICS).exists():
        return out, read_json(out / METRICS)
    about = {"protocol": protocol.value, "bundle": bundle}
    return place, judge_media(
        media, judges, place, fingerprint=fingerprint, about=about, batch_size=batch_size, crew=crew
    )
