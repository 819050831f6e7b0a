"""Media are made once: other judges read the files that are there, and write beside the numbers of those before."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from fineface_train.data.crew import ALONE, Crew
from fineface_train.evaluation.ceiling import DrawnFaces
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.evaluate import evaluate
from fineface_train.evaluation.judges.config import JudgeConfig
from fineface_train.evaluation.judges.judges import Judges, load_judges
from fineface_train.evaluation.plan import PlannedImage, build_plan, toyfacs_combinations, toyfacs_prompts
from fineface_train.files import write_json
from fineface_train.methods.protocol import FaceGenerator, Request
from tests.evaluation.drawn_evaluation import PLAN

BATCHES = 9
"""One of neutrals, and 8 of the other 60 images, by 8."""


class Nobody:
    """A generator that is never asked."""

    def generate(self, requests: list[Request]) -> Tensor:
        raise AssertionError("an image was made again")


class Constant:
    """A judge that reads one number; it fails in batch `fails`, if that is given."""

    def __init__(self, value: float, fails: int | None = None) -> None:
        self.value, self.left = value, fails

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.left is not None:
            if self.left == 0:
                raise InterruptedError
            self.left -= 1
        return torch.full((len(images), 12), self.value), torch.ones(len(images), dtype=torch.bool)


@pytest.fixture(scope="module")
def drawings() -> Judges:
    return load_judges(JudgeConfig())


def constant(drawings: Judges, value: float, fails: int | None = None) -> Judges:
    judge = Constant(value, fails)
    return Judges({"constant": judge}, drawings.clip, None, f"constant {value}", drawings.size, "constant")


def run(
    judges: Judges,
    out: Path,
    generator: FaceGenerator | None = None,
    plan: list[PlannedImage] = PLAN,
    crew: Crew = ALONE,
) -> tuple[Path, dict[str, Any]]:
    return evaluate(
        generator or DrawnFaces(PLAN),
        judges,
        plan,
        out,
        protocol=ProtocolName.quick,
        bundle="true drawings",
        generator_fingerprint="drawn",
        batch_size=8,
        crew=crew,
    )


@pytest.fixture(scope="module")
def judged(drawings: Judges, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    assert run(drawings, out)[0] == out
    return out


def test_a_second_judge_has_a_folder_of_its_own_and_makes_no_image(
    judged: Path, drawings: Judges, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(judged, out)
    before = (out / "metrics.json").read_bytes()
    place, metrics = run(constant(drawings, 2.0), out, Nobody())
    assert place == out / "judged-constant"
    assert metrics["first_judge"] == "constant"
    assert (out / "metrics.json").read_bytes() == before
    rows = pd.read_parquet(place / "images.parquet")
    assert (rows["constant_AU1"] == 2).all()
    assert all((place / path).is_file() for path in rows["path"])  # the same media
    assert sorted(path.name for path in place.iterdir()) == ["images.parquet", "metrics.json"]
    assert run(constant(drawings, 2.0), out, Nobody()) == (place, metrics)
    third, _ = run(constant(drawings, 3.0), out, Nobody())  # of the same name, and other weights
    assert third.name.startswith("judged-constant-")
    assert json.loads((place / "metrics.json").read_text()) == metrics
    assert run(drawings, out, Nobody())[0] == out


def test_a_judging_that_was_stopped_goes_on(judged: Path, drawings: Judges, tmp_path: Path) -> None:
    """Beside another judge's that was stopped too; rows of batches that are done are not read again."""
    out = tmp_path / "out"
    with pytest.raises(InterruptedError):
        run(constant(drawings, 1.0, fails=3), out)
    with pytest.raises(InterruptedError):
        run(constant(drawings, 2.0, fails=4), out, Nobody())
    done = [len(list((out / name / "rows").glob("*.parquet"))) for name in (".", "judged-constant")]
    assert done == [3, 4]
    again = constant(drawings, 1.0, fails=BATCHES - 3)
    assert run(again, out, Nobody())[0] == out
    assert again.aus["constant"].left == 0  # type: ignore[attr-defined]
    assert run(constant(drawings, 2.0, fails=BATCHES - 4), out, Nobody())[0] == out / "judged-constant"


def test_a_damaged_batch_of_rows_is_named_and_read_again(
    judged: Path, drawings: Judges, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    with pytest.raises(InterruptedError):
        run(constant(drawings, 1.0, fails=4), out)
    victim = sorted((out / "rows").glob("*.parquet"))[1]
    victim.write_bytes(victim.read_bytes()[:50])
    run(constant(drawings, 1.0), out, Nobody())
    assert f"{victim} is damaged" in caplog.text


def test_images_of_a_version_that_knew_them_by_their_judges(judged: Path, drawings: Judges, tmp_path: Path) -> None:
    """It kept no manifest, and no fingerprint of the images alone: finished, it is found so; stopped, its rows say
    which images are whole."""
    old = tmp_path / "old"
    shutil.copytree(judged, old)
    for name in ("media.json", "media.parquet"):
        (old / name).unlink()
    metrics = json.loads((old / "metrics.json").read_text())
    del metrics["images_fingerprint"]
    write_json(old / "metrics.json", metrics)
    assert run(drawings, old, Nobody()) == (old, metrics)

    rows = pd.read_parquet(old / "images.parquet").drop(columns=["unit", "neutral"])
    (old / "metrics.json").unlink()
    (old / "rows").mkdir()
    rows.iloc[:10].assign(seconds=0.1).to_parquet(old / "rows" / "000000.parquet", index=False)
    write_json(old / "rows" / "plan.json", {"fingerprint": metrics["fingerprint"]})
    half = old / rows["path"].iloc[10]
    half.write_bytes(half.read_bytes()[:80])  # it was killed when it wrote this one
    whole = old / rows["path"].iloc[5]
    stamp = whole.stat().st_mtime_ns
    place, again = run(drawings, old)
    assert place == old
    assert again | {"seconds": 0} == json.loads((judged / "metrics.json").read_text()) | {"seconds": 0}
    assert whole.stat().st_mtime_ns == stamp
    assert half.read_bytes() == (judged / rows["path"].iloc[10]).read_bytes()


def test_media_of_another_plan_are_refused(judged: Path, drawings: Judges) -> None:
    other = build_plan(ProtocolName.quick, toyfacs_prompts(), toyfacs_combinations(), seed=4)
    with pytest.raises(ValueError, match="holds another evaluation"):
        run(constant(drawings, 2.0), judged, Nobody(), other)


def test_two_of_a_crew_share_the_work(judged: Path, drawings: Judges, tmp_path: Path) -> None:
    """As threads here; tests/evaluation/test_processes.py has processes."""
    out, barrier, made = tmp_path / "out", threading.Barrier(2), [0, 0]
    found: list[Any] = [None, None]

    class Counted(DrawnFaces):
        def __init__(self, index: int) -> None:
            super().__init__(PLAN)
            self.index = index

        def generate(self, requests: list[Request]) -> Tensor:
            made[self.index] += len(requests)
            return super().generate(requests)

    def work(index: int) -> None:
        crew = Crew(index, 2, lambda: barrier.wait(60) and None)
        found[index] = run(drawings, out, Counted(index), crew=crew)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(made) == len(PLAN)
    assert max(made) - min(made) <= 8
    assert found[0] == found[1] is not None
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "images.parquet"), pd.read_parquet(judged / "images.parquet"), check_exact=True
    )
    for path in (judged / "images").iterdir():
        assert path.read_bytes() == (out / "images" / path.name).read_bytes()
