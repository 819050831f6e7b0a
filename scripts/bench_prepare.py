#!/usr/bin/env python
"""How fast each stage of preparing data is, how long it would take for 180,000 images, and whether its memory grows
with the data.

    python scripts/bench_prepare.py [--images 600] [--times 10] [--folder outputs/bench_prepare] [KEY=VALUE ...]

Draws two ToyFACS corpora in AffectNet's layout, one with `--times` as many images, and runs every stage on both, each
in a process of its own: reading and filtering, hashing, looking at images (for the data report), VAE posteriors,
caption embeddings; with data.blip2.model=... also captions, with data.annotate.kind=libreface also AUs. With
data.toyfacs.resolution=512 images are as large as photographs. Video frames are extracted from an AVI of 640 x 480
(MPEG-4), drawn from the same faces, of as many frames as there are images, up to 600.
"""

import argparse
import itertools
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import torch

from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.data.annotators.config import AnnotatorKind
from fineface_train.data.cache import latent_cache, text_cache
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.crew import ALONE
from fineface_train.data.disfa.config import DisfaConfig
from fineface_train.data.formats.images import read_image
from fineface_train.data.formats.video import extract_videos
from fineface_train.data.inspection.looks import image_looks
from fineface_train.data.prepare import MANIFEST, prepare
from fineface_train.data.prepared import TABLE
from fineface_train.data.stages import Stages
from fineface_train.data.table import SampleTable
from fineface_train.methods.au_diffusion.base import load_base

WANTED = 180_000
DRAW = "draw"
VIDEO, VIDEO_FRAMES, VIDEO_SIZE, VIDEO_RATE = "bench.avi", 600, (640, 480), 20


def run_stage(stage: str, config: Config) -> tuple[int, float]:
    """How many images the stage went over, and the seconds without loading models."""
    root = Path(config.data.root)
    if stage == DRAW:
        faces = prepare(config.data).frame["image"]
        for name in (MANIFEST, INDEX):  # nothing of what an earlier bench made stays
            (root / name).unlink(missing_ok=True)
        shutil.rmtree(root / "bench", ignore_errors=True)
        write_video(root / VIDEO, itertools.islice(itertools.cycle(faces), min(_images(config), VIDEO_FRAMES)))
        return 0, 0.0
    if stage == "read and filter":
        start = time.perf_counter()
        prepare(config.data)
        return _images(config), time.perf_counter() - start
    if stage == "video frames":
        how, start = DisfaConfig(), time.perf_counter()
        (extracted,) = extract_videos(
            {"video": root / VIDEO}, root / "bench" / "frames", how.frame_format, how.frame_quality
        ).values()
        assert not extracted.fault, extracted.fault
        return extracted.decoded, time.perf_counter() - start
    table = SampleTable.read(root / TABLE)
    paths = table.frame["image"].tolist()
    stages = Stages(root / "bench", config.data.blip2, config.data.annotate, ALONE)
    contents = [] if stage == "hash" else image_contents(paths, root / INDEX)
    pipe = load_base(config.method.base) if stage in ("VAE posteriors", "caption embeddings") else None
    start = time.perf_counter()
    if stage == "hash":
        image_contents(paths, root / INDEX)
    elif stage == "look":
        image_looks(paths, contents, root / "bench" / "looks")
    elif stage == "VAE posteriors":
        latent_cache(
            table, contents, pipe.vae, "vae", root / "bench", config.method.base.resolution, config.image_transform
        )
    elif stage == "caption embeddings":
        text_cache(table.frame["caption"].tolist(), pipe, "text", root / "bench")
    elif stage == "BLIP-2 captions":
        stages.captions(paths)
    else:
        stages.aus(paths)
    return len(paths), time.perf_counter() - start


def write_video(path: Path, images: Iterable[str]) -> None:
    """An AVI with a frame of each image."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=VIDEO_RATE)
        stream.width, stream.height = VIDEO_SIZE
        stream.pix_fmt = "yuv420p"
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_image(read_image(image).resize(VIDEO_SIZE))
            frame.pts, frame.time_base = index, Fraction(1, VIDEO_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _images(config: Config) -> int:
    return config.data.toyfacs.affectnet_images if config.data.toyfacs else 0


def stages_of(config: Config) -> list[str]:
    """The stages that this config can run."""
    stages = ["read and filter", "video frames", "hash", "look", "VAE posteriors", "caption embeddings"]
    stages += ["BLIP-2 captions"] if config.data.blip2.model else []
    return stages + (["AUs"] if config.data.annotate.kind is not AnnotatorKind.none else [])


def main() -> int:
    """The exit status: 0, or 2 for a value that the user can mend, which is told in a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench_prepare"))
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_intermixed_args()
    try:
        if arguments.stage:
            images, seconds = run_stage(arguments.stage, load_config(arguments.overrides))
            print(
                json.dumps(
                    {
                        "images": images,
                        "seconds": seconds,
                        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                    }
                )
            )
        else:
            bench(arguments.images, arguments.times, arguments.folder, arguments.overrides)
    except (ValueError, OSError) as error:
        print(f"bench_prepare.py: {error}", file=sys.stderr)
        return 2
    return 0


def bench(few: int, times: int, folder: Path, overrides: list[str]) -> None:
    """Print the table of all stages, on a few and on `times` as many images."""
    stages = stages_of(load_config(overrides))
    print(f"{'stage':<20}{'images':>9}{'images/s':>11}{'180,000 take':>15}{'peak memory':>15}")
    for stage in stages:
        for images in dict.fromkeys((few, few * times)):
            root = folder / str(images)
            corpus = [
                f"data.root={root}",
                "data.disfa=null",
                "data.toyfacs.disfa_subjects=1",
                "data.toyfacs.disfa_frames=12",
            ]
            chosen = [*corpus, f"data.toyfacs.affectnet_images={images}", *overrides]
            if stage == "read and filter":
                _in_a_process_of_its_own(DRAW, chosen)
            found = _in_a_process_of_its_own(stage, chosen)
            speed = found["images"] / found["seconds"]
            print(
                f"{stage:<20}{found['images']:>9,}{speed:>11,.1f}{_duration(WANTED / speed):>15}"
                f"{found['megabytes']:>12,.0f} MB",
                flush=True,
            )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


def _in_a_process_of_its_own(stage: str, overrides: list[str]) -> dict[str, float]:
    """What `--stage` prints. Its peak memory counts from the peak of the process that starts it, which therefore does
    no work itself.

    Exits as it does where it has told what the user can mend.
    """
    ran = subprocess.run([sys.executable, __file__, "--stage", stage, *overrides], stdout=subprocess.PIPE, text=True)
    if ran.returncode == 2:
        sys.exit(2)
    ran.check_returncode()
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds > 3600
        else f"{seconds / 60:.1f} min"
        if seconds > 60
        else f"{seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
