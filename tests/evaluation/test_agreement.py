"""How well judges read the labels of images: ICC(3,1) and MAE, and the command that writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fineface_train.aus import AU_KEYS
from fineface_train.cli import main
from fineface_train.evaluation.agreement import agreement, icc_3_1
from fineface_train.evaluation.metrics import bootstrap_weights
from fineface_train.files import read_json
from tests.reports.page_parser import Page

SHROUT_AND_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
"""Table 2 of Shrout and Fleiss (1979): six targets, four raters; table 4 gives ICC(3,1) = .71."""
DATA = ["data.toyfacs.disfa_subjects=4", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"]


def by_anova(ratings: np.ndarray) -> float:
    """ICC(3,1) from a two-way analysis of variance, as the paper writes it."""
    n, k = ratings.shape
    mean = ratings.mean()
    between = k * ((ratings.mean(1) - mean) ** 2).sum() / (n - 1)
    rest = ratings - ratings.mean(1, keepdims=True) - ratings.mean(0, keepdims=True) + mean
    error = (rest**2).sum() / ((n - 1) * (k - 1))
    return float((between - error) / (between + (k - 1) * error))


def test_icc_is_that_of_shrout_and_fleiss() -> None:
    value = float(icc_3_1(np.cov(SHROUT_AND_FLEISS, rowvar=False)))
    assert value == pytest.approx(0.7148, abs=5e-5)
    assert value == pytest.approx(by_anova(SHROUT_AND_FLEISS))
    assert np.isnan(icc_3_1(np.zeros((2, 2))))


def rated(rng: np.random.Generator, subjects: int = 7, each: int = 9) -> pd.DataFrame:
    count = subjects * each
    labels = rng.integers(0, 6, (count, 12)).astype(float)
    labels[:, 3] = 0.0  # AU5 never shows
    read = np.clip(0.6 * labels + rng.normal(0, 1, labels.shape) + 0.5, 0, 5)
    frame = pd.DataFrame(labels, columns=list(AU_KEYS))
    frame[[f"judge_{key}" for key in AU_KEYS]] = read
    return frame.assign(
        source="disfa", subject=np.repeat([f"S{one}" for one in range(subjects)], each), aus_from="people",
        judge_face=np.arange(count) % 9 > 0,
    )  # fmt: skip


def test_numbers_are_those_of_an_anova_and_intervals_resample_subjects() -> None:
    frame = rated(np.random.default_rng(0))
    found = agreement(frame, ["judge"])["disfa"]
    part = found["judges"]["judge"]
    assert (found["images"], found["subjects"], part["no_face_rate"]) == (63, 7, pytest.approx(1 / 9))
    iccs = {}
    for key in AU_KEYS:
        both, cell = frame[[key, f"judge_{key}"]].to_numpy(), part["per_au"][key]
        assert cell["mae"]["value"] == pytest.approx(np.abs(both[:, 0] - both[:, 1]).mean())
        if key == "AU5":
            assert cell["icc"] == {"value": None, "low": None, "high": None}
            continue
        iccs[key] = by_anova(both)
        assert cell["icc"]["value"] == pytest.approx(iccs[key])
        assert cell["icc"]["low"] < cell["icc"]["value"] < cell["icc"]["high"]
    assert part["icc"]["value"] == pytest.approx(np.mean(list(iccs.values())))
    draws = []
    for weights in bootstrap_weights(7, 0)[1:]:
        rows = np.concatenate([np.repeat(np.arange(9 * s, 9 * s + 9), int(w)) for s, w in enumerate(weights)])
        both = frame[["AU12", "judge_AU12"]].to_numpy()[rows]
        draws.append(by_anova(both))
    ends = part["per_au"]["AU12"]["icc"]
    assert [ends["low"], ends["high"]] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=1e-9)
    of = frame[frame["subject"] == "S3"]
    mine = [by_anova(of[[key, f"judge_{key}"]].to_numpy()) for key in AU_KEYS if key != "AU5"]
    assert part["per_subject"]["S3"]["icc"] == pytest.approx(np.mean(mine))
    assert part["per_subject"]["S3"]["images"] == 9
    ordered = [cell["icc"] for cell in part["per_subject"].values()]
    assert ordered == sorted(ordered)


def test_a_constant_offset_lowers_no_icc_and_shows_in_the_mae() -> None:
    frame = rated(np.random.default_rng(1))
    frame[[f"judge_{key}" for key in AU_KEYS]] = frame[list(AU_KEYS)].to_numpy() + 0.75
    part = agreement(frame, ["judge"])["disfa"]["judges"]["judge"]
    assert part["icc"]["value"] == pytest.approx(1)
    assert part["mae"]["value"] == pytest.approx(0.75)


def test_an_au_that_the_judge_cannot_read_is_null_and_no_mean_takes_it_for_0() -> None:
    frame = rated(np.random.default_rng(2))
    before = agreement(frame, ["judge"])["disfa"]["judges"]["judge"]
    frame["judge_AU9"] = np.nan
    after = agreement(frame, ["judge"])["disfa"]["judges"]["judge"]
    assert after["per_au"]["AU9"]["mae"]["value"] is None
    assert after["per_au"]["AU9"]["icc"]["value"] is None
    others = [before["per_au"][key]["mae"]["value"] for key in AU_KEYS if key != "AU9"]
    assert after["mae"]["value"] == pytest.approx(np.mean(others))
    assert after["mae"]["low"] is not None


def test_many_subjects_need_little_memory() -> None:
    """AffectNet's images are each a subject of their own; (draws, subjects, subjects) would be 36 GB here."""
    weights = bootstrap_weights(6000, 0, draws=1000)
    assert (weights.sum(1) == 6000).all()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("judged judge")
    assert main(["judge", *DATA, f"data.root={root / 'data'}", f"run.root={root / 'runs'}"]) == 0
    return root


def test_judges_of_drawings_read_drawn_labels(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = (drawn / "runs").iterdir()
    assert folder.name.startswith("agreement-toyfacs-validation-toyfacs-")
    found = read_json(folder / "agreement.json")
    assert set(found["sources"]) == {"disfa", "affectnet"}
    for of in found["sources"].values():
        assert set(of["judges"]) == {"judge_one", "judge_two"}
        for part in of["judges"].values():
            assert part["icc"]["value"] > 0.95
            assert part["mae"]["value"] < 0.1
            assert not part["wrote_labels"]
    rows = pd.read_parquet(folder / "readings.parquet")
    assert len(rows) == found["images"]
    assert set(rows["split"]) == {"validation"}
    assert {"judge_one_AU12", "judge_two_face", "AU12", "subject"} <= set(rows)
    assert not [column for column in rows if "clip" in column]
    assert not Page((folder / "report.html").read_text()).open
    assert "ICC(3,1)" in (folder / "report.md").read_text()
    before = (folder / "readings.parquet").stat().st_mtime_ns
    assert main(["judge", *DATA, f"data.root={drawn / 'data'}", f"run.root={drawn / 'runs'}"]) == 0
    assert (folder / "readings.parquet").stat().st_mtime_ns == before
    assert "disfa" in capsys.readouterr().out


def test_the_split_is_a_choice_and_folds_have_a_test_split(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [f"data.root={drawn / 'data'}", f"run.root={drawn / 'runs'}"]
    assert main(["judge", *DATA, *places, "split=test"]) == 2
    assert "split=test: data toyfacs has no such images" in capsys.readouterr().err
    assert main(["judge", *DATA, *places, "split=everything"]) == 2
    assert "split" in capsys.readouterr().err
    fold = [*DATA, "data.disfa.fold=0", f"data.root={drawn / 'fold'}", f"out={drawn / 'out'}"]
    assert main(["judge", *fold]) == 0
    found = read_json(drawn / "out" / "agreement.json")
    assert (found["split"], list(found["sources"])) == ("test", ["disfa"])
    assert main(["judge", *fold, "split=validation"]) == 2
    assert "holds the readings of another judge or of other images" in capsys.readouterr().err


def test_pictures_and_data_are_two_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", f"images={tmp_path}"]) == 2
    assert "or neither, to measure the judge itself" in capsys.readouterr().err
    assert main(["judge", f"images={tmp_path}", "requests=some.csv", "split=test"]) == 2
    assert "nothing reads split with images=DIR requests=FILE.csv" in capsys.readouterr().err
    assert main(["judge", "judge=none"]) == 2
    assert "judge=none measures nothing" in capsys.readouterr().err


def test_a_stopped_reading_goes_on(drawn: Path) -> None:
    """Batches that are read are not read again, and what comes out is the same."""
    (folder,) = (drawn / "runs").iterdir()
    whole = read_json(folder / "agreement.json")
    from fineface_train.evaluation.judges.drawings import ToyFacsJudge

    read, calls = ToyFacsJudge.read, 0

    def stopping(self: ToyFacsJudge, images: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise ValueError("stands for a kill")
        return read(self, images)  # type: ignore[arg-type]

    again = ["judge", *DATA, f"data.root={drawn / 'data'}", f"out={drawn / 'stopped'}", "evaluation.batch_size=4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ToyFacsJudge, "read", stopping)
        assert main(again) == 2
        assert len(list((drawn / "stopped" / "rows").glob("*.parquet"))) == 2
        assert main(again) == 0
    assert calls == 5 + 2 * (5 - 2)  # two judges, five batches
    found = read_json(drawn / "stopped" / "agreement.json")
    assert found["sources"]["affectnet"]["images"] == whole["sources"]["affectnet"]["images"]
    assert not (drawn / "stopped" / "rows").exists()


def test_a_judge_that_wrote_the_labels_is_told(drawn: Path) -> None:
    from fineface_train.reports.agreement import write_agreement_report

    (folder,) = (drawn / "runs").iterdir()
    found = read_json(folder / "agreement.json")
    found["sources"]["affectnet"]["judges"]["judge_one"]["wrote_labels"] = True
    page = write_agreement_report(drawn / "told", found).read_text()
    assert "judge_one wrote the labels of affectnet itself" in page
    assert "judge_one wrote the labels of disfa itself" not in page
