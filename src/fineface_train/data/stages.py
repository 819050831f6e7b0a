"""What is found out about the images of a source while it is prepared, each kept under the prepared folder: sizes,
photographs or not, AUs, captions."""

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from fineface_train.data.annotators.annotate import annotate, annotated_by
from fineface_train.data.annotators.blip2 import ask_images, caption_images
from fineface_train.data.annotators.config import AnnotateConfig, Blip2Config
from fineface_train.data.contents import INDEX, image_contents
from fineface_train.data.crew import Crew
from fineface_train.data.formats.images import image_size, read_image
from fineface_train.files import hash_of

ANNOTATE_KEY = "data.annotate"


@dataclasses.dataclass(frozen=True)
class Stages:
    """Models and folders of one `fineface prepare`. All processes of the crew call each stage, in one order."""

    root: Path
    blip2: Blip2Config
    annotate: AnnotateConfig
    crew: Crew
    skip_broken: bool = False
    """Leave out images that are missing or cannot be read."""

    def sizes(self, paths: Sequence[str]) -> pd.DataFrame:
        """width, height (0 where it cannot be read) and fault (in words, "" for none) of each image."""
        with ThreadPoolExecutor(8) as pool:
            bar = tqdm(
                pool.map(_size, paths),
                total=len(paths),
                desc="measuring images",
                unit="image",
                mininterval=1,
                disable=self.crew.silent,
            )
            return pd.DataFrame(list(bar), columns=["width", "height", "fault"])

    def faults(self, paths: Sequence[str]) -> list[str]:
        """In words what keeps each image from being decoded, "" for nothing; the first process decodes for all."""
        return self.crew.first(lambda: self._faults(paths))

    def _faults(self, paths: Sequence[str]) -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            return list(
                tqdm(
                    pool.map(_fault, paths),
                    total=len(paths),
                    desc="decoding images",
                    unit="image",
                    mininterval=1,
                    disable=self.crew.silent,
                )
            )

    def answers(self, paths: Sequence[str]) -> pd.DataFrame:
        """What BLIP-2 answers about each image, as `photo_filter` reads it."""
        return ask_images(self.blip2, paths, self._contents(paths), self.root / "blip2", self.crew)

    def captions(self, paths: Sequence[str]) -> pd.DataFrame:
        """path, caption, status, fault and made_with of each image, by BLIP-2."""
        return caption_images(self.blip2, paths, self._contents(paths), self.root / "blip2", self.crew)

    def aus(self, paths: Sequence[str]) -> pd.DataFrame:
        """status and the 12 AUs in [0, 5] of each image, by the annotator. Raises ValueError where there is none."""
        made_by = self._annotated_by
        if made_by is None:
            raise ValueError(
                f"{ANNOTATE_KEY}.kind=none: AUs are to come from an annotator; set {ANNOTATE_KEY}.kind=libreface (or "
                f"openface)"
            )
        folder = self.root / "annotations" / f"{self.annotate.kind.value}-{hash_of(made_by)}"
        return annotate(paths, self._contents(paths), folder, self.annotate, ANNOTATE_KEY, self.crew)

    @property
    def annotator(self) -> str:
        """The annotator's name and version."""
        return "" if self._annotated_by is None else str(self._annotated_by["annotator"])

    @functools.cached_property
    def _annotated_by(self) -> dict[str, Any] | None:
        """Kept, as it hashes the annotator's weights."""
        return annotated_by(self.annotate, ANNOTATE_KEY)

    def _contents(self, paths: Sequence[str]) -> list[str]:
        return image_contents(paths, self.root / INDEX, progress=not self.crew.silent)


def _size(path: str) -> tuple[int, int, str]:
    try:
        return *image_size(path), ""
    except ValueError as error:
        return 0, 0, str(error)


def _fault(path: str) -> str:
    try:
        read_image(path)
    except ValueError as error:
        return str(error)
    return ""
