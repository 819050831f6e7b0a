"""Rows of a sample table that somebody should look at, by simple rules that are told with each row."""

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from fineface_train.aus import AU_KEYS, format_aus
from fineface_train.data.inspection.looks import ALIKE, lookalikes
from fineface_train.data.table import SampleTable

SMALL, BLURRED = 0.5, 0.1
"""Share of the median of an image's source: shorter side, sharpness."""
DARK, BRIGHT = 30, 225
"""Mean brightness, of 255."""
FEW_WORDS = 3
STRONG, MANY = 4.5, 4
"""An AU counts as strong from this intensity; a face with so many of them is suspicious."""
RARE, EXPECTED = 0.2, 5
"""Two AUs are rarely together: less often than this share of what chance would give, where chance would give so many
rows."""
EXAMPLES = 10
LABELS_DIFFER = 2.0
"""In an AU, from this difference of intensities."""
NOT_A_PHOTO = re.compile(
    r"\b(?:cartoon|anime|animated|animation|comic|drawing|drawn|illustration|painting|painted|sketch|statue|sculpture|doll|mannequin|puppet|emoji|logo|collage)s?\b",
    re.IGNORECASE,
)
SMILE = re.compile(r"\b(?:smil(?:e|es|ing)|grin(?:s|ning)?|laugh(?:s|ing)?)\b", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """One rule and what it found."""

    name: str
    rule: str
    count: int
    """Numbers of rows, or of pairs of rows where they are suspicious together."""
    examples: list[tuple[tuple[int, ...], str]]
    """The `EXAMPLES` most suspicious, or some by chance where none is more so: row, or pair of rows, of the table, and
    why."""


def suspicions(table: SampleTable, looks: pd.DataFrame, contents: Sequence[str]) -> list[Suspicion]:
    """What each rule finds in `table`, of whose images `looks` tells (`image_looks`) and `contents` (SHA-256 of each
    file), in the same order."""
    frame, aus, rng = table.frame, table.aus(), np.random.default_rng(0)
    good = (looks["fault"] == "").to_numpy()
    captions = frame["caption"].astype(str)
    side = np.minimum(looks["width"], looks["height"]).to_numpy(dtype=float)
    bright, sharp = (looks[name].to_numpy(dtype=float) for name in ("brightness", "sharpness"))
    side_share, sharp_share = (_of_median(values, frame["source"], good) for values in (side, sharp))
    words = captions.str.split().str.len().to_numpy()
    strong = (aus >= STRONG).sum(axis=1)
    rare, pair = _rarest_pair(aus)
    no_photo, smile = captions.str.contains(NOT_A_PHOTO).to_numpy(), captions.str.contains(SMILE).to_numpy()
    no_smile = smile & (aus[:, AU_KEYS.index("AU12")] == 0)

    def rule(
        name: str, words: str, which: np.ndarray, why: Callable[[int], str], badness: np.ndarray | None = None
    ) -> Suspicion:
        rows = np.flatnonzero(which)
        worst = rng.permutation(rows) if badness is None else rows[np.argsort(-badness[rows], kind="stable")]
        return Suspicion(name, words, len(rows), [((int(row),), why(row)) for row in worst[:EXAMPLES]])

    return [
        rule("Cannot be read", "the image file cannot be decoded", ~good, lambda row: str(looks["fault"].iloc[row])),
        _one_file(table, contents),
        *_alike(table, looks),
        rule(
            "Not a photograph",
            "the caption has a word such as cartoon, drawing, statue or doll",
            no_photo,
            lambda row: captions.iloc[row],
        ),
        rule(
            "A smile without AU12",
            "the caption tells of a smile or a laugh, and AU12 is 0",
            no_smile,
            lambda row: captions.iloc[row],
        ),
        rule(
            "AUs that do not go together",
            f"two AUs that are together in less than {RARE:g} of the rows that chance would give them, which are "
            f"{EXPECTED} at least",
            rare < RARE,
            lambda row: f"{pair[row]}: {rare[row]:.2f} of chance",
            -rare,
        ),
        rule(
            "Many strong AUs",
            f"{MANY} or more AUs at {STRONG:g} or more",
            strong >= MANY,
            lambda row: f"{strong[row]} AUs",
            strong,
        ),
        rule(
            "Small",
            f"the shorter side is under {SMALL:g} of the source's median",
            good & (side_share < SMALL),
            lambda row: f"{looks['width'].iloc[row]} x {looks['height'].iloc[row]} pixels",
            -side_share,
        ),
        rule(
            "Dark",
            f"mean brightness is under {DARK} of 255",
            good & (bright < DARK),
            lambda row: f"brightness {bright[row]:.0f}",
            -bright,
        ),
        rule(
            "Bright",
            f"mean brightness is over {BRIGHT} of 255",
            good & (bright > BRIGHT),
            lambda row: f"brightness {bright[row]:.0f}",
            bright,
        ),
        rule(
            "Blurred",
            f"sharpness (variance of the Laplacian) is under {BLURRED:g} of the source's median",
            good & (sharp_share < BLURRED),
            lambda row: f"sharpness {sharp_share[row]:.3f} of the median",
            -sharp_share,
        ),
        rule(
            "Hardly a caption",
            f"fewer than {FEW_WORDS} words",
            words < FEW_WORDS,
            lambda row: f"“{captions.iloc[row]}”",
            -words,
        ),
    ]


def _of_median(values: np.ndarray, sources: pd.Series, good: np.ndarray) -> np.ndarray:
    """Each value (N,) over the median of the good ones of its source."""
    medians = pd.Series(np.where(good, values, np.nan)).groupby(sources.to_numpy()).transform("median").to_numpy()
    return values / np.where(medians > 0, medians, 1)


def _rarest_pair(aus: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """For each row (N, 12), its rarest pair of AUs: the number of rows with both over what chance would give
    (infinite without two), their names."""
    shown = (aus > 0).astype(np.float64)
    often, both = shown.sum(axis=0), shown.T @ shown
    chance = np.outer(often, often) / max(1, len(aus))
    lift = np.where(chance >= EXPECTED, both / np.maximum(chance, 1e-9), np.inf)
    rarest, names = np.full(len(aus), np.inf), [""] * len(aus)
    for one in range(len(AU_KEYS)):
        for two in range(one):
            rows = np.flatnonzero((shown[:, one] > 0) & (shown[:, two] > 0) & (lift[one, two] < rarest))
            rarest[rows] = lift[one, two]
            for row in rows:
                names[row] = f"{AU_KEYS[two]} with {AU_KEYS[one]}"
    return rarest, names


def _one_file(table: SampleTable, contents: Sequence[str]) -> Suspicion:
    """Files that are the same byte for byte and are told to show something else: each such row with the first of that
    file, unlike AUs first."""
    frame, aus = table.frame, table.aus()
    first: dict[str, int] = {}
    pairs = [(first[digest], row) for row, digest in enumerate(contents) if first.setdefault(digest, row) != row]

    def told(one: int, other: int) -> list[str]:
        texts = [(_shown(aus[one]), _shown(aus[other]))] if not np.array_equal(aus[one], aus[other]) else []
        cells = (
            tuple(str(frame[column].iloc[row]) for row in (one, other)) for column in ("split", "subject", "caption")
        )
        # Sources whose images are each a subject of its own do not say that two are two people.
        named = [
            (a, b) for a, b in cells if a != b and (a, b) != (str(frame["id"].iloc[one]), str(frame["id"].iloc[other]))
        ]
        return [f"{a} / {b}" for a, b in [*texts, *named]]

    found = [(pair, reasons) for pair in pairs if (reasons := told(*pair))]
    found.sort(key=lambda one: -float(np.abs(aus[one[0][0]] - aus[one[0][1]]).max()))
    words = "the same bytes, and other AUs, captions, subjects, or one is trained on and the other is not"
    return Suspicion(
        "One file, two labels", words, len(found), [(pair, "; ".join(reasons)) for pair, reasons in found[:EXAMPLES]]
    )


def _shown(aus: np.ndarray) -> str:
    return format_aus(aus.round(1).tolist()).replace(",", " ")


def _alike(table: SampleTable, looks: pd.DataFrame) -> list[Suspicion]:
    """Images that look alike though they are of different subjects: all, those with different labels, those of which
    one is trained on and one is not."""
    frame, aus = table.frame, table.aus()
    pairs = lookalikes(looks, frame["subject"].tolist())
    one, two = pairs.T
    difference = np.abs(aus[one] - aus[two]).max(axis=1, initial=0)
    training = (frame["split"] == "train").to_numpy()
    differ = np.flatnonzero(difference >= LABELS_DIFFER)
    differ = differ[np.argsort(-difference[differ], kind="stable")]

    def rule(name: str, words: str, which: np.ndarray, why: Callable[[int], str]) -> Suspicion:
        examples: list[tuple[tuple[int, ...], str]] = [
            ((a, b), f"{why(a)} / {why(b)}") for a, b in pairs[which[:EXAMPLES]].tolist()
        ]
        return Suspicion(name, words, len(which), examples)

    alike = f"different subjects, at most {ALIKE} of 256 bits of a difference hash apart, the same colours"
    split = frame["split"].tolist()
    return [
        rule("Alike", alike, np.arange(len(pairs)), lambda row: str(frame["id"].iloc[row])),
        rule(
            "Alike, labels differ",
            f"so, and {LABELS_DIFFER:g} or more apart in an AU",
            differ,
            lambda row: _shown(aus[row]),
        ),
        rule(
            "Alike, one is trained on",
            "so, and the other is kept out of training",
            np.flatnonzero(training[one] != training[two]),
            lambda row: split[row],
        ),
    ]
