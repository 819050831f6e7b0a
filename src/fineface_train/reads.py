"""Who reads what of the config, so that an override that nothing reads is refused and not taken in silence.

Only what was given on the command line counts; a preset may set more than a verb or an arm needs.
"""

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from fineface_train.data.annotators.config import AnnotatorKind
from fineface_train.data.config import wants_annotator, wants_blip2
from fineface_train.evaluation.judges.config import READS as JUDGES_READ
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.methods.config import MethodConfig
from fineface_train.overrides import SEARCHPATH, Kind, Override

if TYPE_CHECKING:
    from fineface_train.config import Config

logger = logging.getLogger(__name__)
SWEEP = "train -m"
TRAINING_VERBS = ("train", "doctor", SWEEP)
"""What these read is a training's."""
TRAINING = (
    *("experiment", "method", "data", "image_transform", "labels", "trainer", "judge", "evaluation", "protocol"),
    *("scale", "calibrated", "seed", "tracking", "run"),
)
ASKED = "method.asked"
"""Stands for the parts of a method that making pictures reads (`MethodConfig.asked`)."""
BUNDLE = ("experiment", "bundle", ASKED, "any_base", "scale")
READS: dict[str, tuple[str, ...]] = {
    "prepare": ("experiment", "data"),
    "train": (*TRAINING, "out"),
    SWEEP: (*TRAINING, "sweep", "comparison", "hydra"),
    "generate": (
        *(*BUNDLE, "prompt", "aus", "n", "seed", "calibrated", "columns", "frames", "beside_base"),
        *("evaluation.batch_size", "out", "run.root"),
    ),
    "evaluate": (
        *BUNDLE,
        "protocol",
        "judge",
        "evaluation.batch_size",
        "evaluation.seed",
        "calibrated",
        "out",
        "run.root",
    ),
    "judge": ("images", "requests", "data", "split", "judge", "evaluation.batch_size", "out", "run.root"),
    "calibrate": (*BUNDLE, "judge", "evaluation.batch_size", "evaluation.seed"),
    "doctor": (*TRAINING, "out"),
    "report": (
        "out",
        "sweep",
        "comparison",
        "run.root",
        "bundle",
        *(f"tracking.{one}" for one in ("wandb", "mode", "project", "group", "tags")),
    ),
}
"""By verb, the keys that it reads; one stands for all below it, and `experiment` for whatever of these it sets. The
doctor is given what a training is."""

PLACES = ("data.root", "run.root")
"""Every verb takes them, so that one line of places serves all."""
TOLD = ("trainer", "seed")
"""What only matters where something is trained, and is let pass elsewhere: one line of steps and seeds serves all
methods."""


def is_read(key: str, verb: str, method: type[MethodConfig] = MethodConfig) -> bool:
    """Whether the verb reads the config's key (or what is below it), a group or one of Hydra's keys; `method`: the type
    of the chosen family's."""
    asked = tuple(f"method.{part}" for part in method.asked) if ASKED in READS[verb] else ()
    return key == SEARCHPATH or _within(key, (*READS[verb], *asked))


def _within(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in keys)


def check_verb(overrides: list[Override], verb: str, method: type[MethodConfig]) -> None:
    """Raises ValueError for an override of a key that the verb does not read, where the family's settings are
    `method`."""
    for override in overrides:
        if override.key in PLACES or is_read(override.place, verb, method):
            continue
        readers = [other for other in READS if is_read(override.place, other, method)]
        last = override.key.rpartition(".")[2]
        near = [one for one in ("evaluation.seed", "data.seed") if last == "seed" and is_read(one, verb)]
        meant = f", or did you mean {near[0]}?" if near else ""
        who = f"(what reads it: fineface {', '.join(readers)})" if readers else "(nothing does)"
        raise ValueError(f"{override}: fineface {verb} does not read {override.key} {who}; leave it out{meant}")


def check_given(overrides: list[Override], verb: str, configs: list["Config"]) -> None:
    """Raises ValueError for an override that takes no effect in any of the configs (those of a sweep's arms, or the
    one) since their choices do not read it."""
    idle = [_idle_keys(config, verb) for config in configs]
    for override in overrides:
        reasons = [next((why for key, why in one.items() if _within(override.place, (key,))), None) for one in idle]
        asks = override.kind is not Kind.hydra and override.value != "null" and override.key not in PLACES
        if asks and all(reasons):
            why = " or ".join(dict.fromkeys(map(str, reasons)))
            raise ValueError(f"{override}: nothing reads {override.key} with {why}; leave it out, or choose otherwise")
    if verb in TRAINING_VERBS:
        given = {override.key for override in overrides}
        for config in configs:
            _check_warmup(config, "trainer.warmup_steps" in given)
        unread = [str(override) for override in overrides if _within(override.key, TOLD)]
        if unread and not any(config.method.trains for config in configs):
            logger.warning("note: this method trains nothing, so that this is not read: %s", " ".join(unread))


def _check_warmup(config: "Config", given: bool) -> None:
    trainer = config.trainer
    if trainer.warmup_steps <= trainer.steps or not config.method.trains:
        return
    longer = f"trainer.warmup_steps={trainer.warmup_steps}: longer than the run (trainer.steps={trainer.steps})"
    if given:
        raise ValueError(f"{longer}, so that the learning rate would never be reached; lower it, or 0 for none")
    logger.warning(
        "%s: the learning rate rises to %.0f%% of trainer.learning_rate only",
        longer,
        100 * trainer.steps / trainer.warmup_steps,
    )


def _idle_keys(config: "Config", verb: str) -> dict[str, str]:
    """Keys that change nothing with the choices that were made, and which choice it is."""
    judge, data = config.judge, config.data
    rules: list[tuple[bool, str, tuple[str, ...]]] = [
        (not config.labels.rounding_probability, "labels.rounding_probability=0", ("labels.scope",)),
        (True, f"judge.kind={judge.kind.value}", _others("judge", judge, ("kind", *JUDGES_READ[judge.kind].keys))),
        (
            not config.tracking.wandb,
            "tracking.wandb=false",
            tuple(f"tracking.{one}" for one in ("mode", "project", "group", "tags")),
        ),
        (not data.colour, "data.colour=0", ("data.colour_variants",)),
        (
            not wants_blip2(data),
            "sources that do not ask BLIP-2 (see data.affectnet.captions, data.affectnet.photo_filter)",
            ("data.blip2",),
        ),
        (
            data.annotate.kind is not AnnotatorKind.libreface,
            f"data.annotate.kind={data.annotate.kind.value}",
            ("data.annotate.libreface",),
        ),
        (
            data.annotate.kind is not AnnotatorKind.openface,
            f"data.annotate.kind={data.annotate.kind.value}",
            ("data.annotate.openface",),
        ),
        (
            verb == "judge" and any(vars(config).get(key) for key in ("images", "requests")),
            "images=DIR requests=FILE.csv, which bring what is asked for with them",
            ("data", "split"),
        ),
        (
            verb != "doctor" and not wants_annotator(data),
            "a source whose labels are there (data.affectnet.aus=annotator asks for others)",
            ("data.annotate",),
        ),
    ]
    if verb in TRAINING_VERBS:
        after, every = config.evaluation.after_training, config.evaluation.every
        rules += [
            (not after, "evaluation.after_training=false", ("protocol", "scale", "out")),
            (
                not config.evaluation.wanted and judge.kind is not JudgeKind.none,
                f"evaluation.after_training=false evaluation.every={every}",
                ("judge",),
            ),
        ]
    if data.affectnet is not None and data.affectnet.correction is not None:
        rules.append(
            (
                True,
                "data.affectnet.correction",
                tuple(f"data.affectnet.{one}" for one in ("transform", "low_cut", "powers")),
            )
        )
    if data.manipulation is not None and data.manipulation.captions is not None:
        rules.append((True, "data.manipulation.captions", ("data.manipulation.caption",)))
    return config.method.idle() | {key: why for applies, why, keys in rules if applies for key in keys}


def _others(prefix: str, config: Any, kept: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of a part of the config but for `kept`."""
    return tuple(f"{prefix}.{field.name}" for field in dataclasses.fields(config) if field.name not in kept)
