"""Faces in named rows and columns, as one picture."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from fineface_train.files import replacing
from fineface_train.toyfacs.render import to_uint8

GAP, HEAD, TEXT = 4, 20, 14


def to_picture(image: Tensor) -> Image.Image:
    """A (3, H, W) tensor of floats, clamped to [0, 1], as a picture."""
    return Image.fromarray(to_uint8(image[None])[0])


def save_webp(picture: Image.Image, path: Path) -> None:
    """Write a picture for a page or the documentation: a fifth of the size of a PNG, and faces look the same."""
    with replacing(path) as partial:
        picture.save(partial, format="WEBP", quality=85, method=6)


def face_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image | None]]], columns: Sequence[str], *, side: int, text: int = TEXT
) -> Image.Image:
    """A row of `side` pixels high faces for each (name, faces), its name at the left and those of the columns above;
    line breaks are kept. `text`: pixels of a letter."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    margin = 12 + max(round(pen.textbbox((0, 0), name, font_size=text)[2]) for name, _ in rows)
    head = HEAD - TEXT + text + (text + 4) * max(name.count("\n") for name in columns)
    sheet = Image.new("RGB", (margin + len(columns) * (side + GAP), head + len(rows) * (side + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(columns):
        pen.text(
            (margin + column * (side + GAP) + side // 2, head // 2),
            name,
            fill="black",
            font_size=text,
            anchor="mm",
            align="center",
        )
    for row, (name, faces) in enumerate(rows):
        top = head + row * (side + GAP)
        pen.text((6, top + side // 2), name, fill="black", font_size=text, anchor="lm")
        for column, face in enumerate(faces):
            if face is not None:
                sheet.paste(
                    face.convert("RGB").resize((side, side), Image.Resampling.LANCZOS),
                    (margin + column * (side + GAP), top),
                )
    return sheet
