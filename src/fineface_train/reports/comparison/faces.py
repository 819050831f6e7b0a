"""The faces of a sweep's arms: the same prompts and the same noise beside each other."""

from typing import Any

import pandas as pd
from PIL import Image

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.plan import Kind
from fineface_train.pictures import face_sheet
from fineface_train.reports.comparison.runs import Arms, firsts, rows_of
from fineface_train.reports.comparison.tables import short_name
from fineface_train.reports.faces import grid_row, shown_face
from fineface_train.reports.run_folder import RunFolder

PROMPTS, SETS = 4, 8
"""Prompts and sets of AUs shown where nothing was measured."""


def shown_prompts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the neutral faces, those of held-out prompts first."""
    neutrals = frame[frame["kind"] == Kind.neutral.value].sort_values(
        ["prompt_held_out", "prompt_index"], ascending=[False, True]
    )
    return neutrals.to_dict("records")


def strongest(run: RunFolder) -> dict[str, Image.Image]:
    """The neutral face, and each AU at its strongest, of the prompt that is shown first."""
    frame = rows_of(run)
    shown = frame[frame["prompt_index"] == shown_prompts(frame)[0]["prompt_index"]]
    ends = shown[
        (shown["kind"] == Kind.individual.value)
        & (shown[list(AU_KEYS)].max(axis=1) == shown[list(AU_KEYS)].to_numpy().max())
    ]
    faces = {"neutral": Image.open(run.evaluation / shown[shown["kind"] == Kind.neutral.value]["path"].iloc[0])}
    return faces | {one["commanded"]: Image.open(run.evaluation / one["path"]) for one in ends.to_dict("records")}


def arms_sheet(arms: Arms, *, side: int = 64) -> Image.Image:
    """A row for each arm: the same prompt and noise, neutral and each AU at its strongest."""
    columns = ["neutral", *AU_KEYS]
    faces = {arm: strongest(run) for arm, run in firsts(arms).items()}
    return face_sheet(
        [(short_name(arm), [found.get(name) for name in columns]) for arm, found in faces.items()], columns, side=side
    )


def face_tables(arms: Arms) -> pd.DataFrame:
    """A row for each arm: its name, and its strongest faces as pictures."""
    return pd.DataFrame([{"arm": arm} | strongest(run) for arm, run in firsts(arms).items()])


def face_blocks(arms: Arms, prompts: int) -> list[dict[str, Any]]:
    """Faces of some prompts: a row for each arm (its first seed), neutral and each AU at its strongest; the same noise
    in all."""
    blocks = []
    runs = firsts(arms)
    for prompt in shown_prompts(rows_of(next(iter(runs.values()))))[:prompts]:
        rows = [(short_name(arm), _cells(run, prompt["prompt_index"])) for arm, run in runs.items()]
        blocks.append({"prompt": prompt["prompt"], "held_out": bool(prompt["prompt_held_out"]), "rows": rows})
    return blocks


def _cells(run: RunFolder, prompt_index: int) -> list[Any]:
    """One prompt's neutral and strongest faces; none where the run has no such prompt."""
    frame = rows_of(run)
    own = frame[frame["prompt_index"] == prompt_index]
    neutral = own[own["kind"] == Kind.neutral.value].to_dict("records")
    return grid_row(run, neutral[0], own[own["kind"] == Kind.individual.value])["cells"] if neutral else []


def combinations(arms: Arms) -> dict[str, Any]:
    """Faces of the first prompt with some sets of AUs, a row for each arm."""
    runs = firsts(arms)
    frame = rows_of(next(iter(runs.values())))
    prompt = shown_prompts(frame)[0]
    sets = frame[(frame["kind"] == Kind.combination.value) & (frame["prompt_index"] == prompt["prompt_index"])]
    sets = sets.sort_values(["set_held_out", "set_index"], ascending=[False, True]).head(SETS)
    rows = []
    for arm, run in runs.items():
        by_id = rows_of(run).set_index("id", drop=False)
        rows.append((short_name(arm), [shown_face(run, by_id.loc[one].to_dict(), []) for one in sets["id"]]))
    named = [", ".join(f"{key} {row[key]:g}" for key in AU_KEYS if row[key]) for row in sets.to_dict("records")]
    return {"prompt": prompt["prompt"], "sets": named, "rows": rows}
