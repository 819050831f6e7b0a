"""Numbers, tables and commands as people read them."""

import math
import shlex
from typing import Any

METRIC_NAMES: dict[str, tuple[str, str]] = {
    "au_mse_active": ("AU error, commanded AUs", "squared error on the AUs that were asked for; lower is better"),
    "au_mse_mean": ("AU error, mean of 12 AUs", "squared error averaged over all AUs; lower is better"),
    "au_mse_sum": ("AU error, sum of 12 AUs", "squared error summed over all AUs; lower is better"),
    "clip_i": (
        "CLIP-I to neutral",
        "similarity to the neutral face; it falls as the face moves, so read it with the AU error",
    ),
    "slope": ("Slope", "measured over requested intensity; 1 is ideal, and an on/off answer can have it too"),
    "rank_correlation": (
        "Rank correlation",
        "Spearman with ties; 1 is ideal, and it says nothing about the size of the effect",
    ),
    "leakage": ("Leakage", "movement of AUs not asked for, relative to those that were; lower is better"),
    "attributes": ("Caption kept", "share of the caption's attributes that the face shows; higher is better"),
    "identity": (
        "Identity kept",
        "share of faces that show all of the identity (skin, hair, style, glasses, beard); higher is better",
    ),
}
"""The metrics of metrics.json in the order of the tables: (name, meaning)."""
MISS = ("Typical miss, commanded AUs", "root of the mean squared error, in points of intensity (0 to 5)")
"""Name and meaning of the root of `au_mse_active`."""


def command(verb: str, *overrides: str) -> str:
    """A line to type into a shell."""
    return shlex.join(["fineface", verb, *overrides])


def number(value: float | None, digits: int = 2) -> str:
    """A number for people: fixed decimals, an en dash for what is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def interval(cell: dict[str, Any], digits: int = 2) -> str:
    """The 95% interval of a metric as "1.80 to 2.10"."""
    if cell.get("low") is None:
        return "–"
    return f"{number(cell['low'], digits)} to {number(cell['high'], digits)}"


def compact(value: float) -> str:
    """A short axis label or count: 12000 as 12k, 0.0003 as 3e-4."""
    size = abs(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.3g}{suffix}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"


def listed(names: list[str]) -> str:
    """Names as in a sentence: "AU1", "AU1 and AU2", "AU1, AU2 and AU4"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def markdown_table(rows: list[list[str]]) -> str:
    """Rows, the first being the header, as an aligned Markdown table; numbers to the right, names and sentences to the
    left."""
    columns = range(len(rows[0]))
    widths = [max(3, *(len(row[column]) for row in rows)) for column in columns]
    cells_of = [[row[column] for row in rows[1:]] for column in columns]
    names = [all(not one[:1].isdigit() or one.endswith(".") for one in cells) for cells in cells_of]
    cells = [
        [text.ljust(width) if left else text.rjust(width) for text, width, left in zip(row, widths, names, strict=True)]
        for row in rows
    ]
    rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, names, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [cells[0], rule, *cells[1:]])
