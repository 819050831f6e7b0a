"""What image files hold, by SHA-256, without reading a file again that nobody touched: caches and runs are known by
it."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from fineface_train.files import Stamp, read_parquet, replacing, sha256
from fineface_train.locks import locked, writable

logger = logging.getLogger(__name__)
INDEX = "contents.parquet"


def image_contents(
    paths: Sequence[str], index: Path, *, title: str = "hashing images", progress: bool = True
) -> list[str]:
    """SHA-256 of each file, in hex.

    `index` keeps them with each file's whole `Stamp`; only files that it does not know so are read. Its lock is its
    own, as whoever prepares the folder that it lies in holds that one.
    """
    stamps = {path: _stamp(path) for path in paths}
    known = _read(index)
    if any((path, stamp) not in known for path, stamp in stamps.items()):
        if writable(index.parent):
            with locked(index.parent, part=f"_{index.stem}", wait=True):
                known = _read(index)  # with what those have added who were waited for
                known |= _hash(stamps, known, title, progress)
                kept = [key for key in known if key[0] not in stamps or stamps[key[0]] == key[1]]
                frame = pd.DataFrame([(*key, known[key]) for key in kept], columns=["path", "stamp", "sha256"])
                with replacing(index) as partial:
                    frame.to_parquet(partial, index=False)
        else:
            logger.warning("%s cannot be written: what images hold is found out anew each time", index)
            known |= _hash(stamps, known, title, progress)
    return [known[path, stamps[path]] for path in paths]


def _read(index: Path) -> dict[tuple[str, str], str]:
    """SHA-256 by path and stamp."""
    if not index.is_file():
        return {}
    try:
        frame = read_parquet(index)
        return dict(zip(zip(frame["path"], frame["stamp"], strict=True), frame["sha256"], strict=True))
    except (ValueError, KeyError) as error:
        logger.warning("%s: hashing all images again", error)
        return {}


def _hash(
    stamps: dict[str, str], known: dict[tuple[str, str], str], title: str, progress: bool
) -> dict[tuple[str, str], str]:
    """Those of the files that are not known."""
    unread = [path for path, stamp in stamps.items() if (path, stamp) not in known]
    with ThreadPoolExecutor(8) as pool:
        bar = tqdm(
            pool.map(sha256, map(Path, unread)),
            total=len(unread),
            desc=title,
            unit="file",
            mininterval=1,
            disable=not progress or not unread,
        )
        return {(path, stamps[path]): digest for path, digest in zip(unread, bar, strict=True)}


def _stamp(path: str) -> str:
    try:
        return "|".join(map(str, Stamp.of(path)))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read as an image ({error}); bring it back, or prepare the data anew without it"
        ) from error
