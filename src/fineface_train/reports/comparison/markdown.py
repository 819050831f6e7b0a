"""A comparison of a sweep's arms as Markdown tables: report.md."""

import itertools
from typing import Any

import numpy as np

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.compare import is_significant
from fineface_train.evaluation.plan import Kind
from fineface_train.reports.run import METRIC_NAMES, interval, markdown_table, number

SHOWN = ("au_mse_active", "au_mse_mean", "clip_i", "slope", "rank_correlation", "leakage", "attributes", "identity")
"""Those of `METRIC_NAMES` in the tables, in their order."""
SUBSET_METRIC = {"individual": "au_mse_active", "combination": "au_mse_mean"}
KINDS = {Kind.individual: "One AU at a time", Kind.combination: "Combinations of AUs"}

FIGURES = "figures"
"""The folder of the pictures, beside report.md."""


def short_name(arm: str) -> str:
    """An arm without the keys, where they are plain: "res_mlp64" for "encoder=res_mlp64"."""
    return " ".join(part.partition("=")[2] or part for part in arm.split()) or "arm"


def comparison_markdown(name: str, found: dict[str, Any], missing: list[tuple[str, str]]) -> str:
    """What a comparison found, as report.md; `missing`: the arms that are not in it, and why."""
    who = "held-out identities (combinations: held-out sets too)" if found["subset"] == "held_out" else "all prompts"
    all_seeds = {arm: ", ".join(map(str, seeds)) for arm, seeds in found["seeds"].items()}
    seeds = (
        next(iter(all_seeds.values()))
        if len(set(all_seeds.values())) == 1
        else "; ".join(f"{arm} {text}" for arm, text in all_seeds.items())
    )
    parts = [
        f"# {name}\n",
        f"Judge {found['judges'][0]}, protocol {found['protocol']}, {who}, seeds {seeds}.",
        "In brackets 95% intervals over prompts, each averaged over seeds.",
        f"Differences are to `{found['reference']}`, paired; p from exchanging the arms within prompts, Holm-corrected "
        f"over arms;",
        "**bold** where p < 0.05 and the sign is the same in every one of two or more seeds, n.s. where not.",
        f"With {found['prompts']} prompts no p can be below {found['smallest_p']:.3g}, before the correction.\n",
    ]
    if found["judge_wrote_labels"]:
        parts.append(
            "**The judge is the label tool**: it wrote AU labels that training used, so its numbers are kinder than an "
            "independent judge's.\n"
        )
    for kind, title in KINDS.items():
        parts += [
            f"## {title}\n",
            markdown_table(_value_rows(found, kind)),
            markdown_table(_difference_rows(found, kind)),
        ]
    parts += [
        "## Pictures\n",
        "Every arm's numbers with their intervals; dashed: true drawings.\n\n![values](figures/values.svg)\n",
        "One prompt, one starting noise, the first seed of every arm: neutral, and each AU at its "
        "strongest.\n\n![faces](figures/faces.webp)\n",
        "What was measured over what was asked for, of each AU alone; dashed: as "
        "asked.\n\n![responses](figures/responses.svg)\n",
        "Leakage: slope of each measured AU (column) over each requested AU "
        "(row).\n\n![leakage](figures/leakage.svg)\n",
        "AU error against CLIP-I: down is better control, at an equal CLIP-I.\n\n![AU error against "
        "CLIP-I](figures/trade_off.svg)\n",
        *equal_clip_i(found),
        "## AU by AU\n",
        "Slope of the AU alone, then its rank correlation, each with its 95% interval.\n",
        markdown_table(_au_rows(found, "slope")),
        markdown_table(_au_rows(found, "rank_correlation")),
    ]
    parts += ["## Seen against held out\n", markdown_table(_subset_rows(found))]
    if found["claims"]:
        rows = [["claim of the paper", "paper's difference", "ours", "p", "here"]]
        for claim in found["claims"]:
            order = "above" if claim["paper"] > 0 else "below"
            numbers = [number(claim["paper"]), number(claim["difference"], 3), number(claim["p_holm"], 3)]
            rows.append(
                [
                    f"{kind_name(claim)}: {short_name(claim['arm'])} {order} {short_name(found['reference'])}",
                    *numbers,
                    claim["outcome"],
                ]
            )
        parts += ["## The paper's orderings\n", markdown_table(rows)]
    parts += ["## Compute\n", markdown_table(compute_rows(found))]
    parts += [f"Trained on {found['made_with']}.\n"] if found["made_with"] else []
    parts += [f"- {arm}: {why}\n" for arm, why in missing]
    return "\n".join(parts)


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


def kind_name(claim: dict[str, Any]) -> str:
    """What a claim is about, in words."""
    return f"{METRIC_NAMES[claim['metric']][0]}, {'single AUs' if claim['kind'] == 'individual' else 'combinations'}"


def _value_rows(found: dict[str, Any], kind: str) -> list[list[str]]:
    second = found["judges"][1] if len(found["judges"]) > 1 else None
    paper = found["paper"]
    rows = [
        [
            "arm",
            *(METRIC_NAMES[name][0] for name in SHOWN),
            *([f"AU error, {second}"] if second else []),
            *(["paper: AU error", "paper: CLIP-I"] if paper else []),
        ]
    ]
    for arm, cells in found["numbers"][kind].items():
        row = [f"`{arm}`", *(f"{number(cells[name]['value'])} ({interval(cells[name])})" for name in SHOWN)]
        row += [number(found["second_judge"][arm][kind]["au_mse_active"])] if second else []
        theirs = (
            [
                paper[arm][column]
                for column in (
                    ("au_error", "clip_i") if kind == "individual" else ("combination_au_error", "combination_clip_i")
                )
            ]
            if arm in paper
            else [None] * 2
        )
        rows.append(row + ([number(value) for value in theirs] if paper else []))
    empty = [""] * (len(rows[0]) - 1 - len(SHOWN))
    rows.append(["always-zero judge", *(number(found["always_zero"][kind][name]) for name in SHOWN), *empty])
    if found["ceiling"][kind]["clip_i"] is not None:
        rows.append(["true drawings", *(number(found["ceiling"][kind][name]) for name in SHOWN), *empty])
    return rows


def _au_rows(found: dict[str, Any], metric: str) -> list[list[str]]:
    rows = [[METRIC_NAMES[metric][0], *AU_KEYS]]
    for arm, values in found["per_au"].items():
        cells = [values[key] for key in AU_KEYS]
        rows.append(
            [
                f"`{arm}`",
                *(
                    f"{number(cell[metric])} ({number(cell[f'{metric}_low'])} to {number(cell[f'{metric}_high'])})"
                    for cell in cells
                ),
            ]
        )
    return rows


def _subset_rows(found: dict[str, Any]) -> list[list[str]]:
    """The AU error of every subset: of the commanded AU for single AUs, of all 12 for combinations."""
    arms = list(found["seeds"])
    rows = [["AU error", *(f"`{arm}`" for arm in arms)]]
    for kind, subsets in found["subsets"].items():
        for name, cells in subsets.items():
            chosen = [cells[arm][SUBSET_METRIC[kind]] for arm in arms]
            rows.append(
                [
                    f"{kind}: {name.replace('_', ' ')}",
                    *(f"{number(cell['value'])} ({interval(cell)})" for cell in chosen),
                ]
            )
    return rows


def _difference_rows(found: dict[str, Any], kind: str) -> list[list[str]]:
    rows = [[f"less `{found['reference']}`", *(METRIC_NAMES[name][0] for name in SHOWN)]]
    for arm, cells in found["numbers"][kind].items():
        if arm != found["reference"]:
            rows.append([f"`{arm}`", *(_difference_cell(cells[name]) for name in SHOWN)])
    return rows


def _difference_cell(cell: dict[str, Any]) -> str:
    if not np.isfinite(cell.get("p_holm", np.nan)):
        return "–"
    text = (
        f"{number(cell['difference'], 3)} ({number(cell['difference_low'], 3)} to "
        f"{number(cell['difference_high'], 3)}), p {cell['p_holm']:.3f}"
    )
    return f"**{text}**" if is_significant(cell) else f"{text}, n.s."


def equal_clip_i(found: dict[str, Any]) -> list[str]:
    """Tables of the least AU error that every arm reaches at a CLIP-I, over the adapter scales and guidances that were
    tried; none where none were."""
    arms = found["trade_off"]
    if not any(arms.values()):
        return []
    parts = [
        "## At equal CLIP-I\n",
        "The least AU error that an arm reaches with at least this CLIP-I, over the adapter scales and guidances that "
        "were tried (joined by lines;",
        "quick protocol, first seed); – where it never keeps so much.\n",
    ]
    for kind, title in KINDS.items():
        metric = SUBSET_METRIC[kind.value]
        curves = {
            arm: [
                [(point[kind.value]["clip_i"], point[kind.value][metric]) for point in swept(points, what)]
                for what in ("scale", "guidance")
            ]
            for arm, points in arms.items()
        }
        reached = [clip_i for lines in curves.values() for line in lines for clip_i, _ in line]
        levels = [level for level in np.arange(0.95, 0.0, -0.05) if min(reached) < level < max(reached)]
        rows = [[f"{title}: {METRIC_NAMES[metric][0]}", *(f"CLIP-I {level:.2f}" for level in levels)]]
        rows += [
            [f"`{arm}`", *(number(least_error(lines, level)) for level in levels)] for arm, lines in curves.items()
        ]
        parts.append(markdown_table(rows))
    return parts


def swept(points: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """Of an arm's trade-off points those of a sweep over "scale" or "guidance", in its order."""
    chosen = [point for point in points if (point["scale"] is None) == (what == "guidance")]
    return sorted(chosen, key=lambda point: float(point[what]))


def least_error(lines: list[list[tuple[float, float]]], clip_i: float) -> float | None:
    """The least error on `lines` of (CLIP-I, error) points, joined in their order, where CLIP-I is at least `clip_i`;
    None where it never is."""
    found = []
    for line in lines:
        found += [error for kept, error in line if kept >= clip_i]
        for (kept, error), (next_kept, next_error) in itertools.pairwise(line):
            if (kept - clip_i) * (next_kept - clip_i) < 0:  # crosses the level between two points
                found.append(error + (next_error - error) * (clip_i - kept) / (next_kept - kept))
    return min(found, default=None)
