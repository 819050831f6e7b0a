"""What the frozen parts of the base say about the data, computed once and kept on disk: VAE posteriors and captions'
embeddings.

A cache is named by a hash of what it was computed from (images' contents, transform, every weight of the model), so it
is found again when all of that is the same, wherever it lies, and not when any of it changed. It is written to a
temporary folder, sealed with checksums and then renamed; the first process checks them before it trusts a cache, and
builds a damaged one again.
"""

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fineface_train.data.augmentation import AS_IT_IS, View
from fineface_train.data.config import ImageTransform
from fineface_train.data.crew import ALONE, Crew
from fineface_train.data.formats.images import read_image
from fineface_train.data.table import SampleTable
from fineface_train.files import damage, new_folder
from fineface_train.locks import locked
from fineface_train.texts import shown

logger = logging.getLogger(__name__)
NAME = "name.txt"
"""In a cache, its own name: one that was moved into another's place is known."""
PIXELS_AT_ONCE = 2**19
"""That the VAE encodes together: 2 images of 512 pixels a side, whose activations take less room than a training
step's."""


def load_image(
    path: str, resolution: int, transform: ImageTransform, contents: str | None = None, view: View = AS_IT_IS
) -> np.ndarray:
    """A view of an image file as (3, resolution, resolution) float32 in [-1, 1]. Raises ValueError that names a broken
    file, or one without these `contents`."""
    try:
        image = read_image(path, contents)
    except ValueError as error:
        raise ValueError(f"{error}; mend or remove it, or prepare with data.skip_broken=true") from error
    if transform is ImageTransform.crop and image.width != image.height:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size != (resolution, resolution):
        image = image.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.asarray(view.of(image, contents), dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1


class LatentCache:
    """Posterior mean and standard deviation (C, h, w) of each row's image, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mean, self.std = (np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("mean", "std"))

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.mean[row]), np.array(self.std[row])


class TextCache:
    """The text encoder's output (tokens, d) for each row's caption, memory-mapped; equal captions share one entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.embeddings, self.entry = np.load(folder / "embeddings.npy", mmap_mode="r"), np.load(folder / "entry.npy")

    def __getitem__(self, row: int) -> np.ndarray:
        return np.array(self.embeddings[self.entry[row]])

    @property
    def empty(self) -> np.ndarray:
        """The embedding of the empty caption."""
        return np.array(self.embeddings[0])


def latent_cache(
    table: SampleTable,
    contents: list[str],
    vae: AutoencoderKL,
    vae_hash: str,
    root: Path,
    resolution: int,
    transform: ImageTransform,
    *,
    view: View = AS_IT_IS,
    crew: Crew = ALONE,
) -> LatentCache:
    """Find or build under `root` the posteriors of a view of all images of `table`, whose `contents` are known by their
    hashes."""
    paths = table.frame["image"].tolist()
    key = _hash(vae_hash, str(resolution), transform.value, *view.key, *contents)
    side = resolution // 2 ** (len(vae.config.block_out_channels) - 1)
    shape = (len(table), vae.config.latent_channels, side, side)

    def allocate(folder: Path) -> None:
        for part in ("mean", "std"):
            _new_array(folder / f"{part}.npy", shape)

    def fill(folder: Path) -> None:
        title = "encoding images" + ("" if view == AS_IT_IS else f" ({', '.join(view.key)})")
        for chosen in _shares(len(paths), encoded_at_once(resolution), crew, title):
            files = zip(paths[chosen], contents[chosen], strict=True)
            images = torch.from_numpy(
                np.stack([load_image(path, resolution, transform, digest, view) for path, digest in files])
            )
            with torch.no_grad():
                posterior = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
            _write_rows(folder / "mean.npy", chosen.start, posterior.mean)
            _write_rows(folder / "std.npy", chosen.start, posterior.std)

    return LatentCache(_find_or_build(root / f"latents-{key}", allocate, fill, crew))


def encoded_at_once(resolution: int) -> int:
    """Number of images that the VAE encodes together."""
    return max(1, min(32, PIXELS_AT_ONCE // resolution**2))


def text_cache(
    captions: list[str],
    pipe: StableDiffusionPipeline,
    text_hash: str,
    root: Path,
    *,
    batch_size: int = 128,
    crew: Crew = ALONE,
) -> TextCache:
    """Find or build the embeddings of a table's `captions` under `root`; entry 0 is the empty caption."""
    unique = ["", *sorted(set(captions) - {""})]
    place = {caption: index for index, caption in enumerate(unique)}
    entry = np.array([place[caption] for caption in captions], dtype=np.int64)
    parts, cut = [], []
    for first in range(0, len(unique), 1024):  # in parts: what a tokenizer returns takes many times the room of the ids
        tokenised = pipe.tokenizer(
            unique[first : first + 1024], padding="max_length", truncation=True, return_tensors="pt"
        )
        parts.append(tokenised.input_ids)
        cut += [
            (unique[first + place], one.offsets[-2][1])
            for place, one in enumerate(tokenised.encodings)
            if one.overflowing
        ]
    ids = torch.cat(parts)
    if cut and crew.index == 0:
        (caption, end), room = cut[0], ids.shape[1] - pipe.tokenizer.num_special_tokens_to_add()
        example = f"{shown(caption)} without {shown(caption[end:])}"
        logger.warning(
            "%d of %d captions are cut: the text encoder has room for %d tokens; e.g. %s",
            len(cut),
            len(unique),
            room,
            example,
        )
    key = _hash(text_hash, *(hashlib.sha256(array.tobytes()).hexdigest() for array in (ids.numpy(), entry)))

    def allocate(folder: Path) -> None:
        _new_array(
            folder / "embeddings.npy",
            (len(unique), pipe.tokenizer.model_max_length, pipe.text_encoder.config.hidden_size),
        )
        np.save(folder / "entry.npy", entry)

    def fill(folder: Path) -> None:
        for chosen in _shares(len(unique), batch_size, crew, "encoding captions"):
            with torch.no_grad():
                embeddings = pipe.text_encoder(ids[chosen].to(pipe.text_encoder.device))[0]
            _write_rows(folder / "embeddings.npy", chosen.start, embeddings)

    return TextCache(_find_or_build(root / f"text-{key}", allocate, fill, crew))


def generated_cache(
    count: int,
    shape: tuple[int, ...],
    made_by: str,
    make: Callable[[slice], Tensor],
    root: Path,
    *,
    batch_size: int = 32,
    crew: Crew = ALONE,
) -> LatentCache:
    """Find or build under `root` the latents of `count` images that `make` generates, known by what they are `made_by`;
    they have no spread."""

    def allocate(folder: Path) -> None:
        for part in ("mean", "std"):
            _new_array(folder / f"{part}.npy", (count, *shape))

    def fill(folder: Path) -> None:
        for chosen in _shares(count, batch_size, crew, "generating images of the prior"):
            latents = make(chosen)
            _write_rows(folder / "mean.npy", chosen.start, latents)
            _write_rows(folder / "std.npy", chosen.start, torch.zeros_like(latents))

    return LatentCache(_find_or_build(root / f"prior-{_hash(made_by, str(count), str(shape))}", allocate, fill, crew))


def _new_array(path: Path, shape: tuple[int, ...]) -> None:
    """A float32 array on disk, all of its room taken at once, so that a full disk is said before anything is
    computed."""
    size, free = 4 * math.prod(shape), shutil.disk_usage(path.parent).free
    if size > free:
        raise OSError(
            f"{path.parent}: a cache of {size / 1e9:.2f} GB does not fit, {free / 1e9:.2f} GB are free; make room or "
            f"set data.root to another disk"
        )
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _write_rows(path: Path, first: int, rows: Tensor) -> None:
    """Write `rows` into the array at `path`, from row `first` on.

    By plain writes, not through a mapping: machines that share a folder would overwrite each other's rows where they
    share a page.
    """
    array = np.load(path, mmap_mode="r")
    with path.open("r+b") as file:
        file.seek(array.offset + first * array[0].nbytes)
        file.write(rows.float().cpu().numpy().tobytes())


def _shares(length: int, size: int, crew: Crew, title: str) -> Iterator[slice]:
    """This process's batches. All processes cut alike, so that their number changes no bit of what is computed."""
    starts = range(crew.index * size, length, crew.count * size)
    for start in tqdm(starts, desc=title, unit="batch", mininterval=1, disable=crew.silent):
        yield slice(start, min(start + size, length))


def _find_or_build(folder: Path, allocate: Callable[[Path], None], fill: Callable[[Path], None], crew: Crew) -> Path:
    """`folder`, built if it is missing or no longer what was written.

    The first process of the crew checks, locks, makes room and seals; all fill. A cache that is whole is read without a
    lock, so that a folder of somebody else's will do. Runs that want the same wait for each other.
    """
    if crew.first(lambda: folder.exists() and _fault(folder) is None):
        return folder
    with crew.entered(locked(folder.parent, wait=True)):
        if crew.first(lambda: _remove_damaged(folder)):
            with crew.entered(new_folder(folder)) as partial:
                crew.first(lambda: _begin(partial, folder.name, allocate))
                fill(partial)
                crew.wait()
    crew.wait()
    return folder


def _remove_damaged(folder: Path) -> bool:
    """Whether `folder` is to be built: what lies there, if anything, is damaged, and goes, as do builds of any cache
    that were killed or failed."""
    if folder.exists() and (fault := _fault(folder)):
        logger.warning("%s: building this cache again", fault)
        shutil.rmtree(folder)
    for leftover in folder.parent.glob("*.partial"):  # the lock is for all caches
        shutil.rmtree(leftover)
    return not folder.exists()


def _begin(partial: Path, name: str, allocate: Callable[[Path], None]) -> None:
    (partial / NAME).write_text(name)
    allocate(partial)


def _fault(folder: Path) -> str | None:
    """What is wrong with a cache, in words."""
    return damage(folder) or _exchanged(folder)


def _exchanged(folder: Path) -> str | None:
    """Whether a whole cache is another one under this name, in words."""
    name = (folder / NAME).read_text() if (folder / NAME).is_file() else "a cache without a name"
    return None if name == folder.name else f"{folder} is {name}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
