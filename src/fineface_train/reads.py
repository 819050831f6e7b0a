"""Who reads what of the config, so that an override that nothing reads is refused and not taken in silence.

Only what was given on the command line counts; a preset may set more than a verb or an arm needs.
"""

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from fineface_train.data.annotators.annotate import AnnotatorKind
from fineface_train.data.conditioning import Entry
from fineface_train.data.config import wants_annotator, wants_blip2
from fineface_train.evaluation.judges.judges import JUDGES, JudgeKind
from fineface_train.methods.au_diffusion.adapter import Trained
from fineface_train.methods.au_diffusion.base import Architecture
from fineface_train.methods.au_diffusion.encoders import ENCODERS
from fineface_train.methods.au_diffusion.objective import Weighting
from fineface_train.overrides import Kind, Override

if TYPE_CHECKING:
    from fineface_train.config import Config

logger = logging.getLogger(__name__)
SWEEP = "train -m"
TRAINING_VERBS = ("train", "doctor", SWEEP)
"""What these read is a training's."""
PARTS = (
    "experiment",
    "method",
    "base",
    "data",
    "image_transform",
    "labels",
    "conditioning",
    "encoder",
    "finetune",
    "objective",
    "trainer",
)
TRAINING = (*PARTS, "sampling", "judge", "evaluation", "protocol", "scale", "calibrated", "seed", "tracking", "run")
BUNDLE = ("experiment", "bundle", "base", "any_base", "sampling", "scale")
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
    "judge": ("images", "requests", "judge", "evaluation.batch_size", "out", "run.root"),
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
AUGMENTATION = ("data.flip", "data.colour", "data.colour_variants")
TRAINED = ("image_transform", "objective", "finetune.prior_weight", *AUGMENTATION)
"""What only matters where something is trained; so do TOLD, which are let pass there, so that one line of steps and
seeds serves all methods."""
TOLD = ("trainer", "seed")


def is_read(key: str, verb: str) -> bool:
    """Whether the verb reads the config's key, a group or one of Hydra's keys."""
    return key == "hydra.searchpath" or _within(key, READS[verb])


def _within(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in keys)


def check_verb(overrides: list[Override], verb: str) -> None:
    """Raises ValueError for an override of a key that the verb does not read."""
    for override in overrides:
        if override.key in PLACES or is_read(override.key, verb):
            continue
        readers = [other for other in READS if is_read(override.key, other)]
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
        reasons = [next((why for key, why in one.items() if _within(override.key, (key,))), None) for one in idle]
        if override.kind is not Kind.hydra and override.value != "null" and all(reasons):  # null asks for nothing
            why = " or ".join(dict.fromkeys(map(str, reasons)))
            raise ValueError(f"{override}: nothing reads {override.key} with {why}; leave it out, or choose otherwise")
    if verb in TRAINING_VERBS:
        given = {override.key for override in overrides}
        for config in configs:
            _check_warmup(config, "trainer.warmup_steps" in given)
        unread = [str(override) for override in overrides if _within(override.key, TOLD)]
        if unread and not any(trains(config) for config in configs):
            logger.warning(
                "note: nothing is trained with AUs as text and finetune.train=nothing, so that this is not read: %s",
                " ".join(unread),
            )


def _check_warmup(config: "Config", given: bool) -> None:
    trainer = config.trainer
    if trainer.warmup_steps <= trainer.steps or not trains(config):
        return
    longer = f"trainer.warmup_steps={trainer.warmup_steps}: longer than the run (trainer.steps={trainer.steps})"
    if given:
        raise ValueError(f"{longer}, so that the learning rate would never be reached; lower it, or 0 for none")
    logger.warning(
        "%s: the learning rate rises to %.0f%% of trainer.learning_rate only",
        longer,
        100 * trainer.steps / trainer.warmup_steps,
    )


def trains(config: "Config") -> bool:
    """Whether there is anything to train: the base as it is, with AUs as text, is exported only."""
    return config.finetune.train is not Trained.nothing or config.conditioning.enters is not Entry.text


def unused_by_method(config: "Config") -> dict[str, str]:
    """Keys that the choices of how AUs enter and what is trained leave unused, and which choice does."""
    finetune, enters = config.finetune, f"conditioning.enters={config.conditioning.enters.value}"
    trained = f"finetune.train={finetune.train.value}"
    unused = {
        "conditioning.au_text": enters if config.conditioning.enters is not Entry.text else None,
        **dict.fromkeys(
            ("conditioning.caption_dropout", "conditioning.au_dropout"),
            None if trains(config) else f"{enters} and {trained}",
        ),
        "finetune.base_rate": trained if finetune.train is not Trained.everything else None,
        **dict.fromkeys(
            [f"finetune.adapter_{one}" for one in ("scale", "keys", "rate")],
            enters if config.conditioning.enters is not Entry.adapter else None,
        ),
        **dict.fromkeys(
            ("finetune.lora_rank", "finetune.lora_alpha"), trained if finetune.train is not Trained.lora else None
        ),
        **dict.fromkeys(
            ("finetune.prior_prompt", "finetune.prior_images"),
            "finetune.prior_weight=0" if not finetune.prior_weight else None,
        ),
        "encoder": enters if config.conditioning.enters is Entry.text else None,
    }
    return {key: why for key, why in unused.items() if why}


def _idle_keys(config: "Config", verb: str) -> dict[str, str]:
    """Keys that change nothing with the choices that were made, and which choice it is."""
    judge, base, data = config.judge, config.base, config.data
    encoder = f"encoder.name={config.encoder.name.value}"
    options = ENCODERS[config.encoder.name].options
    rules: list[tuple[bool, str, tuple[str, ...]]] = [
        (True, encoder, _others("encoder", config.encoder, ("name", *options))),
        (
            "interaction_token" in options and not config.encoder.interaction_token,
            f"{encoder} encoder.interaction_token=false",
            ("encoder.hidden",),
        ),
        (config.objective.weighting is Weighting.none, "objective.weighting=none", ("objective.gamma",)),
        (not config.labels.rounding_probability, "labels.rounding_probability=0", ("labels.scope",)),
        (
            config.conditioning.enters is Entry.text,
            "conditioning.enters=text, which says the labels as they are",
            ("labels",),
        ),
        (not trains(config), "conditioning.enters=text and finetune.train=nothing, where nothing is trained", TRAINED),
        (config.sampling.guidance == 1, "sampling.guidance=1", ("sampling.negative",)),
        (True, f"judge.kind={judge.kind.value}", _others("judge", judge, ("kind", *JUDGES[judge.kind].keys))),
        (
            not config.tracking.wandb,
            "tracking.wandb=false",
            tuple(f"tracking.{one}" for one in ("mode", "project", "group", "tags")),
        ),
        (base.architecture is Architecture.pretrained, "base.architecture=pretrained", ("base.tokenizer",)),
        (
            base.architecture is not Architecture.pretrained,
            f"base.architecture={base.architecture.value}",
            ("base.path", "base.revision"),
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
    return unused_by_method(config) | {key: why for applies, why, keys in rules if applies for key in keys}


def _others(prefix: str, config: Any, kept: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of a part of the config but for `kept`."""
    return tuple(f"{prefix}.{field.name}" for field in dataclasses.fields(config) if field.name not in kept)
