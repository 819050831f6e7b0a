"""A run folder made from real drawings of the requested AUs, whose "measured" AUs are the requested ones, shrunk, plus
seeded noise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import spearmanr

from fineface_train.aus import AU_COUNT, AU_KEYS
from fineface_train.toyfacs.faces import all_identities, caption, is_held_out_identity, sample_face
from fineface_train.toyfacs.render import draw, draw_nuisances, grid, to_uint8

JUDGES = ("small_cnn", "wide_cnn")
SETS = (
    {"AU6": 1, "AU12": 4, "AU25": 4},
    {"AU4": 2, "AU15": 3, "AU17": 4},
    {"AU1": 3, "AU2": 3, "AU5": 3, "AU25": 3, "AU26": 3},
    {"AU6": 3, "AU12": 3},
)


def build_run(folder: Path, prompts: int = 2, intensities: tuple[int, ...] = (1, 5), seed: int = 0) -> Path:
    """Write every file of a finished, evaluated run into `folder`; the first prompt is seen, the others are held
    out."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / "samples").mkdir()
    frame = _evaluated_images(folder, rng, prompts, intensities)
    frame.to_parquet(folder / "images.parquet")
    _write_json(folder / "metrics.json", _metrics(frame))
    _write_training(folder, rng)
    (folder / "config.yaml").write_text(
        "seed: 0\nencoder:\n  name: per_au_tokens\ntrainer:\n  steps: 1000\n  batch_size: 32\n"
    )
    parts = [
        ("AU encoder", 21_000, 0, 0),
        ("adapter", 230_000, 0, 0),
        ("LoRA", 310_000, 0, 0),
        ("UNet", 0, 5_300_000, 0),
        ("VAE", 0, 600_000, 0),
    ]
    _write_json(
        folder / "audit.json",
        {"parts": [dict(zip(("part", "trainable", "frozen", "dead"), part, strict=True)) for part in parts]},
    )
    _write_json(
        folder / "provenance.json",
        {
            "versions": {"torch": "2.13.0", "diffusers": "0.42.1", "python": "3.11.7"},
            "machine": {"processor": "x86_64", "cores": 2},
            "git": "0123abc",
            "processes": 1,
            "device": "cpu",
        },
    )
    return folder


def _evaluated_images(
    folder: Path, rng: np.random.Generator, prompts: int, intensities: tuple[int, ...]
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for prompt_index in range(prompts):
        held_out = prompt_index > 0
        face = sample_face(
            rng, [identity for identity in all_identities() if is_held_out_identity(identity) == held_out]
        )
        text = caption(face, rng)
        requests: list[tuple[str, int, dict[str, float]]] = [("neutral", -1, {})]
        requests += [("individual", -1, {key: float(level)}) for key in AU_KEYS for level in intensities]
        requests += [
            ("combination", index, {key: float(level) for key, level in values.items()})
            for index, values in enumerate(SETS)
        ]
        aus = np.array([[values.get(key, 0.0) for key in AU_KEYS] for _, _, values in requests], np.float32)
        drawn = to_uint8(draw([face] * len(aus), torch.from_numpy(aus), draw_nuisances(rng, 1).expand(len(aus), -1)))
        for number, ((kind, set_index, values), vector, pixels) in enumerate(zip(requests, aus, drawn, strict=True)):
            path = f"images/{prompt_index:02d}_{number:03d}.png"
            Image.fromarray(pixels).save(folder / path)
            row = {
                "id": path,
                "kind": kind,
                "prompt": text,
                "prompt_index": prompt_index,
                "prompt_held_out": held_out,
                "set_index": set_index,
                "path": path,
            }
            row |= {
                "set_held_out": set_index in (0, 2),
                "commanded": "+".join(values),
                "seed": 100 + prompt_index,
                "clip_i": 1 - 0.01 * float(vector.sum()),
            }
            row |= dict(zip(AU_KEYS, map(float, vector), strict=True))
            for judge, gain in zip(JUDGES, (0.9, 0.85), strict=True):
                measured = gain * vector + 0.15 + rng.normal(0, 0.15, AU_COUNT)
                row |= {f"{judge}_{key}": float(value) for key, value in zip(AU_KEYS, measured, strict=True)} | {
                    f"{judge}_face": True
                }
            rows.append(row)
    return pd.DataFrame(rows)


def _metrics(frame: pd.DataFrame) -> dict[str, Any]:
    def requested(rows: pd.DataFrame) -> np.ndarray:
        return rows[list(AU_KEYS)].to_numpy()

    def measured(rows: pd.DataFrame, judge: str) -> np.ndarray:
        return rows[[f"{judge}_{key}" for key in AU_KEYS]].to_numpy()

    def entry(value: float, zero: float | None) -> dict[str, float | None]:
        return {"value": value, "low": value * 0.95, "high": value * 1.05, "always_zero": zero}

    def summary(rows: pd.DataFrame, judge: str) -> dict[str, Any]:
        asked, read = requested(rows), measured(rows, judge)
        error, zero, active = (asked - read) ** 2, asked**2, asked > 0
        return {
            "au_mse_mean": entry(error.mean(), zero.mean()),
            "au_mse_sum": entry(error.sum(1).mean(), zero.sum(1).mean()),
            "au_mse_active": entry(error[active].mean(), zero[active].mean()),
            "slope": entry(float(np.polyfit(asked.ravel(), read.ravel(), 1)[0]), None),
            "rank_correlation": entry(float(spearmanr(asked.ravel(), read.ravel())[0]), None),
            "leakage": entry(0.03, None),
            "clip_i": entry(rows["clip_i"].mean(), None),
        }

    def curve(key: str, function: Callable[[pd.Series], float]) -> list[float]:
        rows = frame[(frame["kind"] == "neutral") | (frame["commanded"] == key)]
        return [float(value) for value in rows.groupby(key)[f"{JUDGES[0]}_{key}"].apply(function)]

    def per_au(judge: str) -> dict[str, Any]:
        result = {}
        for column, key in enumerate(AU_KEYS):
            rows = frame[(frame["kind"] == "neutral") | (frame["commanded"] == key)]
            asked, read = requested(rows)[:, column], measured(rows, judge)[:, column]
            active = asked > 0
            values = {
                "slope": np.polyfit(asked, read, 1)[0],
                "rank_correlation": spearmanr(asked, read)[0],
                "au_mse_active": ((asked - read)[active] ** 2).mean(),
            }
            result[key] = {name: float(value) for name, value in values.items()} | {
                "zero_reading": float(read[~active].mean())
            }
        return result

    kinds = {kind: frame[(frame["kind"] == kind) & frame["prompt_held_out"]] for kind in ("individual", "combination")}
    neutral = measured(frame[frame["kind"] == "neutral"], JUDGES[0]).mean(0)
    strongest = [measured(frame[(frame["commanded"] == key) & (frame[key] == 5)], JUDGES[0]).mean(0) for key in AU_KEYS]
    levels = {
        key: sorted(frame[(frame["kind"] == "neutral") | (frame["commanded"] == key)][key].unique()) for key in AU_KEYS
    }
    return {
        "protocol": "quick",
        "bundle": "bundle",
        "first_judge": JUDGES[0],
        "subset": "held_out",
        **{kind: summary(rows, JUDGES[0]) for kind, rows in kinds.items()},
        "subsets": {
            "individual": {"held_out": summary(kinds["individual"], JUDGES[0])},
            "combination": {"seen_identity_seen_set": None},
        },
        "per_au": per_au(JUDGES[0]),
        "judges": {
            judge: {**{kind: summary(rows, judge) for kind, rows in kinds.items()}, "per_au": per_au(judge)}
            for judge in JUDGES
        },
        "judge_disagreement": {
            "first": JUDGES[0],
            "second": JUDGES[1],
            "mean_squared_difference": 0.052,
            "per_au": {"AU1": {"correlation": 0.9}},
        },
        "ceiling": {kind: {"clip_i": entry(0.8765, None)} for kind in kinds},
        "leakage_matrix": [[float(value) for value in (row - neutral) / 5] for row in strongest],
        "response_curve": {
            key: {
                "requested": [float(level) for level in levels[key]],
                "measured_mean": curve(key, pd.Series.mean),
                "low": [value - 0.3 for value in curve(key, pd.Series.mean)],
                "high": [value + 0.3 for value in curve(key, pd.Series.mean)],
            }
            for key in AU_KEYS
        },
        "no_face_rate": 0.004,
        "attributes": {"skin": 0.97, "hair": 0.98, "mean": 0.975},
        "images": len(frame),
        "seconds": 31.0,
    }


def _write_training(folder: Path, rng: np.random.Generator) -> None:
    lines = []
    for step in range(10, 1010, 10):
        loss, norm = 0.08 + 0.3 * np.exp(-step / 150) + rng.normal(0, 0.02), 0.4 + rng.gamma(2, 0.1)
        rate = 4e-3 * min(1, step / 100) * (1 + np.cos(np.pi * step / 1000)) / 2
        speed = 90 + rng.normal(0, 4)
        lines.append(
            {
                "step": step,
                "examples": 32 * step,
                "loss": loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                "examples_per_second": speed,
                "seconds": step / 3,
            }
        )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + json.dumps({"step": 1000, "evaluation": {"slope": 0.9}}) + "\n")
    face = [sample_face(rng)] * 13
    sheet = grid(
        draw(face, torch.cat([torch.zeros(1, 12), 5 * torch.eye(12)]), draw_nuisances(rng, 1).expand(13, -1)), 13
    )
    for step in (500, 1000):
        Image.fromarray(sheet).save(folder / "samples" / f"step_{step:06d}.png")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2))
