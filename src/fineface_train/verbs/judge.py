"""`fineface judge`: pictures that any program made, judged as those of `evaluate` are, by all processes of a launch;
without such pictures, the judge itself is measured on labelled images (`agreement`)."""

import logging
from pathlib import Path
from typing import Any

from fineface_train.config import Config, PicturesConfig
from fineface_train.evaluation.given import about, given_media
from fineface_train.evaluation.judges.config import READS, JudgeKind
from fineface_train.evaluation.judges.judges import find_judges, load_judges
from fineface_train.evaluation.judging import finished, judge_media, judged_folder
from fineface_train.evaluation.media import METRICS, ROWS, ROWS_NOTE, Media, check_same
from fineface_train.files import hash_of, plain, read_json
from fineface_train.locks import locked
from fineface_train.loop.accelerator import launched
from fineface_train.loop.processes import make_crew
from fineface_train.verbs.agreement import judge_the_judge
from fineface_train.verbs.evaluate import print_report

logger = logging.getLogger(__name__)
NAMED = 60
"""Letters of the pictures' folder in the name of the one that their numbers go to."""


def judge(config: PicturesConfig) -> dict[str, Any]:
    """Judge the pictures in `images` against the table `requests`, and write rows, numbers and a page; returns the
    metrics. Without both, `judge_the_judge` on the data.

    They go to `out`, or to a folder in run.root that is named by pictures and table; those of a second judge go to
    judged-NAME in it. Raises ValueError for what is wrong in the table or with a picture, before anything is judged.
    """
    if bool(config.images) != bool(config.requests):
        raise ValueError(
            "give the folder of the pictures and the table of what they are meant to show: fineface judge images=DIR "
            "requests=FILE.csv; or neither, to measure the judge itself on labelled images: fineface judge data=disfa"
        )
    if config.judge.kind is JudgeKind.none:
        others = ", ".join(f"judge={kind.value}" for kind in JudgeKind if kind is not JudgeKind.none)
        raise ValueError(f"judge=none measures nothing; choose one of {others}")
    find_judges(config.judge)
    if not config.images or not config.requests:
        return judge_the_judge(config)
    accelerator = launched()
    crew = make_crew(accelerator)
    images, requests = Path(config.images), Path(config.requests)
    media = crew.first(lambda: given_media(images, requests))
    judges = load_judges(config.judge, accelerator.device)
    fingerprint = hash_of([media.fingerprint, judges.fingerprint, *judges.aus], 64)
    out = _folder(config, media)
    _check(out, media)
    place = judged_folder(out, judges, fingerprint)
    metrics = finished(place, fingerprint)
    if metrics is None:
        with crew.entered(locked(out)):
            metrics = judge_media(
                media,
                judges,
                place,
                fingerprint=fingerprint,
                about=about(images, requests) | {"settings": {"judge": plain(config.judge)}},
                batch_size=config.evaluation.batch_size,
                crew=crew,
            )
    if crew.index == 0:
        if metrics["no_face_rate"] == 1:
            drawn = READS[config.judge.kind].drawn_only
            logger.warning(
                "judge=%s found no face in any picture, so that its readings say nothing%s",
                config.judge.kind.value,
                "; it reads drawn faces: for photographs judge=libreface" if drawn else "",
            )
        print_report(place)
    return metrics


def _folder(config: Config, media: Media) -> Path:
    if config.out:
        return Path(config.out)
    return Path(config.run.root) / f"judged-{media.folder.resolve().name[:NAMED]}-{media.fingerprint[:8]}"


def _check(out: Path, media: Media) -> None:
    """Raises ValueError where numbers of other pictures or requests lie in `out`."""
    for path in (out / METRICS, out / ROWS / ROWS_NOTE):
        if path.exists():
            check_same(read_json(path, "fingerprint").get("images_fingerprint") == media.fingerprint, out)
