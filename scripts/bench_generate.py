#!/usr/bin/env python
"""Images per second of a bundle, one at a time against batches, in one run.

python scripts/bench_generate.py [--bundle data/toyfacs/bundle] [--images 32] [--batches 1 8 32] [KEY=VALUE ...]
"""

import argparse
import time
from pathlib import Path

import torch
from tqdm import tqdm

from fineface_train.aus import AU_COUNT
from fineface_train.compose import load_config
from fineface_train.evaluation.measure import evaluation_prompts, load_generator
from fineface_train.methods.protocol import Request
from fineface_train.quiet import quieten_libraries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("data/toyfacs/bundle"))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    quieten_libraries()
    config = load_config(arguments.overrides)
    generator, prompts = load_generator(config, arguments.bundle), evaluation_prompts(config)
    requests = [
        Request(
            prompts[number % len(prompts)].text,
            tuple(5.0 * (place == number % AU_COUNT) for place in range(AU_COUNT)),
            number,
        )
        for number in range(arguments.images)
    ]
    generator.generate(requests[:1])
    seconds: dict[int, float] = {}
    for size in tqdm(arguments.batches, desc="batch sizes"):
        started = time.perf_counter()
        for first in range(0, len(requests), size):
            generator.generate(requests[first : first + size])
        seconds[size] = time.perf_counter() - started
    print(
        f"{generator.pipe.device}, {torch.get_num_threads()} threads, {config.method.sampling.steps} steps, guidance "
        f"{config.method.sampling.guidance:g}"
    )
    print(f"{'batch':>6}{'images/s':>12}{'against ' + str(arguments.batches[0]):>14}")
    for size, taken in seconds.items():
        print(f"{size:>6}{len(requests) / taken:>12.2f}{seconds[arguments.batches[0]] / taken:>13.2f}x")


if __name__ == "__main__":
    main()
