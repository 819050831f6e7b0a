"""From how an adapter answers to what to ask of it."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from fineface_train.aus import AU_COUNT
from fineface_train.cli import main
from fineface_train.evaluation.config import ProtocolName
from fineface_train.evaluation.plan import (
    build_plan,
    calibration_prompts,
    calibration_sets,
    toyfacs_combinations,
    toyfacs_prompts,
)
from fineface_train.files import read_json
from fineface_train.methods.calibration import Calibration, fit_calibration

LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)


def asked() -> np.ndarray:
    """Neutral, each AU alone at each level, and the sets of calibration; four prompts."""
    sets = [np.zeros(AU_COUNT), *(level * np.eye(AU_COUNT)[au] for au in range(AU_COUNT) for level in LEVELS)]
    return np.array([*sets, *(np.array(one.aus) for one in calibration_sets())] * 4)


class Answers:
    """An adapter that overshoots in the middle, leaks and has a baseline; AU 7 does not answer."""

    def __init__(self, seed: int = 0, leak: float = 0.1) -> None:
        rng = np.random.default_rng(seed)
        self.mixing = np.eye(AU_COUNT) + leak * rng.uniform(0, 1, (AU_COUNT, AU_COUNT)) * (1 - np.eye(AU_COUNT))
        self.gain = rng.uniform(0.6, 1.1, AU_COUNT)
        self.mixing[7], self.gain[7] = np.eye(AU_COUNT)[7], 0.0
        self.baseline = rng.uniform(0, 0.1, AU_COUNT)

    def __call__(self, requested: np.ndarray) -> np.ndarray:
        return self.baseline + (self.gain * 5 * (requested / 5) ** 0.6) @ self.mixing


def error(answers: Answers, wanted: np.ndarray, calibration: Calibration | None) -> float:
    """Mean squared error over the wanted AUs but the one that does not answer; what leaks to the others above 0 cannot
    be taken back."""
    requests = wanted if calibration is None else np.array([calibration.ask(row.tolist()) for row in wanted])
    return float(np.mean(((answers(requests) - wanted) ** 2)[(wanted > 0) & (np.arange(AU_COUNT) != 7)]))


def test_what_is_wanted_is_measured() -> None:
    answers = Answers()
    calibration = fit_calibration(asked(), answers(asked()))
    np.testing.assert_allclose(calibration.baseline, answers.baseline)
    rng = np.random.default_rng(1)
    wanted = rng.uniform(1, 2.9, (50, AU_COUNT)) * (rng.uniform(size=(50, AU_COUNT)) < 0.3)  # the weakest AU reaches 3
    assert error(answers, wanted, calibration) < 0.1 * error(answers, wanted, None)
    alone = 2.9 * np.eye(AU_COUNT)
    assert error(answers, alone, calibration) < 0.2 * error(answers, alone, None)


def test_noise_does_not_break_it() -> None:
    answers, rng = Answers(3), np.random.default_rng(0)
    calibration = fit_calibration(asked(), np.clip(answers(asked()) + 0.3 * rng.normal(size=asked().shape), 0, 5))
    assert all(np.diff(curve).min() >= 0 for curve in calibration.curves)
    wanted = 2 * np.eye(AU_COUNT)
    assert error(answers, wanted, calibration) < 0.5 * error(answers, wanted, None)


def test_what_does_not_answer_and_neutral_stay_as_they_are() -> None:
    calibration = fit_calibration(asked(), Answers()(asked()))
    assert calibration.ask([0.0] * AU_COUNT) == (0.0,) * AU_COUNT
    assert calibration.ask((4 * np.eye(AU_COUNT)[7]).tolist())[7] == 4


def test_never_more_is_asked_for_than_was_measured() -> None:
    requests = fit_calibration(asked(), Answers()(asked())).ask([100.0 * (au != 7) for au in range(AU_COUNT)])
    assert max(requests) == 5
    assert min(requests) >= 0


def test_an_exact_adapter_is_asked_for_what_is_wanted() -> None:
    calibration = fit_calibration(asked(), asked())
    np.testing.assert_allclose(
        calibration.ask([0, 1.5, 0, 5, 0, 0, 3, 0, 0, 0, 2, 0]), [0, 1.5, 0, 5, 0, 0, 3, 0, 0, 0, 2, 0], atol=1e-4
    )


def test_requests_that_calibrating_does_not_help_stay_as_they_are() -> None:
    calibration = fit_calibration(asked(), Answers()(asked()))
    one, two = [0.0, 2.0, *[0.0] * 10], [0.0, 2.0, 3.0, *[0.0] * 9]
    for alone, several in ((True, False), (False, True)):
        kept = dataclasses.replace(calibration, alone=alone, several=several)
        assert (kept.ask(one) == tuple(one)) is not alone
        assert (kept.ask(two) == tuple(two)) is not several


def test_missing_levels_are_an_error() -> None:
    requested = asked()
    kept = ~((requested[:, 2] == 4) & (requested.sum(1) == 4))
    with pytest.raises(ValueError, match="AU number 2 was not asked for"):
        fit_calibration(requested[kept], requested[kept])


def test_calibration_prompts_are_not_those_of_the_evaluation() -> None:
    mine, theirs = calibration_prompts(True), toyfacs_prompts()
    assert not {prompt.face.identity for prompt in mine if prompt.face} & {
        prompt.face.identity for prompt in theirs if prompt.face
    }
    assert not any(prompt.held_out for prompt in mine)
    assert len(build_plan(ProtocolName.calibration, mine, calibration_sets(), 0)) == 4 * (61 + 60)
    assert len(build_plan(ProtocolName.calibration, calibration_prompts(False), calibration_sets(), 0)) == 4 * (61 + 60)
    assert not {one.commanded for one in calibration_sets()} & {one.commanded for one in toyfacs_combinations()}


def test_a_bundle_is_calibrated_once_and_used_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the shipped base and one step of training, sampled in one step."""
    small = [
        "data.toyfacs.disfa_subjects=3",
        "data.toyfacs.disfa_frames=12",
        "data.toyfacs.affectnet_images=60",
        "trainer.batch_size=4",
        "trainer.steps=1",
    ]
    where = [
        f"data.root={tmp_path / 'data'}",
        f"run.root={tmp_path / 'runs'}",
        "tracking.wandb=false",
        "trainer.sample_every=0",
        "evaluation.after_training=false",
    ]
    assert main(["train", *small, *where]) == 0
    (bundle,) = (tmp_path / "runs").glob("toyfacs-*/bundle")
    generate = ["generate", f"bundle={bundle}", "prompt=a person", "aus=AU12=3", "method.sampling.steps=1"]
    assert main([*generate, "calibrated=true", f"out={tmp_path / 'a'}"]) == 2
    assert "make one with fineface calibrate bundle=" in capsys.readouterr().err
    assert main(["calibrate", f"bundle={bundle}", "method.sampling.steps=1"]) == 0
    said = capsys.readouterr().out
    assert "to be measured at 3 alone, ask for: AU1=" in said
    about = read_json(bundle / "calibration.json")
    for kind, name in (("alone", "one AU alone"), ("several", "several AUs")):
        before, after = (about["about"]["error"][way][kind] for way in ("as it is", "calibrated"))
        assert about[kind] is (after < before)
        assert re.search(
            rf"{name}.*: {before:.2f}, calibrated {after:.2f}; {'used' if about[kind] else 'not used'}", said
        )
    assert main(["calibrate", f"bundle={bundle}"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert main([*generate, "calibrated=true", f"out={tmp_path / 'a'}"]) == 0
    assert main(["train", *small, *where]) == 0  # a bundle with a calibration is still the run's own
    assert "finished already" in capsys.readouterr().out
    values = read_json(bundle / "calibration.json")
    values["weights"] = "0"
    (bundle / "calibration.json").write_text(json.dumps(values))
    assert main([*generate, "calibrated=true", f"out={tmp_path / 'b'}"]) == 2
    assert "belongs to another bundle" in capsys.readouterr().err
