"""The shipped adapter, trained by the command line as anybody would."""

import json
import shutil
import subprocess
from pathlib import Path

from toyfacs_weights.stage import SHIPPED, record


def build_bundle(launcher: list[str], environment: dict[str, str]) -> None:
    """The shipped adapter: `fineface train experiment=toyfacs`, resumed or found finished, and its bundle copied
    here."""
    command = [*launcher, "-m", "fineface_train", "train", "experiment=toyfacs"]
    output = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
    run = Path(next(line.removeprefix("run: ") for line in output.splitlines() if line.startswith("run: ")))
    metrics, finished = (json.loads((run / name).read_text()) for name in ("metrics.json", "finished.json"))
    measured = {
        key: metrics["individual"][key]["value"]
        for key in ("slope", "au_mse_active", "au_mse_mean", "rank_correlation", "clip_i")
    }
    fault = _fault_of_bundle(metrics)
    if fault:
        raise SystemExit(f"bundle: {fault}; {run} was not copied")
    shutil.copytree(run / "bundle", SHIPPED / "bundle", dirs_exist_ok=True)
    record("bundle", measured | {"seconds": round(finished["training_seconds"]), "steps": finished["steps"]})


def _fault_of_bundle(metrics: dict) -> str | None:
    """What keeps an adapter from being shipped."""
    headline, per_au = metrics["individual"], metrics["per_au"].values()
    limits = {
        "mean slope under 0.85": headline["slope"]["value"] < 0.85,
        "an AU's slope under 0.5": min(au["slope"] for au in per_au) < 0.5,
        "au_mse_active over 15% of always-zero": headline["au_mse_active"]["value"]
        > 0.15 * headline["au_mse_active"]["always_zero"],
        "au_mse_mean over half of always-zero": headline["au_mse_mean"]["value"]
        > 0.5 * headline["au_mse_mean"]["always_zero"],
        "rank correlation under 0.9 for more than two AUs": sum(au["rank_correlation"] < 0.9 for au in per_au) > 2,
    }
    return ", ".join(limit for limit, broken in limits.items() if broken) or None
