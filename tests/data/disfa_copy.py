"""Exact miniatures of DISFA from ToyFACS drawings, with the differences that real copies have."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fineface_train.aus import AUS
from tests.data.videos import write_video


@dataclasses.dataclass
class Copy:
    """How a copy of DISFA is laid out. The default is what its owners' documents and the published code say, with
    frames in place of videos."""

    labels: str = "ActionUnit_Labels"
    label_folder: str = "{subject}"
    label_file: str = "{subject}_au{au}.txt"
    label_line: str = "{frame},{value:.0f}\n"
    head: bytes = b""
    tail: str = ""
    first_label: int = 1
    images: str | None = "frames"
    image_file: str = "{subject}/{index:05d}.png"
    first_index: int = 0
    videos: str | None = None
    video_file: str = "LeftVideo{subject}_comp.avi"
    codec: str = "mjpeg"
    captions: str = "disfa_captions.csv"
    without: Sequence[str] = ()
    more_images: dict[str, int] = dataclasses.field(default_factory=dict)
    """For a subject, images (or frames of its video) beyond its labels; less than 0: labels beyond its images."""

    def write(self, corpus: Path, root: Path) -> Path:
        source = corpus / "disfa"
        captions = pd.read_csv(source / "disfa_captions.csv")
        for folder in sorted((source / "ActionUnit_Labels").iterdir()):
            subject = folder.name
            if subject in self.without:
                continue
            self._write_labels(folder, root / self.labels / self.label_folder.format(subject=subject))
            pictures = sorted((source / "frames" / subject).iterdir())
            more = self.more_images.get(subject, 0)
            self._write_pictures(subject, pictures[:more] if more < 0 else pictures + pictures[-1:] * more, root)
        captions[~captions["subject"].isin(self.without)].to_csv(root / self.captions, index=False)
        return root

    def _write_labels(self, source: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        for au in AUS:
            values = np.loadtxt(source / f"{source.name}_au{au}.txt", delimiter=",")[:, 1]
            lines = [
                self.label_line.format(frame=self.first_label + index, value=value)
                for index, value in enumerate(values)
            ]
            (folder / self.label_file.format(subject=source.name, au=au)).write_bytes(
                self.head + ("".join(lines) + self.tail).encode()
            )

    def _write_pictures(self, subject: str, pictures: Sequence[Path], root: Path) -> None:
        if self.images is not None:
            for index, picture in enumerate(pictures, start=self.first_index):
                path = root / self.images / self.image_file.format(subject=subject, index=index)
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, path)
        if self.videos is not None:
            frames = [np.asarray(Image.open(picture).convert("RGB")) for picture in pictures]
            write_video(root / self.videos / self.video_file.format(subject=subject), frames, self.codec)
