"""The command line starts at once: help and refusals load no torch, and nothing that takes as long."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fineface_train.cli import VERBS
from fineface_train.compose import unchecked_config
from fineface_train.config import GenerateConfig, PicturesConfig
from fineface_train.data.affectnet.config import AffectNetConfig
from fineface_train.data.disfa.config import DisfaConfig
from fineface_train.data.manipulation.config import ManipulationConfig
from fineface_train.help import field_sentences

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "peft", "pandas", "pyarrow", "av", "wandb")
REPORT = (
    "import atexit, json, sys; from fineface_train.cli import main; status = main(sys.argv[1:]); sys.stdout.flush(); "
    "print('LOADED', json.dumps([status, sorted(sys.modules)]))"
)
REFUSED = [
    ["nonsense"],
    *([verb, "no.such.key=1"] for verb in VERBS),
    ["train", "encoder=nope"],
    ["train", "encoder.hidden=3"],
    ["train", "method.encoder.hiden=3"],
    ["train", "method.encoder.hidden=many"],
    ["train", "trainer.steps=0"],
    ["train", "encoder=none", "method.encoder.hidden=3"],
    ["train", "judge=toyfacs", "base=sd21_random"],
    ["train", "prompt=x"],
    ["train", "-m", "encoder=none,nope"],
    ["train", "-m", "encoder=none,res_mlp64", "method.encoder.hidden=8"],
    ["prepare", "-m", "seed=0,1"],
    ["doctor", "data=disfa", "data.disfa.fold=7"],
    ["evaluate", "bundle=nowhere"],
    ["evaluate", "bundle=data/toyfacs/bundle", "protocol=glance"],
    ["generate", "bundle=data/toyfacs/bundle", "prompt=a person", "n=0"],
    ["calibrate", "bundle=data/toyfacs/bundle", "prompt=x"],
    ["report", "seed=1"],
]
HELP = [
    ["--help"],
    *([verb, "--help"] for verb in VERBS),
    ["train", "--help", "trainer"],
    ["train", "--help", "tainer"],
]


def loaded(arguments: list[str], folder: Path) -> tuple[int, set[str]]:
    """The exit status of a command, and the modules that it has loaded, in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", REPORT, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stdout.rpartition("LOADED ")[2])
    return status, {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_refusal_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    status, modules = loaded(arguments, tmp_path)
    assert status == 2
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    status, modules = loaded(arguments, tmp_path)
    assert status == (2 if "tainer" in arguments else 0)
    assert not modules & set(HEAVY)


def test_the_config_loads_nothing_heavy(tmp_path: Path) -> None:
    """All of it, of every family here: `methods/*/config.py` is what a family's config is made of."""
    source = Path(__file__).parents[1] / "src"
    files = [source / "fineface_train" / name for name in ("config.py", "compose.py", "reads.py", "overrides.py")]
    files += sorted((source / "fineface_train").rglob("*/config.py"))
    assert len(files) > 10
    names = [".".join(path.relative_to(source).with_suffix("").parts) for path in files]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {module.partition(".")[0] for module in done.stdout.split()} & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["train", "--help", "data"]], ids=" ".join)
def test_help_into_head_is_no_traceback(arguments: list[str]) -> None:
    """A reader that goes at once, before anything is written, and one that goes after a line."""
    for reader in ("true", "head -n 1"):
        line = f'"{sys.executable}" -m fineface_train {" ".join(arguments)} | {reader}'
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_libraries_say_nothing_when_they_are_loaded(tmp_path: Path) -> None:
    """CLIP's processor wants torchvision, and loading and writing weights shows bars: all where it was seen."""
    code = f"""
from fineface_train.quiet import quieten_libraries
quieten_libraries()
from transformers import CLIPImageProcessor
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained("{Path(__file__).parents[1] / "data/toyfacs/base"}")
pipe.save_pretrained("{tmp_path / "base"}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_every_key_has_a_sentence_in_help() -> None:
    """Also those of sources that the default data does not have."""

    def without(value: Any) -> list[str]:
        sentences, fields = field_sentences(type(value)), dataclasses.fields(value)
        parts = [getattr(value, field.name) for field in fields if dataclasses.is_dataclass(getattr(value, field.name))]
        own = [field.name for field in fields if not dataclasses.is_dataclass(getattr(value, field.name))]
        missing = [f"{type(value).__name__}.{name}" for name in own if name not in sentences]
        return missing + [name for part in parts for name in without(part)]

    every = [unchecked_config([]), GenerateConfig(), PicturesConfig(), DisfaConfig(), AffectNetConfig()]
    assert not [name for one in (*every, ManipulationConfig()) for name in without(one)]
