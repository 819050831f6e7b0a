"""What a sweep's arms have without a judge: losses, the error on held-out images, and the same prompts and noise beside
each other.

`comparison` shows the first two beside its numbers; where no arm was judged, this is all, and the page says how to get
numbers.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from PIL import Image

from fineface_train.aus import AU_KEYS, AU_NAMES
from fineface_train.evaluation.compare import compare_errors, is_significant
from fineface_train.evaluation.metrics import nulled
from fineface_train.evaluation.plan import Kind
from fineface_train.files import write_json, write_text
from fineface_train.pictures import face_sheet, save_webp
from fineface_train.reports.charts import chart_sheet, curves_chart
from fineface_train.reports.comparison.markdown import FIGURES, compute_rows, short_name
from fineface_train.reports.comparison.runs import CURVES, Arms, Run, compute, made_with, mean_curves
from fineface_train.reports.run import command, grid_row, interval, markdown_table, number, render, shown_face

TEMPLATE, LOSSES = "comparison_pictures.html", "losses.svg"
PROMPTS, SETS, SIDE = 4, 8, 96
"""Shown of an evaluation; pixels of a face in faces.webp."""


def write_pictures_comparison(folder: Path, arms: Arms, reference: str, missing: list[tuple[str, str]]) -> Path:
    """Write comparison.json, report.md, figures/ and report.html of arms that were evaluated alike, and not judged;
    returns the page's path."""
    some = next(iter(next(iter(arms.values())).values())).metrics
    found = {
        "reference": reference,
        "judges": [],
        "protocol": some["protocol"],
        "settings": some.get("settings"),
        "seeds": {arm: sorted(runs) for arm, runs in arms.items()},
        "validation": validated(arms, reference),
        "compute": {arm: compute(runs) for arm, runs in arms.items()},
        "made_with": made_with(arms),
        "folders": {arm: {seed: str(run.folder) for seed, run in runs.items()} for arm, runs in arms.items()},
        "judge_it": [line for runs in arms.values() for run in runs.values() if (line := run.metrics.get("judge_it"))],
    }
    write_json(folder / "comparison.json", nulled(found))
    losses = loss_charts(arms)
    (folder / FIGURES).mkdir(exist_ok=True)
    if losses:
        write_text(folder / FIGURES / LOSSES, chart_sheet(losses, columns=2, legend=[short_name(arm) for arm in arms]))
    save_webp(arms_sheet(arms, side=SIDE), folder / FIGURES / "faces.webp")
    again = command("report", f"out={folder.absolute()}")
    write_text(folder / "report.md", _markdown(folder.resolve().name, found, missing, again, with_losses=bool(losses)))
    page = render(
        TEMPLATE,
        name=folder.resolve().name,
        found=found,
        aus=list(zip(AU_KEYS, AU_NAMES, strict=True)),
        losses=losses,
        loss_arms=[short_name(arm) for arm in arms],
        validation=found["validation"],
        reference=reference,
        significant=is_significant,
        faces=_faces(arms),
        combinations=_combinations(arms),
        again=again,
        missing=missing,
    )
    return write_text(folder / "report.html", page)


def pictures_tables(found: dict[str, Any], arms: Arms) -> dict[str, pd.DataFrame]:
    """For dashboards: every arm's error on held-out images, and its faces as pictures."""
    rows = [
        {"arm": arm} | {part: cell.get(part) for part in ("value", "low", "high", "difference", "p_holm", "same_sign")}
        for arm, cell in _cells(found)
    ]
    faces = [{"arm": arm} | strongest(next(iter(runs.values()))) for arm, runs in arms.items()]
    return {"validation": pd.DataFrame(rows), "faces": pd.DataFrame(faces)}


def _cells(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list((found["validation"] or {}).get("arms", {}).items())


def loss_charts(arms: Arms) -> list[tuple[str, Markup]]:
    """(title, chart) of the losses over steps, a line for each arm: the mean of its seeds. The colours are the arms' in
    their order."""
    charts = []
    for key, title in CURVES.items():
        curves = mean_curves(arms, key)
        if curves:
            charts.append(
                (
                    title,
                    curves_chart([curves.get(arm, []) for arm in arms], title=f"{title}, by arm", smooth=key == "loss"),
                )
            )
    return charts


def validated(arms: Arms, reference: str) -> dict[str, Any] | None:
    """The error on held-out images of every arm that looked at the same ones as the reference (else as the first that
    looked), with its differences.

    None where none did.
    """
    looked = {
        arm: seeds
        for arm, runs in arms.items()
        if (seeds := {seed: run.validation for seed, run in runs.items() if run.validation})
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
    others = [arm for arm in arms if arm not in cells]
    return {
        "arms": cells,
        "reference": base,
        "others": others,
        "subjects": len(set(first["subjects"])),
        "examples": len(first["subjects"]),
    }


def strongest(run: Run, prompt_index: int | None = None) -> dict[str, Image.Image]:
    """One prompt's neutral, and each AU at its strongest; by default of the prompt that is shown first."""
    wanted = shown_prompt(run.frame)["prompt_index"] if prompt_index is None else prompt_index
    shown = run.frame[run.frame["prompt_index"] == wanted]
    ends = shown[
        (shown["kind"] == Kind.individual.value)
        & (shown[list(AU_KEYS)].max(axis=1) == shown[list(AU_KEYS)].to_numpy().max())
    ]
    faces = {"neutral": Image.open(run.evaluation / shown[shown["kind"] == Kind.neutral.value]["path"].iloc[0])}
    return faces | {one["commanded"]: Image.open(run.evaluation / one["path"]) for one in ends.to_dict("records")}


def arms_sheet(arms: Arms, *, side: int = 64) -> Image.Image:
    """A row for each arm: the same prompt and noise, neutral and each AU at its strongest."""
    columns = ["neutral", *AU_KEYS]
    faces = {arm: strongest(next(iter(runs.values()))) for arm, runs in arms.items()}
    return face_sheet(
        [(short_name(arm), [found.get(name) for name in columns]) for arm, found in faces.items()], columns, side=side
    )


def shown_prompt(frame: pd.DataFrame) -> dict[str, Any]:
    """The neutral of the first held-out prompt, or of the first."""
    return _shown_prompts(frame)[0]


def _shown_prompts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The neutrals, of held-out prompts first."""
    neutrals = frame[frame["kind"] == Kind.neutral.value].sort_values(
        ["prompt_held_out", "prompt_index"], ascending=[False, True]
    )
    return neutrals.to_dict("records")


def _faces(arms: Arms) -> list[dict[str, Any]]:
    """Faces of some prompts: a row for each arm (its first seed), neutral and each AU at its strongest; the same noise
    in all."""
    blocks = []
    firsts = {arm: next(iter(runs.values())) for arm, runs in arms.items()}
    for prompt in _shown_prompts(next(iter(firsts.values())).frame)[:PROMPTS]:
        rows = []
        for arm, run in firsts.items():
            of_prompt = run.frame[run.frame["prompt_index"] == prompt["prompt_index"]]
            neutral = of_prompt[of_prompt["kind"] == Kind.neutral.value].iloc[0].to_dict()
            rows.append(
                (
                    short_name(arm),
                    grid_row(run.evaluation, "", neutral, of_prompt[of_prompt["kind"] == Kind.individual.value])[
                        "cells"
                    ],
                )
            )
        blocks.append({"prompt": prompt["prompt"], "held_out": bool(prompt["prompt_held_out"]), "rows": rows})
    return blocks


def _combinations(arms: Arms) -> dict[str, Any]:
    """Faces of the first prompt with some sets of AUs, a row for each arm."""
    firsts = {arm: next(iter(runs.values())) for arm, runs in arms.items()}
    frame = next(iter(firsts.values())).frame
    prompt = shown_prompt(frame)
    sets = frame[(frame["kind"] == Kind.combination.value) & (frame["prompt_index"] == prompt["prompt_index"])]
    sets = sets.sort_values(["set_held_out", "set_index"], ascending=[False, True]).head(SETS)
    rows = []
    for arm, run in firsts.items():
        by_id = run.frame.set_index("id", drop=False)
        rows.append(
            (short_name(arm), [shown_face(run.evaluation, "", by_id.loc[one].to_dict(), []) for one in sets["id"]])
        )
    named = [", ".join(f"{key} {row[key]:g}" for key in AU_KEYS if row[key]) for row in sets.to_dict("records")]
    return {"prompt": prompt["prompt"], "sets": named, "rows": rows}


def _markdown(
    name: str, found: dict[str, Any], missing: list[tuple[str, str]], again: str, *, with_losses: bool
) -> str:
    """report.md; `again` is the command that writes it anew."""
    parts = [
        f"# {name}\n",
        f"Protocol {found['protocol']}, not judged (judge=none): no AU was measured. Below: losses, the error on "
        f"held-out images, and pictures.\n",
        *validation_markdown(found["validation"]),
        "## Pictures\n",
    ]
    parts += (
        [f"Over optimiser steps, the mean of each arm's seeds.\n\n![losses]({FIGURES}/{LOSSES})\n"]
        if with_losses
        else []
    )
    parts += [
        "One prompt, one starting noise, the first seed of every arm: neutral, and each AU at its "
        "strongest.\n\n![faces](figures/faces.webp)\n"
    ]
    parts += ["## Compute\n", markdown_table(compute_rows(found))]
    parts += [f"Trained on {found['made_with']}.\n"] if found["made_with"] else []
    parts += [
        "## Numbers\n",
        "These read the pictures that are there, and make none again; the last writes this comparison anew.\n",
    ]
    parts += [f"    {line}" for line in (*found["judge_it"], again)]
    return "\n".join([*parts, *(f"- {arm}: {why}\n" for arm, why in missing)]) + "\n"


def validation_markdown(validation: dict[str, Any] | None) -> list[str]:
    """The error on held-out images as Markdown."""
    if validation is None:
        return []
    rows = [["arm", "seeds", "validation loss", "seed by seed", f"less `{validation['reference']}`", "p"]]
    for arm, cell in validation["arms"].items():
        known = "difference" in cell
        difference = (
            f"{number(cell['difference'], 4)} ({number(cell['difference_low'], 4)} to "
            f"{number(cell['difference_high'], 4)})"
            if known
            else "–"
        )
        value = f"{number(cell['value'], 4)} ({interval(cell, 4)})"
        each = ", ".join(f"{seed}: {number(of_seed, 4)}" for seed, of_seed in cell["seeds"].items())
        p = f"{cell['p_holm']:.3f}" + ("" if is_significant(cell) else ", n.s.") if known else "–"
        rows.append(
            [
                f"`{arm}`",
                str(len(cell["seeds"])),
                value,
                each,
                f"**{difference}**" if is_significant(cell) else difference,
                p,
            ]
        )
    told = (
        f"The error on {validation['examples']} examples of {validation['subjects']} subjects held out of training, "
        f"with the same noise and timesteps in "
        "every arm, labels as they are, not weighted. In brackets 95% intervals over subjects; p from exchanging the "
        "arms within subjects, "
        "Holm-corrected over arms; **bold** where p < 0.05 and the sign is the same in every one of two or more seeds. "
        "It says how well noise is "
        "removed, not whether a face shows its AUs."
    )
    others = [f"Without one: {', '.join(validation['others'])}.\n"] if validation["others"] else []
    return ["## Validation loss\n", told + "\n", markdown_table(rows), *others]
