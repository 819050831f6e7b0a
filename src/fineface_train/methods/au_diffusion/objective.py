"""The training loss: what the base's scheduler asks the UNet to predict, weighted by signal-to-noise ratio."""

import torch
from torch import Tensor

from fineface_train.methods.au_diffusion.config import ObjectiveConfig, Weighting

MAX_WEIGHT = 1e4


class Objective:
    """Noising, target and loss for one base scheduler."""

    def __init__(self, alphas_cumprod: Tensor, prediction_type: str, config: ObjectiveConfig) -> None:
        if prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(
                f"the base's scheduler predicts {prediction_type!r}; supported are epsilon, v_prediction and sample"
            )
        self.alphas_cumprod, self.prediction_type, self.config = alphas_cumprod.double(), prediction_type, config

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def _signal(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar), each (B, 1, 1, 1)."""
        alpha = self.alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt().to(like.dtype), (1 - alpha).sqrt().to(like.dtype)

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps."""
        signal, sigma = self._signal(timesteps, clean)
        return signal * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet should predict: eps, v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0, or x0."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return clean
        signal, sigma = self._signal(timesteps, clean)
        return signal * noise - sigma * clean

    def weight(self, timesteps: Tensor) -> Tensor:
        """Weight (B,) on the squared error of the prediction."""
        if self.config.weighting is Weighting.none:
            return torch.ones(len(timesteps), device=timesteps.device)
        alpha = self.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = (alpha / (1 - alpha).clamp(min=1e-9)).clamp(min=1e-6)
        on_sample = (snr if self.config.weighting is Weighting.min_snr else snr + 1).clamp(max=self.config.gamma)
        divisor = {"sample": torch.ones_like(snr), "epsilon": snr, "v_prediction": snr + 1}[self.prediction_type]
        # Near pure noise an error of epsilon is a huge one of x0: capped, so that a step at zero terminal SNR drowns no
        # other.
        return (on_sample / divisor).clamp(max=MAX_WEIGHT).float()

    def loss(self, prediction: Tensor, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mean over the batch of the weighted squared error."""
        error = self.errors(prediction, clean, noise, timesteps)
        return (self.weight(timesteps).to(error.dtype) * error).mean()

    def errors(self, prediction: Tensor, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Squared error (B,) of each example, not weighted: comparable between weightings."""
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        return (prediction.to(dtype) - self.target(clean, noise, timesteps).to(dtype)).pow(2).mean((1, 2, 3))
