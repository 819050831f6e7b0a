"""The config of a family: one typed subtree, `method`, chosen by method=NAME, also of a family outside the package."""

import dataclasses
import sys
from pathlib import Path

import pytest

from fineface_train.compose import chosen_family, load_config, method_of
from fineface_train.config import to_yaml, training_values
from fineface_train.help import part_help, verb_help
from fineface_train.methods.au_diffusion.config import OPTIONS, EncoderConfig, EncoderName, Method
from fineface_train.methods.au_diffusion.encoders import ENCODERS, build_encoder
from fineface_train.overrides import choices
from fineface_train.places import CONFIGS
from fineface_train.verbs.sweep_arms import read_arms

DUMMY = '''
import dataclasses
from fineface_train.methods.config import MethodConfig

@dataclasses.dataclass
class Eyes:
    """How eyes are drawn."""

    blink: float = 0.1
    """Share of frames with closed eyes."""
    word: str = "wink"

@dataclasses.dataclass
class Method(MethodConfig):
    """Faces of two dots."""

    width: int = 3
    """Dots beside each other."""
    eyes: Eyes = dataclasses.field(default_factory=Eyes)
    asked = ("eyes",)

    def validate(self, key: str) -> None:
        if self.width < 1:
            raise ValueError(f"{key}.width={self.width}: must be at least 1")

    def unused(self) -> dict[str, str]:
        return {} if self.eyes.blink else {"eyes.word": "method.eyes.blink=0"}
'''
YAMLS = {
    "method/dots.yaml": "# @package _global_\n# Two dots.\ndefaults:\n  - /eyes: open\n"
    "method:\n  family: dot_faces\n  width: 5\n",
    "eyes/open.yaml": "# @package method.eyes\n# Never closed.\nblink: 0.0\n",
    "eyes/blinking.yaml": "# @package method.eyes\n# Now and then.\nblink: 0.5\n",
    "experiment/dotted.yaml": "# @package _global_\ndefaults:\n  - /method/dots\nexperiment: dotted\n"
    "trainer:\n  steps: 7\n",
}


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A family in a folder of its own, and the override that finds its YAML."""
    (tmp_path / "packages" / "dot_faces").mkdir(parents=True)
    (tmp_path / "packages" / "dot_faces" / "__init__.py").touch()
    (tmp_path / "packages" / "dot_faces" / "config.py").write_text(DUMMY)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "dot_faces", raising=False)
    monkeypatch.delitem(sys.modules, "dot_faces.config", raising=False)
    for name, text in YAMLS.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return f"hydra.searchpath=[file://{tmp_path / 'configs'}]"


def test_a_family_elsewhere_has_its_own_keys_and_choices(where: str) -> None:
    line = [where, "judge=none"]
    config = load_config([*line, "method=dots"], "train")
    method = training_values(config)["method"]
    assert method == {"family": "dot_faces", "width": 5, "eyes": {"blink": 0.0, "word": "wink"}}
    assert config.trainer == load_config([]).trainer
    chosen = load_config([*line, "method=dots", "eyes=blinking", "method.width=9", "method.eyes.word=01"], "train")
    assert (chosen.method.width, chosen.method.eyes.blink, chosen.method.eyes.word) == (9, 0.5, "01")
    assert load_config([*line, "experiment=dotted"]).method == config.method
    assert "family: dot_faces" in to_yaml(config)
    assert "encoder" not in to_yaml(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["method=dots", "encoder=mlp"],
            r"encoder is a choice of the family fineface_train\.methods\.au_diffusion; method=dots is of the family "
            r"dot_faces, whose choices are eyes; leave encoder out, or choose another method",
        ),
        (["method=dots", "base=sd21"], r"base is a choice of the family fineface_train\.methods\.au_diffusion"),
        (["eyes=open"], r"eyes is a choice of the family dot_faces; .*, whose choices are base, conditioning, encoder"),
        (["method=fineface", "eyes=open"], r"eyes is a choice of the family dot_faces; method=fineface is of the"),
        (
            ["experiment=fineface", "method=dots"],
            r"encoder is a choice of .*\(experiment=fineface chooses encoder\); .*leave experiment=fineface out",
        ),
        (
            ["method=dots", "experiment=quickstart", "method.with=2"],
            r"method\.with: no such key of the family dot_faces",
        ),
        (["method=dots", "method.widht=2"], r"there are method\.width, method\.eyes; did you mean method\.width\?"),
        (["method=dots", "method.eyes.colour=2"], r"there are method\.eyes\.blink, method\.eyes\.word"),
        (["method=dots", "method.encoder.hidden=2"], r"method\.encoder: no such key of the family dot_faces"),
        (["method=dots", "method.width=0"], r"method\.width=0: must be at least 1"),
        (["method=dots", "method.width=wide"], r"method\.width: .*wide"),
        (["method=dots", "method.family=x"], r"method\.family=x: is set by method=NAME; there are dots, dreambooth"),
        (["method=dots", "method.eyes.word=x"], r"nothing reads method\.eyes\.word with method\.eyes\.blink=0"),
        (["method=dits"], r"method=dits: no such choice; there are dots, .*; did you mean dots\?"),
        (["method=dots", "eyes=shut"], r"eyes=shut: no such choice; there are blinking, open"),
        (["method=dots", "evaluation.every=5"], r"judge=toyfacs reads drawn faces, which method\.family=dot_faces"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_another_familys_is_refused_by_name(where: str, arguments: list[str], message: str) -> None:
    quiet = [] if any("evaluation" in one for one in arguments) else ["judge=none"]
    with pytest.raises(ValueError, match=message) as raised:
        load_config([where, *quiet, *arguments], "train")
    assert len(str(raised.value).splitlines()) == 1


def test_a_verb_of_bundles_reads_what_the_family_says(where: str) -> None:
    family = chosen_family([where, "method=dots"], [Path(where[:-1].partition("file://")[2]), CONFIGS])
    assert family.method.asked == ("eyes",)
    with pytest.raises(ValueError, match="fineface generate does not read method"):
        load_config([where, "method=dots"], "generate")


def test_a_sweep_may_have_arms_of_two_families(where: str) -> None:
    arms = read_arms([where, "method=dots,fineface", "judge=none", "trainer.steps=5,6"])
    assert [one.method.family.rpartition(".")[2] for one in arms.configs] == [*["dot_faces"] * 2, *["au_diffusion"] * 2]
    with pytest.raises(ValueError, match=r"method\.width: no such key of the family fineface_train"):
        read_arms([where, "method=dots,fineface", "judge=none", "method.width=5"])


def test_help_of_another_family(where: str) -> None:
    page = verb_help("train", "train", [where, "method=dots"])
    assert "  method                Faces of two dots." in page
    assert "  eyes                  blinking, open" in page
    assert "encoder" not in page
    part = part_help("train", "eyes", [where, "method=dots"])
    assert "Never closed." in part
    assert "  method.eyes.blink=0.0\n      Share of frames with closed eyes." in part


def test_a_family_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"method\.family=no_such_family: no module no_such_family; .*PYTHONPATH"):
        method_of("no_such_family")
    (tmp_path / "half_a_family").mkdir()
    (tmp_path / "half_a_family" / "config.py").write_text("Method = 3\n")
    with pytest.raises(ValueError, match=r"half_a_family\.config has no dataclass Method"):
        method_of("half_a_family")
    (tmp_path / "half_a_family" / "config.py").write_text("import no_such_library\n")
    sys.modules.pop("half_a_family.config")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):  # its own fault, with its traceback
        method_of("half_a_family")


@pytest.mark.parametrize("name", choices("method"))
def test_every_method_says_its_family_and_composes(name: str) -> None:
    for base in (["base=sd21", "judge=none"], []):
        method = load_config([f"method={name}", *base], "train").method
        assert isinstance(method, Method)
        assert method.family == Method.family


def test_the_default_and_one_choice_beside_it() -> None:
    """What encoder=res_mlp64 leaves of the default arm."""
    default, one = load_config([]).method, load_config(["encoder=res_mlp64"]).method
    assert (one.encoder.name, default.encoder.name) == (EncoderName.res_mlp64, EncoderName.per_au_tokens)
    assert (one.finetune.adapter_rate, one.finetune) == (3, default.finetune)
    assert default.sampling.steps == default.base.sampling_steps == 15


class Watched:
    """An encoder's config that notes which keys are read."""

    def __init__(self, config: EncoderConfig) -> None:
        self.config, self.read = config, set[str]()

    def __getattr__(self, name: str) -> object:
        self.read.add(name)
        return getattr(self.config, name)


@pytest.mark.parametrize("name", EncoderName, ids=lambda name: name.value)
def test_encoders_read_the_options_that_the_config_says(name: EncoderName) -> None:
    assert set(OPTIONS) == set(ENCODERS) == set(EncoderName)
    watched = Watched(EncoderConfig(name=name))
    build_encoder(watched, 96)  # type: ignore[arg-type]
    assert watched.read == {"name", *OPTIONS[name]}
    assert watched.read <= {field.name for field in dataclasses.fields(EncoderConfig)}


def test_an_experiment_that_cannot_choose_the_method_so_is_told_how(where: str) -> None:
    path = Path(where[:-1].partition("file://")[2]) / "experiment" / "vain.yaml"
    path.write_text("# @package _global_\ndefaults:\n  - override /method: dots\nexperiment: vain\n")
    with pytest.raises(ValueError, match=r"experiment/vain\.yaml cannot override method, .*; write `- /GROUP/NAME`"):
        load_config([where, "experiment=vain"])
