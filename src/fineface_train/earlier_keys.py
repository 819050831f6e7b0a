"""Keys as they were called before: the parts of a method stood beside `method` and not below it (encoder.hidden, now
method.encoder.hidden), and some keys had other names.

Files of that time are read by their new names; on the command line an earlier name is refused with the new one. How an
evaluation, a picture, a bundle and a run's identity write a method's parts down has not changed.
"""

import re
from typing import Any

MOVED = ("base", "conditioning", "encoder", "finetune", "objective", "sampling")
RENAMED = {"evaluation.validation_every": "trainer.validate_every"}
FAMILY = "fineface_train.methods.au_diffusion"
"""The only family that there was."""
EARLIER = re.compile(rf"(?<![\w./-])((?:{'|'.join(MOVED)})\.\w+(?:\.\w+)*=)")
"""An earlier key and its =, in overrides and in command lines."""
NEW = re.compile(rf"(?<![\w./-])method\.((?:{'|'.join(MOVED)})\.\w+(?:\.\w+)*=)")


def new_name(key: str) -> str | None:
    """What the key is called now, where that is another name."""
    return f"method.{key}" if key.partition(".")[0] in MOVED else RENAMED.get(key)


def renamed(text: str) -> str:
    """Overrides, or a command line, with the new names."""
    for before, now in RENAMED.items():
        text = text.replace(f"{before}=", f"{now}=")
    return EARLIER.sub(r"method.\1", text)


def as_before(text: str) -> str:
    """Overrides with the earlier names, from which the folders of sweeps are named."""
    for before, now in RENAMED.items():
        text = text.replace(f"{now}=", f"{before}=")
    return NEW.sub(r"\1", text)


def of_evaluation(values: dict[str, Any]) -> dict[str, Any]:
    """What an evaluation has written down, its command by the present names."""
    return values | {"judge_it": renamed(values["judge_it"])} if values.get("judge_it") else values


def of_run(values: dict[str, Any]) -> dict[str, Any]:
    """What a run's config.yaml holds, in its present shape."""
    if "method" in values:
        return values
    parts = {key: values[key] for key in MOVED if key in values}
    rest = {key: value for key, value in values.items() if key not in MOVED}
    return rest | ({"method": {"family": FAMILY} | parts} if parts else {})
