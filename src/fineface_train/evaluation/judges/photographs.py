"""The AU judge of photographs: LibreFace, which is also the tool that wrote the paper's AffectNet labels."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fineface_train.aus import AU_KEYS
from fineface_train.data.annotators.program import WITH_FACE, Annotator
from fineface_train.toyfacs.render import to_uint8


class LibreFaceJudge:
    """Reads AUs in photographs; the program runs in the background from the first batch on, until nobody holds the
    judge."""

    def __init__(self, annotator: Annotator) -> None:
        self.annotator = annotator

    def read(self, images: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """See `AuJudge.read`; of several faces the largest is read. Raises ChildProcessError where the program
        fails."""
        with tempfile.TemporaryDirectory(prefix="judge-") as folder:
            paths = [str(Path(folder) / f"{index}.png") for index in range(len(images))]
            for path, image in zip(paths, images, strict=True):
                Image.fromarray(to_uint8(image[None])[0]).save(path)
            rows = self.annotator(paths)
        assert all(row["status"] != "unreadable" for row in rows), "we wrote these images"
        aus = torch.tensor([[row[key] or 0.0 for key in AU_KEYS] for row in rows])
        return aus, torch.tensor([row["status"] in WITH_FACE for row in rows])
