"""A bundle knows its base: what `bundle=FOLDER` without `base=` composes to."""

import json
from pathlib import Path

import pytest

from fineface_train.compose import load_config
from fineface_train.config import Config
from fineface_train.data.conditioning import ConditioningConfig
from fineface_train.evaluation.judges.config import JudgeKind
from fineface_train.files import plain
from fineface_train.methods.au_diffusion.base import recorded
from fineface_train.methods.au_diffusion.bundle_config import BundleConfig
from fineface_train.methods.au_diffusion.config import (
    Architecture,
    BaseConfig,
    EncoderConfig,
    FinetuneConfig,
    PromptSet,
)
from fineface_train.verbs.base_of_bundle import with_base

SHIPPED = "bundle=data/toyfacs/bundle"


def bundle_of(base: BaseConfig, run: Path, *, old: bool = False) -> str:
    """The override of a bundle that was trained on `base`; an `old` one tells no more than its name and resolution."""
    config = BundleConfig(
        ConditioningConfig(),
        EncoderConfig(),
        FinetuneConfig(),
        base.name,
        {"float16": "0", "bfloat16": "0"},
        96,
        base.resolution,
        base=recorded(base),
    )
    values = plain(config)
    if old:
        del values["base"]
        values["format"] = 2
    (run / "bundle").mkdir(parents=True)
    (run / "bundle" / "config.json").write_text(json.dumps(values))
    return f"bundle={run / 'bundle'}"


def composed(*overrides: str) -> Config:
    """As a verb composes it, which refuses what nothing reads."""
    return load_config(with_base(list(overrides)), "evaluate")


@pytest.fixture
def base(tmp_path: Path) -> BaseConfig:
    folder = tmp_path / "Stable Diffusion, [v2] = 'ours'"
    folder.mkdir()
    return BaseConfig(name="sd21", path=str(folder), resolution=256, sampling_steps=50)


@pytest.mark.parametrize("old", [False, True])
def test_the_base_and_what_goes_with_it(old: bool, base: BaseConfig, tmp_path: Path) -> None:
    """A new bundle's base is told by itself, an old one's by the run that it lies in."""
    bundle = bundle_of(base, tmp_path / "run", old=old)
    if old:
        (tmp_path / "run" / "config.yaml").write_text(json.dumps({"base": plain(base), "seed": 0}))
    config = composed(bundle)
    assert (config.method.base.name, config.method.base.path, config.method.base.resolution) == ("sd21", base.path, 256)
    assert (config.judge.kind, config.method.sampling.guidance, config.method.sampling.steps) == (
        JudgeKind.none,
        7.5,
        50,
    )
    assert config.method.base.prompts is PromptSet.real


def test_what_is_chosen_beside_it_stays_chosen(base: BaseConfig, tmp_path: Path) -> None:
    bundle = bundle_of(base, tmp_path / "run")
    config = composed("method.sampling.guidance=2", bundle, "judge=libreface", "method.base.resolution=64")
    assert (
        config.method.sampling.guidance,
        config.judge.kind,
        config.method.base.resolution,
        config.method.base.path,
    ) == (
        2,
        JudgeKind.libreface,
        64,
        base.path,
    )
    assert composed(bundle, "base=toyfacs").method.base.name == "toyfacs"


def test_the_shipped_bundle_and_no_bundle() -> None:
    assert composed(SHIPPED).method.base == composed().method.base == load_config([]).method.base
    assert composed("bundle=null").method.base.name == "toyfacs"


def test_an_old_bundle_alone_has_its_name(tmp_path: Path) -> None:
    config = composed(bundle_of(BaseConfig(name="sd15", path="x", resolution=512), tmp_path, old=True))
    assert (config.method.base.name, config.method.base.resolution, config.judge.kind) == ("sd15", 512, JudgeKind.none)


def test_random_bases_too(tmp_path: Path) -> None:
    base = BaseConfig(name="sd21_random", architecture=Architecture.sd21_random, resolution=64)
    config = composed(bundle_of(base, tmp_path))
    assert (config.method.base.architecture, config.method.base.resolution, config.method.base.path) == (
        Architecture.sd21_random,
        64,
        None,
    )


def test_a_base_that_moved(base: BaseConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SD21_PATH", raising=False)
    bundle = bundle_of(base, tmp_path / "run")
    Path(str(base.path)).rename(tmp_path / "now")
    with pytest.raises(
        ValueError,
        match=r"the base sd21 in .*, which is no longer there; say where it is now: method\.base\.path=FOLDER",
    ):
        composed(bundle)
    assert composed(bundle, f"method.base.path={tmp_path / 'now'}").method.base.path == str(tmp_path / "now")
    monkeypatch.setenv("SD21_PATH", str(tmp_path / "now"))
    assert composed(bundle).method.base.path == str(tmp_path / "now")


def test_a_base_of_ones_own(base: BaseConfig, tmp_path: Path) -> None:
    base.name = "ours"
    config = composed(bundle_of(base, tmp_path / "run"))
    assert (config.method.base.name, config.method.base.path, config.method.sampling.guidance) == (
        "ours",
        base.path,
        7.5,
    )
    with pytest.raises(ValueError, match="trained on the base 'ours', which is no choice here"):
        composed(bundle_of(base, tmp_path / "other", old=True))


def test_a_hub_name_stays_one(tmp_path: Path) -> None:
    base = BaseConfig(name="sd21", path="somebody/fine-tuned", resolution=512)
    assert composed(bundle_of(base, tmp_path)).method.base.path == "somebody/fine-tuned"
