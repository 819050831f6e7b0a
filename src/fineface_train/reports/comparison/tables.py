"""What the tables and charts of a comparison share: which metrics, in which order, and the arms' short names."""

from typing import Any

from fineface_train.evaluation.plan import Kind
from fineface_train.reports.words import METRIC_NAMES, number

SHOWN = ("au_mse_active", "au_mse_mean", "clip_i", "slope", "rank_correlation", "leakage", "attributes", "identity")
"""Those of `METRIC_NAMES` in the tables, in their order."""
SUBSET_METRIC = {"individual": "au_mse_active", "combination": "au_mse_mean"}
KINDS = {Kind.individual: "One AU at a time", Kind.combination: "Combinations of AUs"}
FIGURES = "figures"
"""The folder of the pictures, beside report.md."""


def short_name(arm: str) -> str:
    """An arm without the keys, where they are plain: "res_mlp64" for "encoder=res_mlp64"."""
    return " ".join(part.partition("=")[2] or part for part in arm.split()) or "arm"


def kind_name(claim: dict[str, Any]) -> str:
    """What a claim is about, in words."""
    return f"{METRIC_NAMES[claim['metric']][0]}, {'single AUs' if claim['kind'] == 'individual' else 'combinations'}"


def compute_rows(found: dict[str, Any]) -> list[list[str]]:
    """What every arm took, and the command that makes it."""
    rows = [["arm", "seeds", "steps", "trainable", "PFLOP", "training s", "evaluation s", "again"]]
    for arm, taken in found["compute"].items():
        cells = [
            len(found["seeds"][arm]),
            taken["steps"],
            f"{taken['trainable']:,}",
            number(taken["petaflop"], 3),
            round(taken["training_seconds"]),
            round(taken["evaluation_seconds"]),
        ]
        again = f"`{taken['again']} seed={','.join(map(str, found['seeds'][arm]))}`"
        rows.append([f"`{arm}`", *map(str, cells), again])
    return rows
