"""The FineFace family: a latent diffusion base steered by an AU adapter and LoRA."""
