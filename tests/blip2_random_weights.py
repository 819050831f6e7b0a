"""BLIP-2 with OPT 2.7B in its true shape with random values (7.5 GB on disk), to time it where the real weights are out
of reach.

python -m tests.blip2_random_weights FOLDER

It says letters without sense and never ends a caption by itself; its speed is that of the real weights.
"""

import sys
from pathlib import Path

import torch
from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig

from tests.data.test_blip2 import tiny_blip2

VOCABULARY = 50304
BLOCK = 1 << 20


def true_shape(image_token: int) -> Blip2Config:
    """Salesforce/blip2-opt-2.7b: ViT-g/14, a Q-Former with 32 queries, OPT 2.7B."""
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    opt = {
        "hidden_size": 2560,
        "ffn_dim": 10240,
        "word_embed_proj_dim": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    return Blip2Config(
        vision_config=Blip2VisionConfig(),
        qformer_config=Blip2QFormerConfig(),
        text_config=OPTConfig(**opt, **ids, vocab_size=VOCABULARY),
        num_query_tokens=32,
        image_token_index=image_token,
    )


def main(folder: Path) -> None:
    _, processor = tiny_blip2()
    processor.num_query_tokens = 32
    processor.image_processor.size = {"height": 224, "width": 224}
    with torch.device("meta"):
        model = Blip2ForConditionalGeneration(true_shape(processor.tokenizer.convert_tokens_to_ids("<image>")))
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    block = 0.02 * torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for tensor in [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]:
        tensor.data.copy_(block.repeat(-(-tensor.numel() // BLOCK))[: tensor.numel()].view_as(tensor))
    model.tie_weights()
    # No end of a caption, and none of the words that the small tokenizer does not have.
    model.generation_config.suppress_tokens = [
        model.config.text_config.eos_token_id,
        *range(len(processor.tokenizer), VOCABULARY),
    ]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    print(f"{folder}: {sum(parameter.numel() for parameter in model.parameters()) / 1e9:.2f} billion parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
