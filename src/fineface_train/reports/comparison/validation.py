"""The error on held-out images by source and band of timesteps, arm beside arm."""

from typing import Any

import numpy as np

from fineface_train.files import flat
from fineface_train.reports.comparison.runs import Run
from fineface_train.reports.run import markdown_table, number


def by_group(runs: dict[int, Run]) -> dict[str, float]:
    """An arm's error in each group, such as "source.disfa" or "band.000-249": the mean of its seeds. Empty where a run
    was made by a version that did not tell groups apart."""
    each = [
        dict(flat({kind: run.validation[kind] for kind in run.validation["groups"]}))
        for run in runs.values()
        if "groups" in run.validation
    ]
    return {name: float(np.mean([groups[name] for groups in each])) for name in each[0]} if each else {}


def groups_markdown(cells: dict[str, dict[str, Any]]) -> list[str]:
    """A table of the groups of every arm that tells the same ones as the first that does; nothing where none does."""
    told = {arm: cell["groups"] for arm, cell in cells.items() if cell.get("groups")}
    names = list(next(iter(told.values()))) if told else []
    rows = [[f"`{arm}`", *(number(of[name], 4) for name in names)] for arm, of in told.items() if list(of) == names]
    header = ["arm", *(name.replace(".", " ", 1) for name in names)]
    said = "The same by source, and by band of timesteps (more of them is more noise):\n"
    return [said, markdown_table([header, *rows])] if rows else []
