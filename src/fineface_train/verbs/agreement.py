"""`fineface judge data=NAME`: how well a judge reads the labels of real images, before it is believed.

out/agreement.json       ICC(3,1) and MAE by source and judge: over all AUs, per AU, per subject
out/readings.parquet     a row for each image: its labels and what the judges read
out/report.html report.md
out/rows/                rows of the batches that are read, until all are
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from fineface_train.aus import AU_KEYS
from fineface_train.config import Config, PicturesConfig
from fineface_train.data.config import Split
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.prepare import prepare
from fineface_train.data.table import SampleTable
from fineface_train.evaluation.agreement import agreement
from fineface_train.evaluation.judges.config import READS
from fineface_train.evaluation.judges.judges import Judges, load_judges
from fineface_train.evaluation.judging import gathered, read_media, remove_rows
from fineface_train.evaluation.media import ROWS, ROWS_NOTE, Media
from fineface_train.evaluation.plan import Kind
from fineface_train.files import hash_of, plain, read_json, replacing, write_json
from fineface_train.locks import locked, writable
from fineface_train.loop.accelerator import launched
from fineface_train.loop.processes import make_crew
from fineface_train.reports.agreement import write_agreement_report
from fineface_train.reports.run import judge_wrote_labels

logger = logging.getLogger(__name__)
AGREEMENT, READINGS = "agreement.json", "readings.parquet"


def judge_the_judge(config: PicturesConfig) -> dict[str, Any]:
    """Have the judge read the labelled images of one split, on all processes of a launch, and write how well it agrees;
    returns what agreement.json holds.

    Raises ValueError where the data has no such images, or where `out` holds another agreement.
    """
    accelerator = launched()
    crew = make_crew(accelerator)
    table = prepare(config.data, crew=crew)
    split, media = crew.first(lambda: _labelled(config, table))
    judges = load_judges(config.judge, accelerator.device)
    # Only AUs have labels: neither CLIP nor the attributes that a caption tells are of use.
    judges.clip = judges.attributes = None
    fingerprint = hash_of([media.fingerprint, judges.fingerprint, *judges.aus], 64)
    named = f"agreement-{config.data.name}-{split}-{config.judge.kind.value}-{fingerprint[:8]}"
    out = Path(config.out) if config.out else Path(config.run.root) / named
    crew.first(lambda: _check(out, fingerprint))
    if not crew.first(lambda: (out / AGREEMENT).is_file() and not (out / ROWS).exists()):
        with crew.entered(locked(out)):
            read_media(media, judges, out, fingerprint=fingerprint, batch_size=config.evaluation.batch_size, crew=crew)
            crew.first(lambda: _measure(config, media, judges, out, fingerprint, split))
    found: dict[str, Any] = crew.first(lambda: read_json(out / AGREEMENT, "sources"))
    if crew.index == 0:
        _tell(config, out, found)
    return found


def _labelled(config: PicturesConfig, table: SampleTable) -> tuple[str, Media]:
    """The images to read, and their split: `config.split`, else test where there are such, else validation."""
    there = table.frame["split"].value_counts()
    wanted = [config.split.value] if config.split is not None else [Split.test.value, Split.validation.value]
    split = next((one for one in wanted if there.get(one, 0)), None)
    if split is None:
        held = ", ".join(f"{count} {name}" for name, count in there.items())
        raise ValueError(
            f"split={' or '.join(wanted)}: data {config.data.name} has no such images (it has {held}); choose another "
            f"split, hold some out by data.<source>.validation_share, or choose a fold (data.disfa.fold)"
        )
    frame = table.frame[table.frame["split"] == split].reset_index(drop=True)
    contents = image_contents(frame["image"], Path(config.data.root) / INDEX)
    shows = (frame[list(AU_KEYS)] != 0).any(axis=1)
    kinds = np.where(shows, Kind.combination.value, Kind.neutral.value)
    frame = frame.rename(columns={"image": "path"}).assign(kind=kinds, neutral=None)
    told = frame[["id", "source", "subject", "aus_from", *AU_KEYS]].assign(contents=contents)
    return split, Media(Path(config.data.root).absolute(), frame, hash_of(told.to_numpy(object).tolist(), 64))


def _check(out: Path, fingerprint: str) -> None:
    """Raises ValueError where the agreement of another judge, or on other images, lies in `out`."""
    for path in (out / AGREEMENT, out / ROWS / ROWS_NOTE):
        if path.exists() and read_json(path, "fingerprint")["fingerprint"] != fingerprint:
            raise ValueError(
                f"out={out} holds the readings of another judge or of other images; choose another out folder or "
                f"delete this one"
            )


def _measure(config: Config, media: Media, judges: Judges, out: Path, fingerprint: str, split: str) -> None:
    frame, seconds = gathered(media, out)
    with replacing(out / READINGS) as partial:
        frame.drop(columns=["kind", "neutral", "caption", "caption_from"]).to_parquet(partial, index=False)
    sources = agreement(frame, list(judges.aus))
    for source, found in sources.items():
        labels = {"labels": [f"{source}: {who}" for who in found["labels_from"]]}
        for judge, part in found["judges"].items():
            part["wrote_labels"] = judge_wrote_labels(judge, labels)
    known = {"data": config.data.name, "split": split, "images": len(frame), "sources": sources}
    known |= {"settings": {"judge": plain(config.judge)}, "seconds": round(seconds, 1), "fingerprint": fingerprint}
    write_json(out / AGREEMENT, known)
    remove_rows(out)


def _tell(config: Config, out: Path, found: dict[str, Any]) -> None:
    for source, of in found["sources"].items():
        for judge, part in of["judges"].items():
            if part["wrote_labels"]:
                logger.warning(
                    "%s wrote the labels of %s itself (%s): its agreement with them says nothing of how good it is",
                    judge,
                    source,
                    ", ".join(of["labels_from"]),
                )
            if part["no_face_rate"] == 1:
                drawn = READS[config.judge.kind].drawn_only
                logger.warning(
                    "%s found no face in any image of %s, so that its readings say nothing%s",
                    judge,
                    source,
                    "; it reads drawn faces: for photographs judge=libreface" if drawn else "",
                )
    page = write_agreement_report(out, found) if writable(out) else out / "report.html"
    print((out / "report.md").read_text(encoding="utf-8"))
    print(f"report: {page}")
