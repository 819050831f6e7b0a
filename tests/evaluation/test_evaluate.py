import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPVisionConfig

from fineface_train.aus import AU_KEYS
from fineface_train.data.crew import ALONE, Crew
from fineface_train.evaluation.ceiling import DrawnFaces, ceiling
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.evaluate import evaluate
from fineface_train.evaluation.judges.clip import ClipImageScorer
from fineface_train.evaluation.judges.drawings import AttributeJudge
from fineface_train.evaluation.judges.judges import Judges
from fineface_train.evaluation.judges.models import AttributeClassifier
from fineface_train.evaluation.plan import EvaluationPrompt, PlannedImage, au_set, build_plan, toyfacs_prompts
from fineface_train.methods.protocol import Request
from fineface_train.toyfacs.render import to_uint8

FILES = ["images", "images.parquet", "media.json", "media.parquet", "metrics.json"]
SETS = [
    au_set({AU_KEYS[index % 12]: 2.0, AU_KEYS[(index * 5 + 1) % 12]: 4.0}, held_out=index >= 5) for index in range(10)
]


@pytest.fixture(scope="module")
def plan() -> list[PlannedImage]:
    return build_plan(ProtocolName.quick, toyfacs_prompts(), SETS, seed=3)


class ToldJudge:
    """A perfect AU judge: it knows the drawing of every planned image by its bytes, and finds no face in any other."""

    def __init__(self, plan: list[PlannedImage]) -> None:
        requests = [image.request for image in plan]
        self.known = {
            _digest(pixels): request.aus
            for pixels, request in zip(to_uint8(DrawnFaces(plan).generate(requests)), requests, strict=True)
        }

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        answers = [self.known.get(_digest(pixels)) for pixels in to_uint8(images)]
        aus = torch.tensor([answer or (0.0,) * 12 for answer in answers])
        return aus, torch.tensor([answer is not None for answer in answers])


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(pixels.tobytes()).digest()


class BrokenOffError(Exception):
    pass


class Counting:
    """A generator that counts what it makes and breaks off when it has made `limit` batches."""

    def __init__(self, inner: DrawnFaces, limit: int | None = None) -> None:
        self.inner, self.limit, self.made = inner, limit, [0]

    def generate(self, requests: list[Request]) -> Tensor:
        if self.limit is not None and len(self.made) > self.limit:
            raise BrokenOffError
        self.made.append(len(requests))
        return self.inner.generate(requests)


@pytest.fixture(scope="module")
def judges(plan: list[PlannedImage]) -> Judges:
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=16
    )
    clip = CLIPModel(
        CLIPConfig(
            vision_config=vision.to_dict(),
            text_config={"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2},
        )
    )
    scorer = ClipImageScorer(
        clip, CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    )
    return Judges({"told": ToldJudge(plan)}, scorer, AttributeJudge(AttributeClassifier(width=8)), "told")


@pytest.fixture(scope="module")
def whole(plan: list[PlannedImage], judges: Judges, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted evaluation of true drawings."""
    out = tmp_path_factory.mktemp("evaluation") / "whole"
    ceiling(judges, plan, out, ProtocolName.quick)
    return out


def run(
    plan: list[PlannedImage],
    judges: Judges,
    out: Path,
    generator: Counting,
    batch_size: int = 20,
    fingerprint: str = "drawn",
    crew: Crew = ALONE,
) -> dict:
    return evaluate(
        generator,
        judges,
        plan,
        out,
        protocol=ProtocolName.quick,
        bundle="true drawings",
        generator_fingerprint=fingerprint,
        batch_size=batch_size,
        crew=crew,
    )[1]


def test_true_drawings_before_a_perfect_judge_are_perfect(whole: Path) -> None:
    result = json.loads((whole / "metrics.json").read_text())
    found = {name: entry["value"] for name, entry in result["individual"].items()}
    assert found["slope"] == pytest.approx(1)
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["leakage"] == pytest.approx(0, abs=1e-9)
    assert found["au_mse_active"] == found["au_mse_mean"] == 0
    assert result["individual"]["au_mse_active"]["always_zero"] == pytest.approx((1 + 9 + 25) / 3)
    assert result["combination"]["au_mse_sum"]["value"] == 0
    assert found["clip_i"] < 1
    assert result["no_face_rate"] == 0
    assert (result["protocol"], result["bundle"], result["first_judge"], result["subset"]) == (
        "quick",
        "true drawings",
        "told",
        "held_out",
    )
    assert 0 <= result["attributes"]["mean"] <= 1


def test_what_is_written(whole: Path, plan: list[PlannedImage], judges: Judges) -> None:
    frame = pd.read_parquet(whole / "images.parquet")
    assert sorted(path.name for path in whole.iterdir()) == FILES
    assert list(frame["id"]) == [image.id for image in plan]
    assert "seconds" not in frame
    assert {"commanded", "seed", "told_AU26", "told_face", "clip_i", "attr_skin", "set_held_out"} <= set(frame)
    row = frame[frame["id"] == "p05_AU12_5"].iloc[0]
    pixels = np.array(Image.open(whole / row["path"]))
    expected = DrawnFaces(plan).generate([next(image.request for image in plan if image.id == row["id"])])
    assert np.array_equal(pixels, to_uint8(expected)[0])
    neutral = np.array(Image.open(whole / "images" / "p05_neutral.png"))
    both = judges.clip.embed(torch.from_numpy(np.stack([pixels, neutral])).permute(0, 3, 1, 2).float() / 255)
    assert row["clip_i"] == pytest.approx(float(both[0] @ both[1]), abs=1e-5)
    assert (frame.loc[frame["kind"] == "neutral", "clip_i"] == 1).all()


@pytest.mark.parametrize(("batches", "batch_size"), [(1, 20), (7, 20), (7, 25)])
def test_a_stopped_evaluation_goes_on_and_ends_the_same(
    plan: list[PlannedImage], judges: Judges, whole: Path, tmp_path: Path, batches: int, batch_size: int
) -> None:
    stopped = Counting(DrawnFaces(plan), limit=batches)
    with pytest.raises(BrokenOffError):
        run(plan, judges, tmp_path / "out", stopped)
    again = Counting(DrawnFaces(plan))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()}
    result = run(plan, judges, tmp_path / "out", again, batch_size=batch_size)  # The batches may have another size.
    assert sum(stopped.made) + sum(again.made) == len(plan) + (0 if batch_size == 20 else 20)  # one batch overlaps
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()}
    assert {name: after[name] for name in before} == before
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out" / "images.parquet"), pd.read_parquet(whole / "images.parquet"), rtol=1e-5
    )
    first = json.loads((whole / "metrics.json").read_text())
    assert {name: entry["value"] for name, entry in result["individual"].items()} == pytest.approx(
        {name: entry["value"] for name, entry in first["individual"].items()}
    )
    assert not (tmp_path / "out" / "rows").exists()


def test_a_finished_evaluation_is_read_back_and_never_overwritten(
    plan: list[PlannedImage], judges: Judges, whole: Path
) -> None:
    generator = Counting(DrawnFaces(plan))
    before = (whole / "metrics.json").read_text()
    assert run(plan, judges, whole, generator) == json.loads(before)
    assert sum(generator.made) == 0
    with pytest.raises(ValueError, match="holds another evaluation"):
        run(plan, judges, whole, generator, fingerprint="another bundle")
    assert (whole / "metrics.json").read_text() == before


def test_an_unfinished_evaluation_of_another_plan_is_refused(
    plan: list[PlannedImage], judges: Judges, tmp_path: Path
) -> None:
    with pytest.raises(BrokenOffError):
        run(plan, judges, tmp_path, Counting(DrawnFaces(plan), limit=1))
    other = build_plan(ProtocolName.quick, toyfacs_prompts(), SETS, seed=4)
    with pytest.raises(ValueError, match="choose another out folder or delete"):
        run(other, judges, tmp_path, Counting(DrawnFaces(plan)))


def test_images_of_no_face_are_counted(plan: list[PlannedImage], judges: Judges, tmp_path: Path) -> None:
    class Blank:
        def generate(self, requests: list[Request]) -> Tensor:
            return torch.full((len(requests), 3, 64, 64), 0.5)

    _, result = evaluate(
        Blank(),
        judges,
        plan,
        tmp_path,
        protocol=ProtocolName.quick,
        bundle="blank",
        generator_fingerprint="blank",
        batch_size=64,
    )
    assert result["no_face_rate"] == 1
    assert result["individual"]["au_mse_mean"]["value"] == pytest.approx(
        result["individual"]["au_mse_mean"]["always_zero"]
    )
    assert result["individual"]["slope"]["value"] is None
    assert result["individual"]["clip_i"]["value"] == pytest.approx(1)


def test_drawings_are_a_function_of_their_own_request(plan: list[PlannedImage]) -> None:
    drawn = DrawnFaces(plan)
    requests = [image.request for image in plan[:40]]
    torch.testing.assert_close(drawn.generate(requests)[7:9], drawn.generate(requests[7:9]), atol=1e-5, rtol=0)


def test_a_prompt_without_a_face_cannot_be_drawn() -> None:
    real = build_plan(ProtocolName.quick, [EvaluationPrompt("a man in a park", held_out=False)], SETS, seed=0)
    with pytest.raises(ValueError, match="a man in a park"):
        DrawnFaces(real)


def test_a_batch_size_of_zero_is_refused(plan: list[PlannedImage], judges: Judges, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        run(plan, judges, tmp_path, Counting(DrawnFaces(plan)), batch_size=0)


NOBODY = Judges({}, None, None, "none")


@pytest.mark.parametrize("batches", [3, None], ids=["stopped", "finished"])
def test_pictures_are_made_once_and_judged_later(
    plan: list[PlannedImage], judges: Judges, whole: Path, tmp_path: Path, batches: int | None
) -> None:
    """Without judges no number; judges that come later read the same images, also of one that was stopped, and end as
    if there from the start."""
    out = tmp_path / "out"
    first = Counting(DrawnFaces(plan), limit=batches)
    if batches is None:
        pictures = run(plan, NOBODY, out, first)
        assert pictures["images"] == len(plan)
        assert not {"individual", "clip_i", "first_judge"} & set(pictures)
        assert sorted(path.name for path in out.iterdir()) == [*FILES[:-1], "pictures.json"]
        assert run(plan, NOBODY, out, Counting(DrawnFaces(plan), limit=0)) == pictures
    else:
        with pytest.raises(BrokenOffError):
            run(plan, NOBODY, out, first)
    later = Counting(DrawnFaces(plan))
    run(plan, judges, out, later)
    assert sum(first.made) + sum(later.made) == len(plan)
    assert sorted(path.name for path in out.iterdir()) == FILES
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "images.parquet"), pd.read_parquet(whole / "images.parquet"), rtol=1e-5
    )
    judged = run(plan, NOBODY, out, Counting(DrawnFaces(plan), limit=0))  # nothing is left to make
    assert "individual" in judged


def test_judging_pictures_can_be_stopped_and_a_damaged_picture_is_made_again(
    plan: list[PlannedImage], judges: Judges, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(plan, NOBODY, out, Counting(DrawnFaces(plan)))
    victims = [out / "images" / f"{plan[place].id}.png" for place in (30, 31)]
    victims[0].write_bytes(victims[0].read_bytes()[:60])
    victims[1].unlink()
    with pytest.raises(BrokenOffError):
        run(plan, judges, out, Counting(DrawnFaces(plan), limit=0))
    again = Counting(DrawnFaces(plan))
    others = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir() if path not in victims}
    run(plan, judges, out, again)
    assert again.made == [0, 20]  # their batch, of which they alone are written
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert str(victims[0]) in caplog.text
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "images.parquet"), pd.read_parquet(whole / "images.parquet"), rtol=1e-5
    )


def test_other_pictures_are_not_judged_for_these(plan: list[PlannedImage], judges: Judges, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(plan, NOBODY, out, Counting(DrawnFaces(plan)))
    for who in (judges, NOBODY):
        with pytest.raises(ValueError, match="holds another evaluation"):
            run(plan, who, out, Counting(DrawnFaces(plan)), fingerprint="other weights")
