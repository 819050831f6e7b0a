"""What a sweep's arms have without a judge: losses over steps, and the error on images held out of training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fineface_train.evaluation.compare import compare_errors, is_significant
from fineface_train.files import flat
from fineface_train.loop.tracking import VALIDATION
from fineface_train.reports.charts.drawing import Chart
from fineface_train.reports.charts.histories import histories_chart
from fineface_train.reports.comparison.runs import Arms, mean_curves
from fineface_train.reports.training import grouped, in_words
from fineface_train.reports.words import interval, markdown_table, number

LOSSES = "losses.svg"


def loss_charts(arms: Arms) -> list[tuple[str, Chart]]:
    """(title, chart) of every loss over steps, a line for each arm: the mean of its seeds. The colours are the arms' in
    their order."""
    runs = [run for seeds in arms.values() for run in seeds.values()]
    names = list(dict.fromkeys(name for run in runs for name in run.curves if is_loss(name)))
    charts = []
    for name in sorted(names, key=lambda name: name.startswith(VALIDATION)):
        curves = mean_curves(arms, name)
        if curves:
            title = loss_title(name)
            charts.append((title, histories_chart([curves.get(arm, []) for arm in arms], title=f"{title}, by arm")))
    return charts


def is_loss(name: str) -> bool:
    """Whether a name of metrics.jsonl is what is minimised, by whichever player, or the error on held-out images."""
    return name in ("loss", f"{VALIDATION}.loss") or name.endswith("/loss")


def loss_title(name: str) -> str:
    """ "loss" as "Training loss", "validation.loss" as "Validation loss", "critic/loss" as "Critic loss"."""
    if name == "loss":
        return "Training loss"
    head = name.replace("/", ".").partition(".")[0]
    return f"{in_words(head)} {grouped(name)[1]}"


def validated(arms: Arms, reference: str) -> dict[str, Any] | None:
    """The error on held-out images of every arm that looked at the same ones as the reference (else as the first that
    looked), with its differences.

    None where none did.
    """
    looked = {
        arm: seeds
        for arm, runs in arms.items()
        if (seeds := {seed: run.validation for seed, run in runs.items() if _is_whole(run.validation)})
    }
    if not looked:
        return None
    base = reference if reference in looked else next(iter(looked))
    first = next(iter(looked[base].values()))
    alike = {
        arm: {
            seed: seen["errors"]
            for seed, seen in seeds.items()
            if (seen["subjects"], seen["step"]) == (first["subjects"], first["step"])
        }
        for arm, seeds in looked.items()
    }
    cells = compare_errors({arm: seeds for arm, seeds in alike.items() if seeds}, first["subjects"], base)
    for arm in cells:
        cells[arm]["groups"] = by_group([looked[arm][seed] for seed in alike[arm]])
    others = [arm for arm in arms if arm not in cells]
    return {
        "arms": cells,
        "reference": base,
        "others": others,
        "subjects": len(set(first["subjects"])),
        "examples": len(first["subjects"]),
    }


def _is_whole(validation: dict[str, Any]) -> bool:
    """Whether there was a validation, and every error was a number."""
    return "errors" in validation and None not in validation["errors"]


def by_group(validations: Sequence[dict[str, Any]]) -> dict[str, float]:
    """An arm's error in each group, such as "source.disfa" or "band.000-249": the mean of its seeds. Empty where a run
    was made by a version that did not tell groups apart."""
    each = [dict(flat({kind: one[kind] for kind in one.get("groups", {})})) for one in validations]
    return {name: float(np.mean([groups[name] for groups in each])) for name in each[0]} if all(each) else {}


def groups_markdown(cells: dict[str, dict[str, Any]]) -> list[str]:
    """A table of the groups of every arm that tells them apart; nothing where none does."""
    told = {arm: cell["groups"] for arm, cell in cells.items() if cell["groups"]}
    names = list(next(iter(told.values()))) if told else []
    rows = [[f"`{arm}`", *(number(of[name], 4) for name in names)] for arm, of in told.items()]
    header = ["arm", *(name.replace(".", " ", 1) for name in names)]
    said = "The same by source, and by band of timesteps (higher ones have more noise):\n"
    return [said, markdown_table([header, *rows])] if rows else []


def validation_markdown(validation: dict[str, Any] | None) -> list[str]:
    """The error on held-out images as Markdown."""
    if validation is None:
        return []
    rows = [["arm", "seeds", "validation loss", "seed by seed", f"less `{validation['reference']}`", "p"]]
    for arm, cell in validation["arms"].items():
        known = "difference" in cell
        difference = "–"
        if known:
            ends = f"{number(cell['difference_low'], 4)} to {number(cell['difference_high'], 4)}"
            difference = f"{number(cell['difference'], 4)} ({ends})"
        value = f"{number(cell['value'], 4)} ({interval(cell, 4)})"
        each = ", ".join(f"{seed}: {number(of_seed, 4)}" for seed, of_seed in cell["seeds"].items())
        p = f"{cell['p_holm']:.3f}" + ("" if is_significant(cell) else ", n.s.") if known else "–"
        difference = f"**{difference}**" if is_significant(cell) else difference
        rows.append([f"`{arm}`", str(len(cell["seeds"])), value, each, difference, p])
    told = (
        f"The error on {validation['examples']} examples of {validation['subjects']} subjects held out of training, "
        f"with the same noise and timesteps in every arm, labels as they are, not weighted. In brackets 95% intervals "
        f"over subjects; p from exchanging the arms within subjects, Holm-corrected over arms; **bold** where p < 0.05 "
        f"and the sign is the same in every one of two or more seeds. It says how well noise is removed, not whether a "
        f"face shows its AUs."
    )
    others = [f"Without one: {', '.join(validation['others'])}.\n"] if validation["others"] else []
    groups = groups_markdown(validation["arms"])
    return ["## Validation loss\n", told + "\n", markdown_table(rows), *groups, *others]
