"""The ToyFACS corpus: drawn faces with known AUs, written in DISFA's and AffectNet's own on-disk layouts.

No held-out identity and no held-out combination enters it. Labels are sparse and co-occur; every AU is the only active
one in at least 2% of the samples of each part. Files are the same bytes for the same config, wherever they are written.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from fineface_train.aus import AU_COUNT, AU_KEYS, AUS, MAX_INTENSITY
from fineface_train.files import new_folder
from fineface_train.toyfacs.combinations import SEEN_COMBINATIONS, holds_held_out
from fineface_train.toyfacs.config import DISFA_SUBJECTS, CorpusConfig
from fineface_train.toyfacs.faces import BACKGROUNDS, Face, all_identities, caption, is_held_out_identity, sample_face
from fineface_train.toyfacs.render import draw, draw_nuisances, to_uint8
from fineface_train.toyfacs.worlds import Expressions, sample_aus

STAMP = "corpus.json"
DRAWING = "17258b241e36af08"
"""Version of the drawing: another string wherever the same config would give other files (tests compare with golden
drawings), so that corpora drawn before are drawn anew."""
ALONE_FLOOR = 0.02
COMBINATION_SHARE = 0.16
FAULT_SHARE = 0.015
"""Share of AffectNet rows for each fault that a filter must find: no face, no photo, not real, too small."""
LEAST_AFFECTNET = 1.4
"""Weakest AU in the AffectNet part: the reader sets what it reads as less than 1 to 0, and the annotator's noise must
not decide that."""
CHUNK = 50
SEGMENT = 30
"""Frames for which a DISFA subject keeps shirt, background and caption."""
INVERSE_POWERS: dict[str, float] = {"AU1": 1 / 1.8, "AU4": 1 / 1.8, "AU15": 1 / 0.8, "AU17": 1 / 0.8, "AU20": 1 / 0.8}
"""Undo the powers of the AffectNet reader; written here on their own, so that reader and corpus check each other."""


def corpus_stamp(config: CorpusConfig) -> dict:
    """What a corpus depends on: the config, and the code that draws it."""
    return {"config": dataclasses.asdict(config), "code": DRAWING}


def read_stamp(root: Path) -> dict | None:
    """The stamp of the corpus at `root`; None if that is no corpus, {} if the stamp is damaged."""
    path = root / STAMP
    try:
        stamp = json.loads(path.read_text()) if path.is_file() else None
    except ValueError:
        return {} if {path.name for path in root.iterdir()} <= {STAMP, "disfa", "affectnet"} else None
    return stamp if isinstance(stamp, dict) and {"config", "code"} <= set(stamp) else None


def write_corpus(config: CorpusConfig, root: Path, progress: bool = True) -> None:
    """Draw the corpus into the new folder `root`: `disfa/`, `affectnet/` and `corpus.json`.

    It is written beside `root` and renamed at the end, so that an interrupted one is never taken as whole. A corpus
    that lies at `root` is replaced; raises ValueError if something else lies there. One process at a time: `prepare`
    locks the folder.
    """
    if root.exists() and read_stamp(root) is None:
        raise ValueError(
            f"{root}: exists and is no ToyFACS corpus (it has no {STAMP}); remove it or choose another data.root"
        )
    total = sum(_frame_counts(config)) + config.affectnet_images
    with (
        new_folder(root, sealed=False) as partial,
        tqdm(total=total, desc="drawing ToyFACS", unit="image", mininterval=1, disable=not progress) as bar,
    ):
        _write_disfa(config, partial / "disfa", bar)
        _write_affectnet(config, partial / "affectnet", bar)
        (partial / STAMP).write_text(json.dumps(corpus_stamp(config), indent=2) + "\n")


def sample_expressions(rng: np.random.Generator, count: int, *, integers: bool) -> np.ndarray:
    """Intensities (count, 12): 2% and more of each AU alone, seen combinations, and sparse expressions, in random
    order.

    `integers` rounds as DISFA's coders do; otherwise an AU is 0 or at least `LEAST_AFFECTNET`. None holds a held-out
    combination.
    """
    rows = [
        row for au in range(AU_COUNT) for row in _alone(rng, au, int(np.ceil(ALONE_FLOOR * count)), integers=integers)
    ]
    for index in range(round(COMBINATION_SHARE * count)):
        named = SEEN_COMBINATIONS[index % len(SEEN_COMBINATIONS)]
        # Other intensities than the evaluated ones too, and never so weak that an AU vanishes.
        rows.append(
            np.array(
                [
                    np.clip(named[key] + rng.normal(0, 0.75), LEAST_AFFECTNET, 5) if key in named else 0.0
                    for key in AU_KEYS
                ]
            )
        )
    while len(rows) < count:
        values = np.array(sample_aus(rng, Expressions.sparse))
        if not holds_held_out(_graded(values, integers=integers)):
            rows.append(values)
    return _graded(np.array(rows[:count])[rng.permutation(count)], integers=integers)


def _alone(rng: np.random.Generator, au: int, count: int, *, integers: bool) -> np.ndarray:
    values = np.zeros((count, AU_COUNT))
    values[:, au] = rng.integers(1, 6, count) if integers else rng.uniform(LEAST_AFFECTNET, 5, count)
    # One of each AU reaches its maximum: the reader stretches a column to its largest value.
    values[0, au] = MAX_INTENSITY
    return values


def _graded(values: np.ndarray, *, integers: bool) -> np.ndarray:
    """Intensities as the part's coder writes them."""
    if integers:
        return np.rint(values)
    return np.where(values < LEAST_AFFECTNET / 2, 0, np.maximum(values, LEAST_AFFECTNET))


def _seen_identities() -> list[tuple[str, ...]]:
    return [identity for identity in all_identities() if not is_held_out_identity(identity)]


def _draw_chunk(people: list[Face], aus: np.ndarray, nuisances: torch.Tensor, size: int) -> np.ndarray:
    """(N, size, size, 3) bytes."""
    return to_uint8(draw(people, torch.from_numpy(aus.astype(np.float32)), nuisances, size))


def _save(array: np.ndarray, path: Path) -> None:
    Image.fromarray(array).save(path, compress_level=1)


def _frame_counts(config: CorpusConfig) -> list[int]:
    return [config.disfa_frames - index % 2 for index in range(config.disfa_subjects)]


def _write_disfa(config: CorpusConfig, root: Path, bar: tqdm) -> None:
    """Videos' frames: each subject is one identity; labels count from 1, images from 0."""
    rng = np.random.default_rng((config.seed, 1))
    counts = _frame_counts(config)
    expressions = np.split(sample_expressions(rng, sum(counts), integers=True), np.cumsum(counts)[:-1])
    pool = _seen_identities()
    chosen = rng.permutation(len(pool))
    captions: list[pd.DataFrame] = []
    for index, (subject, count) in enumerate(zip(DISFA_SUBJECTS, counts, strict=False)):
        labels, images = root / "ActionUnit_Labels" / subject, root / "frames" / subject
        labels.mkdir(parents=True)
        images.mkdir(parents=True)
        frames = np.arange(1, count + 1)
        aus = expressions[index]
        for au, column in zip(AUS, aus.T, strict=True):
            lines = [f"{frame},{value:.0f}\n" for frame, value in zip(frames, column, strict=True)]
            (labels / f"{subject}_au{au}.txt").write_text("".join(lines))
        segments = [sample_face(rng, [pool[chosen[index]]]) for _ in range(0, count, SEGMENT)]
        texts = [caption(face, rng) for face in segments]
        captions.append(
            pd.DataFrame({"subject": subject, "frame": frames, "caption": [texts[i // SEGMENT] for i in range(count)]})
        )
        # A person's own proportions, and a head that moves.
        nuisances = 0.6 * draw_nuisances(rng, 1) + 0.4 * draw_nuisances(rng, count)
        for start in range(0, count, CHUNK):
            part = range(start, min(start + CHUNK, count))
            pictures = _draw_chunk(
                [segments[i // SEGMENT] for i in part],
                aus[part.start : part.stop],
                nuisances[part.start : part.stop],
                config.resolution,
            )
            for i, picture in zip(part, pictures, strict=True):
                _save(picture, images / f"{i:05d}.png")
            bar.update(len(part))
    pd.concat(captions).to_csv(root / "disfa_captions.csv", index=False)


def _write_affectnet(config: CorpusConfig, root: Path, bar: tqdm) -> None:
    """Single images of many identities, and the metadata that an automatic annotator would have written about them."""
    rng = np.random.default_rng((config.seed, 2))
    count, pool = config.affectnet_images, _seen_identities()
    aus = sample_expressions(rng, count, integers=False)
    people = [sample_face(rng, pool) for _ in range(count)]
    nuisances = draw_nuisances(rng, count)
    names = [
        f"{index // 500 + 1}/{hashlib.sha256(f'{config.seed}|{index}'.encode()).hexdigest()[:24]}.png"
        for index in range(count)
    ]
    fault = _faults(rng, aus)
    small = config.resolution * 3 // 4
    metadata = pd.DataFrame(
        {
            "ImageName": names,
            "HasFace": fault != "no face",
            "IsPhoto": fault != "no photo",
            "IsReal": fault != "not real",
            "ImageResolutionX": np.where(fault == "too small", small, config.resolution),
            "ImageResolutionY": config.resolution,
        }
    )
    metadata[[f"{key}_rec" for key in AU_KEYS]] = _annotate(rng, aus, config.annotator_noise)
    # Where it finds no face, an annotator writes nothing.
    metadata.loc[fault == "no face", list(metadata.columns[-AU_COUNT:])] = np.nan
    metadata["TextDescription"] = [caption(face, rng) for face in people]
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        pictures = _draw_chunk(people[start:stop], aus[start:stop], nuisances[start:stop], config.resolution)
        for index, picture in zip(range(start, stop), pictures, strict=True):
            path = root / "images" / names[index]
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(_spoil(picture, str(fault[index]), people[index], small), path)
        bar.update(stop - start)
    metadata.to_csv(root / "affecnet_metadata.csv", index=False, float_format="%.6f")


def _annotate(rng: np.random.Generator, aus: np.ndarray, noise: float) -> np.ndarray:
    """Truth (N, 12) in [0, 5] to the metadata's 0-1 scale: the inverse of the reader's powers, plus noise."""
    powers = np.array([INVERSE_POWERS.get(key, 1.0) for key in AU_KEYS])
    raw = (aus / MAX_INTENSITY) ** powers
    noisy = np.clip(raw + rng.normal(0, noise, raw.shape), 0, 1)
    # The first face that shows an AU alone at 5 anchors its column: without noise, its 0s are 0 and its 5 is 1.
    anchors = _anchors(aus)
    noisy[anchors] = raw[anchors]
    return noisy


def _anchors(aus: np.ndarray) -> np.ndarray:
    """Rows (12,) in which an AU is alone at its maximum, one per AU."""
    alone = (aus > 0).sum(axis=1) == 1
    return np.array([np.flatnonzero(alone & (aus[:, au] == MAX_INTENSITY))[0] for au in range(AU_COUNT)])


def _faults(rng: np.random.Generator, aus: np.ndarray) -> np.ndarray:
    """What is wrong with each AffectNet image, "" for most; at least one of each kind, and none on the anchors."""
    names = ("no face", "no photo", "not real", "too small")
    fault = np.full(len(aus), "", dtype=object)
    free = rng.permutation(np.setdiff1d(np.arange(len(aus)), _anchors(aus)))
    each = max(1, round(FAULT_SHARE * len(aus)))
    for index, name in enumerate(names):
        fault[free[index * each : (index + 1) * each]] = name
    return fault


def _spoil(picture: np.ndarray, fault: str, face: Face, small: int) -> np.ndarray:
    """The picture with its fault; the size of a small one is (resolution, small) and agrees with the metadata."""
    image = Image.fromarray(picture)
    if fault == "no face":
        image = Image.new("RGB", image.size, tuple(round(255 * part) for part in BACKGROUNDS[face.background]))
    elif fault == "no photo":
        image = ImageOps.posterize(image, 2)
    elif fault == "not real":
        image = ImageOps.invert(image)
    elif fault == "too small":
        image = image.resize((small, image.height))
    return np.asarray(image)
