"""A comparison of a sweep's arms as Markdown tables: report.md."""

from typing import Any

import numpy as np

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.compare import is_significant
from fineface_train.reports.comparison.tables import KINDS, SHOWN, SUBSET_METRIC, compute_rows, kind_name, short_name
from fineface_train.reports.comparison.trade_off import equal_clip_i
from fineface_train.reports.comparison.words import control_rows
from fineface_train.reports.words import METRIC_NAMES, interval, markdown_table, number


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
    parts += ["## In words\n", markdown_table(control_rows(found))]
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
        "For each AU alone, what was measured over what was asked for; dashed: as "
        "asked.\n\n![responses](figures/responses.svg)\n",
        "Leakage: slope of each measured AU (column) over each requested AU "
        "(row).\n\n![leakage](figures/leakage.svg)\n",
        "AU error against CLIP-I: down is better control, at an equal CLIP-I.\n\n![AU error against "
        "CLIP-I](figures/trade_off.svg)\n",
        *equal_clip_i(found),
        "## AU by AU\n",
        "The slope of each AU alone, then its rank correlation, each with its 95% interval.\n",
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
    if found.get("nothing_done"):
        rows.append(["nothing done", *(number(found["nothing_done"][kind].get(name)) for name in SHOWN), *empty])
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
