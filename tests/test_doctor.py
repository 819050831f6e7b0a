"""`fineface doctor`: every part of a run is counted, with its seconds and bytes, and what is hopeless is said."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.data.crew import Crew
from fineface_train.data.disfa import reader as disfa
from fineface_train.data.disfa.config import DisfaConfig
from fineface_train.data.disfa.layout import find_copy
from fineface_train.data.prepare import prepare
from fineface_train.data.sources import Sources
from fineface_train.verbs.checkup.faults import unmeasured
from fineface_train.verbs.checkup.need import Need
from fineface_train.verbs.checkup.needs import all_needs
from fineface_train.verbs.checkup.trial import Training, Trial
from fineface_train.verbs.checkup.verdict import print_needs, shortages, too_slow
from tests.data.disfa_copy import Copy

TRAINING = Training(
    parts="",
    frozen=0,
    trainable=1000,
    averages=1000,
    activations=0,
    examples=4,
    tried=4,
    seconds=2.0,
    seconds_of_error=0.5,
)
TRIAL = Trial(TRAINING, image=3.0, picture=100, encoded=0.1, caption=0.01, latents=1000, embedding=10)
SMALL = ["data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"]
NOTHING = Sources(None, None, None)


def machine(processes: int = 1, device: str = "cpu") -> Any:
    return SimpleNamespace(num_processes=processes, device=SimpleNamespace(type=device))


def test_every_part_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose sample pictures took 260 of its 303 seconds was told to take 43."""
    monkeypatch.setattr("fineface_train.verbs.checkup.needs.load_judges", lambda *_: None)
    monkeypatch.setattr("fineface_train.verbs.checkup.needs.timed", lambda _: 0.25)
    changes = ["trainer.steps=10", "trainer.sample_every=4", "trainer.checkpoint_every=5", "evaluation.every=5"]
    where = [f"data.root={tmp_path / 'data'}", f"run.root={tmp_path / 'runs'}", "trainer.validate_every=3"]
    config = load_config([*SMALL, *changes, *where, "protocol=quick"], "doctor")
    needs = all_needs(config, machine(2), TRIAL, None, NOTHING)

    def seconds(words: str) -> float | None:
        (found,) = [need for need in needs if words in need.what]
        return found.seconds

    assert seconds("data: 96 drawings") is not None
    assert seconds("caches: at most 96 images, 96 captions") == pytest.approx((96 * 0.1 + 96 * 0.01) / 2)
    assert seconds("training: 10 steps") == 20.0
    assert seconds("validation: 4 x 128 examples") == 4 * 128 * 0.5
    assert seconds("sample pictures: 3 x 39 faces") == 3 * 39 * 3.0
    assert seconds("looks: 2 x 50 images, made and judged") == 2 * 50 * 3.25
    assert seconds("evaluation: 270 images and as many true drawings, made") == 270 * 3.0 / 2
    assert seconds("evaluation: 540 images judged") == 540 * 0.25 / 2
    sizes = {need.what.partition(":")[0]: need.bytes for need in needs if "judged" not in need.what}
    assert sizes["checkpoints"] == 9 * 1000  # two with weights, moments and averages, and a bundle
    assert sizes["caches"] == 96 * 1010
    assert sizes["evaluation"] == 2 * 270 * 100


def test_views_and_the_prior_are_counted(tmp_path: Path) -> None:
    line = [*SMALL, f"data.root={tmp_path}", "judge=none", "trainer.sample_every=0", "evaluation.after_training=false"]
    config = load_config([*line, "data.flip=0.5", "data.colour=0.2", "data.colour_variants=3"], "doctor")
    unprepared = all_needs(config, machine(), TRIAL, None, NOTHING)
    assert [need.bytes for need in unprepared if "mirrored" in need.what] == [5 * 96 * 1000]
    table = prepare(config.data, crew=Crew(quiet=True))
    needs = all_needs(config, machine(), TRIAL, table, NOTHING)
    training = int((table.frame["split"] == "train").sum())
    (views,) = [need for need in needs if "mirrored" in need.what]
    assert (views.bytes, views.seconds) == (5 * training * 1000, pytest.approx(5 * training * 0.1))
    assert not [need for need in needs if "drawings" in need.what]
    prior = load_config([*line, "method=dreambooth", "method.finetune.prior_images=20"], "doctor")
    (own,) = [need for need in all_needs(prior, machine(), TRIAL, table, NOTHING) if "base's own" in need.what]
    assert own.seconds == 20 * 3.0


def test_frames_to_extract_are_counted_until_they_are_there(corpus: Path, tmp_path: Path) -> None:
    root = Copy(images=None, videos="Videos_LeftCamera").write(corpus, tmp_path / "disfa")
    copy = find_copy(DisfaConfig(str(root), neutral_share=0.0))
    config = load_config(
        ["data=disfa", f"data.disfa.root={root}", f"data.root={tmp_path / 'data'}", "judge=none", "base=sd21"], "doctor"
    )
    found = Sources(copy, None, None)
    needs = all_needs(config, machine(), TRIAL, None, found)
    (frames,) = [need for need in needs if "frames of videos" in need.what]
    assert "35 frames" in frames.what
    assert frames.seconds is not None
    assert frames.seconds > 0
    rows = disfa.rows_to_expect(copy)
    assert f"caches: at most {rows} images" in next(need.what for need in needs if "caches" in need.what)
    disfa.ensure_frames(copy, tmp_path / "data" / "frames", Crew(quiet=True))
    written = sum(path.stat().st_size for path in (tmp_path / "data" / "frames").rglob("*.jpg"))
    assert frames.bytes == pytest.approx(written, rel=0.3)
    again = all_needs(config, machine(), TRIAL, None, found)
    assert not [need for need in again if "frames of videos" in need.what]


def test_what_is_not_measured_is_told_and_sums_leave_it_out(capsys: pytest.CaptureFixture[str]) -> None:
    needs = [Need("one", 3661.0, 2e9), Need("two", 30.0, 5e6, "data.root"), Need("three", None)]
    assert print_needs(needs) == 3691.0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[-4:] == [
        "1 h 1 min 2.00 GB one",
        "30 s 5.00 MB two",
        "? three",
        "1 h 1 min 2.00 GB in all, and 1 whose time is not measured here",
    ]


def test_a_full_disk_is_a_fault(tmp_path: Path) -> None:
    config = load_config([f"data.root={tmp_path}", f"run.root={tmp_path}"], "doctor")
    needs = [Need("images", 1.0, 6e17), Need("caches", 1.0, 6e17, "data.root")]
    (fault,) = shortages(config, machine(), 0, needs)
    assert f"data.root={tmp_path}, run.root={tmp_path}: 1200000000.0 GB are needed" in fault


def test_a_cpu_that_would_take_days_is_told_what_it_needs() -> None:
    config = load_config(["base=sd21_random", "data=toyfacs"], "doctor")
    slow = too_slow(config, machine(), 27.4 * 86_400, dataclasses.replace(TRAINING, seconds=100.0))
    assert slow is not None
    for words in ("27 days on this CPU", "needs a GPU", "experiment=quickstart", "trains 432 of trainer.steps=20000"):
        assert words in slow
    assert "30 hours on this CPU" in str(too_slow(config, machine(), 30 * 3600, TRAINING))
    assert too_slow(config, machine(), 86_000, TRAINING) is None
    assert too_slow(config, machine(device="cuda"), 27 * 86_400, TRAINING) is None


@pytest.mark.parametrize(("days", "status"), [(0.5, 0), (2.0, 0), (8.0, 2)])
def test_a_warning_from_a_day_on_and_a_fault_beyond_seven(
    days: float,
    status: int,
    tmp_path: Path,
    saved_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = dataclasses.replace(TRAINING, seconds=days * 86_400 / 10)
    trial = dataclasses.replace(TRIAL, training=training, image=0.0, encoded=0.0, caption=0.0)
    monkeypatch.setattr("fineface_train.verbs.doctor.try_out", lambda *_: trial)
    where = [
        f"data.root={tmp_path}",
        f"run.root={tmp_path}",
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
    ]
    assert main(["doctor", *SMALL, *where, "trainer.steps=10", "trainer.warmup_steps=0"]) == status
    told = capsys.readouterr()
    assert ("needs a GPU" in told.out) == (days == 2.0)
    assert ("needs a GPU" in told.err) == (days == 8.0)
    assert ("nothing is missing" in told.out) == (status == 0)


def test_a_judge_that_will_measure_nothing_is_told() -> None:
    assert unmeasured(load_config([], "doctor")) == []
    (none,) = unmeasured(load_config(["judge=none"], "doctor"))
    assert none.startswith("judge=none: the evaluation's images are made and nothing is measured; judge=toyfacs")
    (photographs,) = unmeasured(load_config(["judge=libreface"], "doctor"))
    assert "reads photographs, and base=toyfacs draws faces" in photographs
    assert unmeasured(load_config(["judge=libreface", "base=sd21"], "doctor")) == []
    (real,) = unmeasured(load_config(["base=sd21"], "doctor"))
    assert "judge=libreface measures them (LibreFace needs its weights: docs/annotation.md)" in real
    (never,) = unmeasured(load_config(["evaluation.after_training=false"], "doctor"))
    assert never.startswith("evaluation.after_training=false: nothing is evaluated")


def test_doctor_measures_with_a_judge_and_writes_nothing(
    tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [
        f"data.root={tmp_path}",
        f"run.root={tmp_path}",
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
    ]
    assert main(["doctor", *SMALL, *where, "data.flip=0.5", "trainer.steps=50"]) == 0
    out = capsys.readouterr().out
    for words in ("mirrored or in other colours", "as many true drawings, made", "images judged", "in all"):
        assert words in out
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor", *SMALL, *where, "method=sd", "trainer.steps=50"]) == 0
    out = capsys.readouterr().out
    assert "nothing is trained" in out
    assert "evaluation: " in out
    assert "training: " not in out
