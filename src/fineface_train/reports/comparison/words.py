"""Each arm's control in words: what its response curves say, as for a run."""

from typing import Any

from fineface_train.reports.verdict import ASKED, asked_and_read, leaks, miss, movement
from fineface_train.reports.words import number


def control_rows(found: dict[str, Any]) -> list[list[str]]:
    """A header, then for each arm: what was read where 1, 3 and 5 were asked, the typical miss, the worst leak, and how
    its AUs move."""
    asked = [f"asked {intensity:g}" for intensity in ASKED]
    rows = [["arm", *asked, "typical miss", "worst leak", "how AUs move"]]
    for arm, cells in found["numbers"]["individual"].items():
        own = {
            "individual": cells,
            "response_curve": found["response_curve"][arm],
            "leakage_matrix": found["leakage_matrix"][arm],
        }
        read = {one.intensity: number(one.mean) for one in asked_and_read(own)}
        worst = next(iter(leaks(own)), None)
        leak = f"{number(worst.slope)} {worst.asked} into {worst.into}" if worst else "–"
        readings = [read.get(intensity, "–") for intensity in ASKED]
        rows.append([f"`{arm}`", *readings, number(miss(cells).get("value")), leak, " ".join(movement(own)) or "–"])
    return rows
