"""Targets and weights of the three prediction types, against their definitions."""

import pytest
import torch
from diffusers import DDIMScheduler

from fineface_train.methods.au_diffusion.config import ObjectiveConfig, Weighting
from fineface_train.methods.au_diffusion.objective import Objective

TYPES = ("epsilon", "v_prediction", "sample")


def objective(kind: str, weighting: Weighting = Weighting.none, gamma: float = 5.0) -> Objective:
    return Objective(DDIMScheduler().alphas_cumprod, kind, ObjectiveConfig(weighting, gamma))


def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(4, 2, 3, 3, generator=generator),
        torch.randn(4, 2, 3, 3, generator=generator),
        torch.tensor([0, 300, 700, 900]),
    )


@pytest.mark.parametrize("kind", TYPES)
def test_noising_and_target_agree_with_diffusers(kind: str) -> None:
    clean, noise, timesteps = sample()
    scheduler = DDIMScheduler()
    loss = objective(kind)
    torch.testing.assert_close(
        loss.noised(clean, noise, timesteps), scheduler.add_noise(clean, noise, timesteps), atol=1e-5, rtol=1e-4
    )
    expected = {"epsilon": noise, "sample": clean, "v_prediction": scheduler.get_velocity(clean, noise, timesteps)}[
        kind
    ]
    torch.testing.assert_close(loss.target(clean, noise, timesteps), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_a_perfect_prediction_has_no_loss(kind: str) -> None:
    clean, noise, timesteps = sample()
    loss = objective(kind)
    assert loss.loss(loss.target(clean, noise, timesteps), clean, noise, timesteps) == 0


@pytest.mark.parametrize("weighting", [Weighting.min_snr, Weighting.snr_plus_one])
def test_a_weighting_means_the_same_whatever_is_predicted(weighting: Weighting) -> None:
    """The same error of x0 costs the same, whether the UNet writes it as epsilon, v or x0."""
    clean, noise, timesteps = sample()
    wrong = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    losses = []
    for kind in TYPES:
        loss = objective(kind, weighting)
        alpha = loss.alphas_cumprod[timesteps].view(-1, 1, 1, 1).float()
        implied = (loss.noised(clean, noise, timesteps) - alpha.sqrt() * wrong) / (1 - alpha).sqrt()
        prediction = {
            "sample": wrong,
            "epsilon": implied,
            "v_prediction": alpha.sqrt() * implied - (1 - alpha).sqrt() * wrong,
        }[kind]
        losses.append(loss.loss(prediction, clean, noise, timesteps).item())
    assert losses[0] == pytest.approx(losses[2], rel=1e-2)
    assert losses[1] == pytest.approx(losses[2], rel=1e-2)


def test_weights_by_hand() -> None:
    timesteps = torch.tensor([0, 500, 999])
    alpha = DDIMScheduler().alphas_cumprod[timesteps]
    snr = alpha / (1 - alpha)
    torch.testing.assert_close(
        objective("sample", Weighting.min_snr).weight(timesteps), snr.clamp(max=5), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        objective("sample", Weighting.snr_plus_one, 10).weight(timesteps), (snr + 1).clamp(max=10), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        objective("epsilon", Weighting.min_snr).weight(timesteps), (5 / snr).clamp(max=1), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        objective("v_prediction", Weighting.min_snr).weight(timesteps),
        snr.clamp(max=5) / (snr + 1),
        rtol=1e-4,
        atol=1e-6,
    )


def test_weights_are_finite_at_zero_terminal_snr() -> None:
    alphas = DDIMScheduler(rescale_betas_zero_snr=True).alphas_cumprod
    for kind in TYPES:
        for weighting in Weighting:
            weight = Objective(alphas, kind, ObjectiveConfig(weighting)).weight(torch.arange(1000))
            assert torch.isfinite(weight).all()


def test_an_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="supported are epsilon"):
        objective("flow")
