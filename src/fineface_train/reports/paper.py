"""What the paper reports (arXiv 2407.20175, Tables 1 to 3): the ledger's other column."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """AU error and CLIP-I of single AUs and of combinations.

    The paper's formula for its AU error is a mean over AUs; its numbers are not (a judge that always says 0 would score
    0.92), so they are compared by their order only.
    """

    au_error: float
    clip_i: float
    combination_au_error: float
    combination_clip_i: float


PAPER: dict[str, dict[str, PaperRow]] = {
    "table1": {
        "method=sd": PaperRow(6.98, 0.80, 8.90, 0.71),
        "method=dreambooth": PaperRow(7.19, 0.87, 8.78, 0.80),
        "method=lora_t": PaperRow(7.45, 0.91, 9.06, 0.86),
        "method=lora_au": PaperRow(6.82, 0.98, 8.74, 0.91),
        "method=fineface": PaperRow(4.71, 0.92, 7.54, 0.83),
    },
    "table2": {
        "encoder=none": PaperRow(4.72, 0.94, 7.64, 0.86),
        "encoder=mlp": PaperRow(4.79, 0.86, 7.60, 0.76),
        "encoder=res_mlp": PaperRow(4.77, 0.84, 7.61, 0.74),
        "encoder=res_mlp64": PaperRow(4.71, 0.92, 7.54, 0.83),
        "encoder=res_3mlp": PaperRow(4.97, 0.91, 7.70, 0.83),
        "encoder=individual": PaperRow(5.48, 0.85, 7.97, 0.70),
    },
    "table3": {
        "labels=none": PaperRow(4.81, 0.81, 7.64, 0.72),
        "labels=fineface": PaperRow(4.71, 0.92, 7.54, 0.83),
    },
}
"""By table and arm. The names of the arms are those of configs/sweep."""
