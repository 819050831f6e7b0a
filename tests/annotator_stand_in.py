"""A program that speaks the annotators' protocol in LibreFace's place, for tests of those who ask it; its first
argument says what it does wrong.

It reads images by their colour: black is no face, blue several faces, and AU1 is the red, AU26 the green (0 .. 255 as 0
.. 5).
"""

import csv
import json
import os
import sys
import time
from pathlib import Path

from PIL import Image

KEYS = [f"AU{au}" for au in (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)]


def say(**value: object) -> None:
    print(json.dumps(value), flush=True)


def row(path: str) -> list[object]:
    try:
        with Image.open(path) as image:
            red, green, blue = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
    except OSError:
        return [path, "unreadable", *[""] * 12]
    if red == green == blue == 0:
        return [path, "no_face", *[""] * 12]
    return [path, "several_faces" if blue else "ok", red / 51, *[0.0] * 10, green / 51]


def main(wrong: str, log: Path) -> None:
    log.with_suffix(".pid").write_text(str(os.getpid()))
    if wrong == "dies at once":
        sys.exit("no weights here")
    if wrong == "hangs at once":
        time.sleep(60)
    if wrong == "chatters":
        print("Using device: cpu for inference...", flush=True)
    say(ready="another tool" if wrong == "is another" else "stand-in 1")
    for number, line in enumerate(sys.stdin):
        request = Path(line.rstrip("\n"))
        rows = [row(path) for path in request.read_text().splitlines()]
        with log.open("a") as file:
            file.write(f"{len(rows)}\n")
        if wrong == "hangs":
            time.sleep(60)
        if wrong == "dies" or (wrong == "dies at the third list" and number == 2):
            print("out of memory", file=sys.stderr)
            os._exit(9)
        rows = {
            "loses a row": rows[:-1],
            "swaps rows": rows[::-1],
            "invents a status": [[rows[0][0], "maybe", *rows[0][2:]], *rows[1:]],
            "reads a face where there is none": [[rows[0][0], "no_face", *rows[0][2:]], *rows[1:]],
            "reads nothing in a face": [[rows[0][0], "ok", *[""] * 12], *rows[1:]],
            "reads 7": [[*rows[0][:2], 7.0, *rows[0][3:]], *rows[1:]],
            "reads nan": [[*rows[0][:2], "nan", *rows[0][3:]], *rows[1:]],
            "reads a word": [[*rows[0][:2], "much", *rows[0][3:]], *rows[1:]],
            "writes short rows": [one[:5] for one in rows],
        }.get(wrong, rows)
        if wrong != "writes nothing":
            with Path(f"{request}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(
                    [["path", "status", *(KEYS[1:] if wrong == "forgets a column" else KEYS)], *rows]
                )
        say(done="another list" if wrong == "answers another" else str(request))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
