"""CONTRIBUTING's recipes, followed to the letter in a copy of the repository: an encoder, an arm, a sweep, a judge, a
data source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENCODER = '''class Waves(AUEncoder):
    """A token for each AU: sines of its intensity times a learned direction."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.tokens = AU_COUNT
        self.direction = nn.Parameter(torch.randn(AU_COUNT, width))
        self.phases = nn.Parameter(torch.randn(config.waves))

    def encode(self, aus: Tensor) -> Tensor:
        return (aus[:, :, None, None] + 1 + self.phases).sin().sum(-1) * self.direction


'''
JUDGE = '''class ConstantJudge:
    """Reads the same in every image."""

    def __init__(self, value: float) -> None:
        self.value = value

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `AuJudge.read`."""
        return torch.full((len(images), 12), self.value), torch.ones(len(images), dtype=torch.bool)


def _find_constant(config: JudgeConfig) -> dict[str, Path]:
    return {"clip": Path(config.clip)}


def _load_constant(config: JudgeConfig, device: torch.device | str) -> Judges:
    fingerprint = judges_fingerprint(f"constant {config.value}", [Path(config.clip)])
    clip = ClipImageScorer.load(config.clip, device)
    return Judges({"constant": ConstantJudge(config.value)}, clip, None, fingerprint)


'''
READER = '''"""Pictures named by an AU."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from fineface_train.aus import AU_KEYS
from fineface_train.data.config import PicturesConfig
from fineface_train.data.table import SampleTable

SOURCE = "pictures"


@dataclasses.dataclass(frozen=True)
class PicturesCopy:
    config: PicturesConfig
    images: tuple[Path, ...]


def find_copy(config: PicturesConfig) -> PicturesCopy:
    if not config.root or not Path(config.root).is_dir():
        raise ValueError(f"data.pictures.root={config.root}: no such folder")
    return PicturesCopy(config, tuple(sorted(Path(config.root).glob("*.png"))))


def read_pictures(copy: PicturesCopy, seed: int) -> SampleTable:
    paths = copy.images
    aus = np.array([[5.0 * (path.stem.split("_")[0] == key) for key in AU_KEYS] for path in paths])
    names = [f"{SOURCE}/{path.stem}" for path in paths]
    told = {"captions": ["a person"] * len(paths), "aus_from": "names", "caption_from": "nobody"}
    table = SampleTable.build(
        SOURCE,
        ids=names,
        images=[os.path.abspath(path) for path in paths],
        aus=aus,
        subjects=names,
        splits=["train"] * len(paths),
        **told,
    )
    return dataclasses.replace(table, counts={SOURCE: {"read": len(paths), "kept": len(paths)}})
'''
CONFIG = """@dataclasses.dataclass
class PicturesConfig:
    root: str | None = None
    validation_share: float = 0.1
    weight: float | None = None

    def validate(self, key: str) -> None:
        pass


"""
METHOD, ENCODERS, JUDGE_CONFIG, JUDGES, DATA, SOURCES, REPORT = (
    f"src/fineface_train/{name}.py"
    for name in (
        *("methods/au_diffusion/config", "methods/au_diffusion/encoders", "evaluation/judges/config"),
        *("evaluation/judges/judges", "data/config", "data/sources", "reports/run"),
    )
)
INSERTED = [
    (METHOD, '    per_au_tokens = "per_au_tokens"\n', '    waves = "waves"\n'),
    (METHOD, "    EncoderName.res_mlp64: (),\n", '    EncoderName.waves: ("waves",),\n'),
    (METHOD, "    sum_tokens: bool = False\n", "    waves: int = 3\n"),
    (ENCODERS, "    EncoderName.per_au_tokens: PerAUTokens,\n", "    EncoderName.waves: Waves,\n"),
    (JUDGE_CONFIG, '    libreface = "libreface"\n', '    constant = "constant"\n'),
    (JUDGE_CONFIG, "    face_threshold: float = 0.6\n", "    value: float = 1.0\n"),
    (JUDGE_CONFIG, "    JudgeKind.none: Reads(()),\n", '    JudgeKind.constant: Reads(("value", "clip")),\n'),
    (
        JUDGES,
        '    JudgeKind.none: Looks(lambda _: {}, lambda *_: Judges({}, None, None, "none")),\n',
        "    JudgeKind.constant: Looks(_find_constant, _load_constant),\n",
    ),
    (REPORT, "LABEL_TOOLS = {", '"constant": re.compile("constant"), '),
    (
        DATA,
        "    manipulation: ManipulationConfig | None = None\n",
        "    pictures: PicturesConfig | None = None\n",
    ),
    (DATA, "        every = {", '"pictures": self.pictures, '),
    (
        SOURCES,
        "from fineface_train.data.manipulation.reader import ManipulationCopy\n",
        "from fineface_train.data import pictures as own\n",
    ),
    (SOURCES, "    manipulation: ManipulationCopy | None\n", "    pictures: own.PicturesCopy | None\n"),
    (
        SOURCES,
        "    found = Sources(\n",
        "        pictures=None if config.pictures is None else own.find_copy(config.pictures),\n",
    ),
    (
        SOURCES,
        "    files = [] if found.disfa is None else disfa.input_files(found.disfa)\n",
        "    files += [] if found.pictures is None else found.pictures.images\n",
    ),
    (
        SOURCES,
        "    readings = []\n",
        "    readings += [] if found.pictures is None else [Reading(own.read_pictures(found.pictures, seed))]\n",
    ),
]
"""Where, behind what, what."""
FILES = {
    "src/fineface_train/data/pictures.py": READER,
    "configs/encoder/waves.yaml": "# @package method.encoder\nname: waves\n",
    "configs/method/plus_waves.yaml": "# @package _global_\ndefaults:\n  - fineface_plus\n  - override /encoder: "
    "waves\nmethod:\n  encoder:\n    waves: 2\n",
    "configs/sweep/waves.yaml": (
        "# @package _global_\ndefaults:\n  - tables\ncomparison:\n  name: waves\n  reference: method=fineface_plus\n"
        "hydra:\n  sweeper:\n    params:\n      method: fineface_plus,plus_waves\n"
    ),
    "configs/judge/constant.yaml": "kind: constant\nvalue: 2.0\n",
    "configs/data/pictures.yaml": "name: pictures\nroot: outputs/data/pictures\npictures:\n  root: null\n",
}
USE = """
import sys
import torch
from pathlib import Path
from PIL import Image
from fineface_train.verbs.sweep_arms import read_arms
from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.data.prepare import read_manifest
from fineface_train.evaluation.judges.judges import load_judges
from fineface_train.reports.run import judge_wrote_labels
from tests.methods import test_adapter

root = Path(sys.argv[1])
assert len(read_arms(["sweep=waves", "seed=0,1", f"run.root={root / 'runs'}"]).each) == 4
assert main(["train", "encoder=res_mlp64", "method.encoder.waves=2"]) == 2

config = load_config(["judge=constant", "base=sd21_random"], "evaluate")  # of photographs and drawings
aus, found = load_judges(config.judge).aus["constant"].read(torch.zeros(3, 3, 8, 8))
assert float(aus[0, 0]) == 2 and found.all()
assert main(["evaluate", "judge=constant", "judge.one=x"]) == 2
assert judge_wrote_labels("constant", {"labels": ["pictures: constant"]})
assert not judge_wrote_labels("constant", {"labels": ["pictures: names"]})

(root / "faces").mkdir()
for number in range(6):
    Image.new("RGB", (80, 80), (40 * number, 90, 90)).save(root / "faces" / f"AU12_{number}.png")
assert main(["prepare", "data=pictures", "data.pictures.root=nowhere", f"data.root={root / 'data'}"]) == 2
assert main(["prepare", "data=pictures", f"data.pictures.root={root / 'faces'}", f"data.root={root / 'data'}"]) == 0
assert read_manifest(root / "data")["sources"]["pictures"]["kept"] == 6
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with all that the recipes add."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("src", "configs", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    (root / "data").symlink_to(ROOT / "data")
    for name, before, added in INSERTED:
        text = (root / name).read_text(encoding="utf-8")
        assert text.count(before) == 1, (name, before)
        (root / name).write_text(text.replace(before, before + added), encoding="utf-8")
    for name, anchor, added in (
        (ENCODERS, "ENCODERS: dict", ENCODER),
        (JUDGES, "@dataclasses.dataclass(frozen=True)\nclass Looks:", JUDGE),
        (DATA, "@dataclasses.dataclass\nclass DataConfig:", CONFIG),
    ):
        text = (root / name).read_text(encoding="utf-8")
        (root / name).write_text(text.replace(anchor, added + anchor), encoding="utf-8")
    for name, text in FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


def run(copy: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_what_the_recipes_add_can_be_used(copy: Path, tmp_path: Path) -> None:
    run(copy, "-c", USE, str(tmp_path))


def test_the_tests_over_all_encoders_pass_for_one_more(copy: Path) -> None:
    files = [f"tests/methods/test_{name}.py" for name in ("adapter", "bundle", "conditioning")]
    run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "waves", *files, "tests/test_cli.py")


def test_the_recipes_name_what_is_there() -> None:
    """Every name in the recipes' code marks is in the file that the sentence names, or is a file or folder."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in ("configs/encoder/", "configs/method/", "configs/sweep/", "configs/judge/", "configs/data/"):
        assert f"`{path}`" in text
        assert (ROOT / path).is_dir()
    named = {
        METHOD: ("EncoderName", "EncoderConfig", "OPTIONS"),
        ENCODERS: ("ENCODERS", "tokens"),
        JUDGE_CONFIG: ("JudgeKind", "JudgeConfig", "READS"),
        JUDGES: ("Looks", "JUDGES"),
        DATA: ("DataConfig", "sources"),
    }
    named |= {REPORT: ("LABEL_TOOLS",)}
    named |= {SOURCES: ("Sources", "find_sources", "check_lists", "input_files", "read_sources")}
    for path, names in named.items():
        for name in names:
            assert f"`{name}`" in text, name
            assert name in (ROOT / path).read_text(encoding="utf-8"), name
