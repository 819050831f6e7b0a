"""A bundle's config.json: how AUs enter, encoder, what was trained, and the base. Imports no torch."""

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

import fineface_train
from fineface_train.aus import AUS
from fineface_train.data.conditioning import ConditioningConfig, Entry
from fineface_train.methods.au_diffusion.config import EncoderConfig, EncoderName, FinetuneConfig, Trained

FORMAT = 3
"""1 knew the adapter only, 2 no more of the base than its name."""
CONFIG_FILE = "config.json"


@dataclasses.dataclass
class BundleConfig:
    """What config.json holds."""

    conditioning: ConditioningConfig
    encoder: EncoderConfig
    finetune: FinetuneConfig
    base_name: str
    base_fingerprints: dict[str, str]
    """Fingerprints of the UNet, rounded to "float16" and to "bfloat16"."""
    cross_attention_dim: int
    resolution: int
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Steps, seed, data and whatever else is worth telling; not read back."""
    base: dict[str, Any] | None = None
    """The base's config (`base.recorded`), from which `fineface` finds it again; None before format 3."""
    aus: tuple[int, ...] = AUS
    format: int = FORMAT
    code_version: str = fineface_train.__version__


def read_bundle_config(folder: Path) -> BundleConfig:
    """Read config.json; raises ValueError where the folder is no bundle, one of other AUs, or one that a newer version
    has written."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"bundle={folder}: no {CONFIG_FILE} there; a bundle is the folder bundle/ of a run")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        newer = _beyond_us(raw)
        if newer:
            raise ValueError(
                f"{newer}, which this version of fineface-train ({fineface_train.__version__}) does not know; the "
                f"bundle was written by version "
                f"{raw.get('code_version', 'unknown')}. Update yours (in its checkout: git pull, then bash "
                f"scripts/setup.sh)"
            )
        conditioning, encoder, finetune = raw.pop("conditioning", {}), raw.pop("encoder"), raw.pop("finetune")
        if tuple(raw["aus"]) != AUS:
            raise ValueError(f"it was trained for AUs {raw['aus']}, this program uses {list(AUS)}")
        conditioning["enters"] = Entry(conditioning.get("enters", "adapter"))
        encoder["name"] = EncoderName(encoder["name"])
        finetune["train"] = Trained(finetune.get("train", "lora"))
        parts: dict[str, Any] = {
            "conditioning": ConditioningConfig(**conditioning),
            "encoder": EncoderConfig(**encoder),
            "finetune": FinetuneConfig(**finetune),
        }
        return BundleConfig(**parts, **(raw | {"aus": tuple(raw["aus"])}))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"bundle={folder}: {CONFIG_FILE} cannot be used: {error}") from error


def _beyond_us(raw: dict[str, Any]) -> str | None:
    """What of a config.json only a newer version can mean, in words: its format, keys and choices."""
    if not isinstance(raw, dict):
        raise ValueError("it holds no dictionary")
    written = raw.get("format", 0)
    if not isinstance(written, int) or written > FORMAT:
        return f"format {written} (known: up to {FORMAT})"
    parts: dict[str, Any] = {
        "": BundleConfig,
        "conditioning": ConditioningConfig,
        "encoder": EncoderConfig,
        "finetune": FinetuneConfig,
    }
    held = {name: raw if not name else raw.get(name, {}) for name in parts}
    known = {name: {field.name for field in dataclasses.fields(kind)} for name, kind in parts.items()}
    keys = [f"{name}.{key}".lstrip(".") for name, values in held.items() for key in values if key not in known[name]]
    if keys:
        return f"keys {', '.join(keys)}"
    choices: dict[tuple[str, str], type[enum.Enum]] = {
        ("conditioning", "enters"): Entry,
        ("encoder", "name"): EncoderName,
        ("finetune", "train"): Trained,
    }
    unknown = [
        f"{part}.{key}={held[part][key]}"
        for (part, key), kind in choices.items()
        if key in held[part] and held[part][key] not in {choice.value for choice in kind}
    ]
    return f"choice {', '.join(unknown)}" if unknown else None
