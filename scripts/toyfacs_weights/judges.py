"""The two AU judges and the attribute classifier."""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from fineface_train.aus import AU_KEYS
from fineface_train.evaluation.judges.models import AttributeClassifier
from fineface_train.toyfacs.faces import ATTRIBUTES, Face
from fineface_train.toyfacs.worlds import Expressions
from toyfacs_weights.batches import augment, draw_batch, held_out
from toyfacs_weights.stage import SHIPPED, new_stage


def build_judge(name: str, model: nn.Module, rate: float, kinds: tuple[Expressions, ...]) -> None:
    """An AU judge: mean squared error on augmented drawings of `kinds`; checked on both kinds, held out."""
    stage = new_stage(name, model, rate, ema=0.998)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        batch = draw_batch(stage, step, 32, kinds)
        loss = F.mse_loss(stage.model(augment(batch.images)), batch.aus.to(stage.accelerator.device))
        return loss, {"loss": f"{loss.item():.3f}"}

    stage.fit(loss_at)
    measured = {}
    vae_path = SHIPPED / "base" / "vae"
    vae = AutoencoderKL.from_pretrained(vae_path).eval() if vae_path.exists() else None
    for kind in Expressions:
        errors, shifts = [], []
        with torch.no_grad():
            for batch in held_out(1000, (kind,)):
                read = model(batch.images).clamp(0, 5)
                errors.append(((read - batch.aus) ** 2).mean(0))
                if vae is not None:
                    decoded = vae.decode(vae.encode(batch.images * 2 - 1).latent_dist.mean).sample
                    shifts.append((model((decoded / 2 + 0.5).clamp(0, 1)).clamp(0, 5) - read).mean(0))
        per_au = torch.stack(errors).mean(0)
        measured[f"mse_{kind.value}"] = round(per_au.mean().item(), 4)
        measured[f"mse_{kind.value}_per_au"] = dict(zip(AU_KEYS, [round(v, 4) for v in per_au.tolist()], strict=True))
        if shifts:
            shift = torch.stack(shifts).mean(0)
            measured[f"vae_shift_{kind.value}_per_au"] = dict(
                zip(AU_KEYS, [round(v, 3) for v in shift.tolist()], strict=True)
            )
    worst = max(measured["mse_dense_per_au"].values())
    stage.ship(f"judges/{name}", measured, passed=worst <= 0.15)


def build_attributes() -> None:
    stage = new_stage("attributes", AttributeClassifier(), 2e-3, ema=0.99)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        batch = draw_batch(stage, step, 32)
        truth = torch.tensor([face.indices() for face in batch.faces], device=stage.accelerator.device)
        logits = stage.model(augment(batch.images))
        loss = sum((F.cross_entropy(logit, truth[:, index]) for index, logit in enumerate(logits)), torch.zeros(()))
        return loss, {"loss": f"{loss.item():.3f}"}

    stage.fit(loss_at)
    accuracy = attribute_accuracy(stage.raw, [(b.images, b.faces) for b in held_out(500)])
    stage.ship("judges/attributes", {"accuracy": accuracy}, passed=accuracy["mean"] >= 0.98)


def attribute_accuracy(classifier: nn.Module, batches: list[tuple[Tensor, list[Face]]]) -> dict[str, float]:
    """Share of images that show what the caption said, per attribute and on average."""
    hits = []
    with torch.no_grad():
        for images, faces in batches:
            truth = torch.tensor([face.indices() for face in faces])
            hits.append(torch.stack([logit.argmax(1) for logit in classifier(images)], 1) == truth)
    accuracy = torch.cat(hits).float().mean(0)
    return {name: round(value, 4) for name, value in zip(ATTRIBUTES, accuracy.tolist(), strict=True)} | {
        "mean": round(accuracy.mean().item(), 4)
    }
