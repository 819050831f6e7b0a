"""The numbers of a run's page as a file for other programs."""

import csv
import io

from fineface_train.aus import AU_KEYS
from fineface_train.reports.headline import DRAWN, NOTHING, ZERO, floor, headline_rows, unmoved
from fineface_train.reports.run_folder import RunFolder
from fineface_train.reports.verdict import miss


def numbers_csv(run: RunFolder) -> str:
    """All that the page's tables and charts show, a number a row, as CSV."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("of", "judge", "kind", "metric", "au", "measured_au", "asked", "value", "low", "high"))
    nothing = floor(run)
    ceiling = run.metrics.get("ceiling") or {}
    for key, (_, _, cells) in headline_rows(run.metrics).items():
        for kind, cell in cells.items():
            here = (run.judge, kind, key, "", "", "")
            rows.writerow(("model", *here, *(cell.get(part) for part in ("value", "low", "high"))))
            rows.writerow((ZERO, *here, cell.get("always_zero"), "", ""))
            if nothing is not None:
                rows.writerow((NOTHING, *here, unmoved(nothing, kind, key), "", ""))
            drawn = ceiling.get(kind) or {}
            value = miss(drawn).get("value") if key == "miss" else (drawn.get(key) or {}).get("value")
            rows.writerow((DRAWN, *here, value, "", ""))
    for judge, found in (run.metrics.get("judges") or {}).items():
        for au, values in (found.get("per_au") or {}).items():
            for name in ("slope", "rank_correlation", "au_mse_active", "zero_reading"):
                ends = (values.get(f"{name}_low"), values.get(f"{name}_high"))
                rows.writerow(("model", judge, "individual", name, au, au, "", values.get(name), *ends))
    for au, curve in (run.metrics.get("response_curve") or {}).items():
        for place, asked in enumerate(curve["requested"]):
            values = (curve[part][place] for part in ("measured_mean", "low", "high"))
            rows.writerow(("model", run.judge, "individual", "reading", au, au, asked, *values))
    for asked_au, slopes in zip(AU_KEYS, run.metrics.get("leakage_matrix") or [], strict=False):
        for au, slope in zip(AU_KEYS, slopes, strict=True):
            rows.writerow(("model", run.judge, "individual", "leakage slope", asked_au, au, "", slope, "", ""))
    return file.getvalue()
