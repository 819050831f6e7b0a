"""The ToyFACS models: small members of the very classes that make up Stable Diffusion and CLIP."""

import json

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

WIDTH = 128
"""Width of the text embedding and of every cross-attention."""
MAX_TOKENS = 64
LATENT_CHANNELS = 12


def build_tokenizer(captions: list[str], vocabulary: int = 900) -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges are learned on `captions`; any other text falls back to bytes."""
    blank = CLIPTokenizer()
    backend = blank.backend_tokenizer
    learner = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=_byte_alphabet(),
        end_of_word_suffix="</w>",
        continuing_subword_prefix="",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab = dict(learned["vocab"])
    for symbol in _byte_alphabet():
        vocab.setdefault(symbol + "</w>", len(vocab))
    merges = [tuple(pair) if not isinstance(pair, str) else tuple(pair.split(" ")) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def _byte_alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def build_clip(tokenizer: CLIPTokenizer, image_size: int) -> CLIPModel:
    """CLIP with a 3-layer text tower of width `WIDTH` and a 4-layer vision tower on 8x8 patches (about 1.6M
    parameters)."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=96,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=8,
        projection_dim=96,
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=96))


def text_encoder_of(clip: CLIPModel) -> CLIPTextModel:
    """The text tower of `clip` as the stand-alone model that a Stable Diffusion pipeline holds."""
    encoder = CLIPTextModel(clip.config.text_config)
    source = clip.text_model.state_dict()
    target = encoder.state_dict()
    prefix = "text_model." if any(key.startswith("text_model.") for key in target) else ""
    encoder.load_state_dict({prefix + key: value for key, value in source.items()}, strict=True)
    return encoder


def build_autoencoder(image_size: int) -> AutoencoderKL:
    """Image to latents of a quarter of its side and `LATENT_CHANNELS` channels (0.6M parameters)."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=image_size,
        mid_block_add_attention=False,
    )


def build_unet(image_size: int) -> UNet2DConditionModel:
    """Stable Diffusion's UNet at 5.3M parameters: 16x16 latents, attention at 8x8 and 4x4."""
    return UNet2DConditionModel(
        sample_size=image_size // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(48, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """1,000 steps to pure noise (zero terminal SNR, so that plain backgrounds come out right), predicting the
    sample."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )
