#!/usr/bin/env python
"""Images per second of a bundle, one at a time against batches, in one run.

    python scripts/bench_generate.py [--bundle data/toyfacs/bundle] [--images 32] [--batches 1 8 32]
    [--variants ours,bf16,bf16+channels_last+compiled] [--json FILE] [KEY=VALUE ...]

`ours` is what `fineface generate` does. The other variants change the pipeline, one by one or joined by +: `bf16`
(weights), `channels_last`, `compiled` (torch.compile of the UNet, for each batch size anew). Floating point operations
are those of a whole image: every step of the UNet, guidance, and the decoder. --json FILE writes the numbers down too.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from fineface_train.aus import AU_COUNT
from fineface_train.compose import load_config
from fineface_train.files import write_json
from fineface_train.methods.au_diffusion.generate import PipelineGenerator
from fineface_train.methods.protocol import Request
from fineface_train.quiet import quieten_libraries
from fineface_train.verbs.generators import evaluation_prompts, load_generator

CHANGES = ("bf16", "channels_last", "compiled")


def variants(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name != "ours" and set(name.split("+")) - set(CHANGES):
            raise argparse.ArgumentTypeError(
                f"no variant {name!r}; there are ours, and {', '.join(CHANGES)}, joined by +"
            )
    return names


def change(generator: PipelineGenerator, name: str) -> None:
    """Make the pipeline what `name` says, whatever it was before."""
    pipe, changes = generator.pipe, set(name.split("+"))
    pipe.to(torch.bfloat16 if "bf16" in changes else torch.float32)
    layout = torch.channels_last if "channels_last" in changes else torch.contiguous_format
    for module in (pipe.unet, pipe.vae):
        module.to(memory_format=layout)
    pipe.unet._compiled_call_impl = None
    if "compiled" in changes:
        pipe.unet.compile(dynamic=False)


def operations(generator: PipelineGenerator, request: Request) -> int:
    """Floating point operations of one image; fused attention is not counted on CPUs."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        generator.generate([request])
    return int(counter.get_total_flops())


def measure(generator: PipelineGenerator, requests: list[Request], size: int) -> tuple[float, float | None]:
    """Images per second in batches of `size`, after one that is not counted; and the GPU's peak memory in GB."""
    on_gpu = generator.pipe.device.type == "cuda"
    generator.generate(requests[:size])
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for first in range(0, len(requests), size):
        generator.generate(requests[first : first + size])  # on the CPU when it returns
    seconds = time.perf_counter() - started
    return len(requests) / seconds, torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("data/toyfacs/bundle"))
    parser.add_argument("--images", type=int, default=32, help="a multiple of the batch sizes")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--variants", type=variants, default=["ours"], metavar="NAME,NAME,...")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    quieten_libraries()
    config = load_config(arguments.overrides)
    generator, prompts = load_generator(config, arguments.bundle), evaluation_prompts(config)
    generator.strict = False  # a base of random weights makes nothing that one could see
    requests = [
        Request(
            prompts[number % len(prompts)].text,
            tuple(5.0 * (place == number % AU_COUNT) for place in range(AU_COUNT)),
            number,
        )
        for number in range(arguments.images)
    ]
    an_image, rows = operations(generator, requests[0]), []
    bar = tqdm(total=len(arguments.variants) * len(arguments.batches), desc="variants and batch sizes")
    for name in arguments.variants:
        change(generator, name)
        for size in arguments.batches:
            rate, peak = measure(generator, requests, size)
            rows.append({"variant": name, "batch": size, "images_per_second": rate, "peak_gb": peak})
            bar.update()
    bar.close()
    base = f"{config.method.base.name} at {config.method.base.resolution} px"
    print(
        f"{generator.pipe.device}, {torch.get_num_threads()} threads, {base}, "
        f"{config.method.sampling.steps} steps, guidance {config.method.sampling.guidance:g}, "
        f"{an_image / 1e9:.1f} GFLOP an image"
    )
    width = max(len(name) for name in arguments.variants) + 2
    print(f"{'variant':<{width}}{'batch':>6}{'images/s':>12}{'against the first':>19}{'peak GB':>9}")
    for row in rows:
        rate, peak = row["images_per_second"], f"{row['peak_gb']:.2f}" if row["peak_gb"] else "-"
        against = rate / rows[0]["images_per_second"]
        print(f"{row['variant']:<{width}}{row['batch']:>6}{rate:>12.2f}{against:>18.2f}x{peak:>9}")
    if arguments.json:
        base = config.method.base
        about = {"base": base.name, "resolution": base.resolution, "steps": config.method.sampling.steps}
        write_json(arguments.json, about | {"operations_an_image": an_image, "variants": rows})


if __name__ == "__main__":
    main()
