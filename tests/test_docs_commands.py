"""Every command that the documentation shows, split into words by bash, is read by the program that it names; nothing
is left out but what is listed here."""

import argparse
import functools
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fineface_train.cli import VERBS, main
from fineface_train.compose import load_config
from fineface_train.places import CONFIGS
from fineface_train.verbs.sweep_arms import read_arms

ROOT = Path(__file__).parents[1]
DOCS = [
    "README.md",
    "data/README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]

PLACEHOLDERS = {
    "outputs/<run>/bundle": "data/toyfacs/bundle",
    "outputs/RUN/bundle": "data/toyfacs/bundle",
    "bundle=...": "bundle=data/toyfacs/bundle",
    "data=...": "data=toyfacs",
    "encoder=<name>": "encoder=res_mlp64",
    "sweep=<name>": "sweep=table1",
    "method=NAME": "method=lora_t",
    "fold=0|1|2": "fold=2",
    "[overrides]": "seed=1",
    "validate_every=STEPS": "validate_every=500",
    "outputs/RUN/best": "data/toyfacs/bundle",
    "--machine_rank R": "--machine_rank 0",
    " \\| head -1": "",
    " ...": "",
}
"""What stands for something else in a command, and an example of it."""
MEANT = {
    "accelerate launch -m": "accelerate launch -m fineface_train train",
    "accelerate launch --cpu --num_processes 2": "accelerate launch --cpu --num_processes 2 -m fineface_train train",
    "--repeats 3 --steps 30": "python scripts/bench_processes.py --repeats 3 --steps 30",
    "--only bundle": "python scripts/build_toyfacs.py --only bundle",
    "sweep=table1 --out docs/results/extrapolation/table1": "python scripts/extrapolate.py sweep=table1 --out "
    "docs/results/extrapolation/table1",
    "sweep=table2 --out docs/results/extrapolation/table2": "python scripts/extrapolate.py sweep=table2 --out "
    "docs/results/extrapolation/table2",
    "+sweep=table2 seed=1 encoder=none,mlp": "fineface train -m +sweep=table2 seed=1 encoder=none,mlp",
    '\'method.finetune.prior_prompt="a person","a face"\'': "fineface train -m method.finetune.prior_weight=1 "
    '\'method.finetune.prior_prompt="a person","a face"\'',
    "base=...": "base=sd21",
    "out=smile.png": 'fineface generate bundle=data/toyfacs/bundle prompt="a person" out=smile.png',
    "camera=right": "data.disfa.camera=right",
    "fold=2": "data.disfa.fold=2",
    "photo_filter=blip2": "data.affectnet.photo_filter=blip2",
    "aus=annotator": "data.affectnet.aus=annotator",
    "captions=blip2": "data.affectnet.captions=blip2",
}
"""Parts of commands, whose rest the sentence around them says."""
NO_COMMANDS = {
    r"outputs/quickstart-\w+/": "a folder's contents",
    r"(config\.yaml|state/|bundle/|samples/\*\.png|media\.json|report\.html)  .*": "a folder's contents",
    r"AUs change the latent by .*": "what a script prints",
    r"timestep  silent .*": "what a script prints",
    r"\d+( +[\d.]+)+": "what a script prints",
    r"ImageName, .*|subDirectory_filePath, .*": "columns of a file",
    r"\(seed, example index\)|weights_only=True|strict=True": "code",
    r'\{"(ready|done)": .*': "lines between two programs",
    r"(conditioning|finetune)=": "a heading",
    r"\./|accelerate launch": "a name",
    r"(name|kind): <name>|# @package .*|- /FIELD: NAME": "a line of YAML",
    r"hydra\.searchpath=\[file:///a/folder\]": "a folder of one's own",
    r"core\.autocrlf=true": "a setting of git",
    r"generate encoder=mlp": "what is refused",
    r"\{path: vector\}": "a shape that a list has",
    r"sep=.": "a line of Excel's",
    r"best/  .*": "a folder's contents",
}
"""What is no command, in whole, and what it is instead."""
OTHERS = {
    "pip": "another program; the extras that it names are checked",
    "apt": "another program",
    "conda": "another program",
    "brew": "another program",
    "mkdir": "another program",
    "uv": "another program; the script that it names is checked",
    "huggingface-cli": "another program",
    "FaceLandmarkImg": "another program",
    ".venv/bin/pre-commit": "another program",
}
"""Programs that are not ours, and why they are not run: they install, download, or are not at hand."""
VARIABLES = {
    "ACCELERATE_USE_CPU": "accelerate's",
    "OMP_NUM_THREADS": "torch's",
    "FINEFACE_LOCKS": "of the locks, tests/test_locks.py",
}


def blocks(text: str) -> Iterator[str]:
    """Lines of indented and fenced blocks, and inline code; not what is told to be another language."""
    text = re.sub(
        r"^```(\w+)\n.*?^```$",
        lambda found: found[0] if found[1] in ("bash", "sh", "shell", "console") else "",
        text,
        flags=re.M | re.S,
    )
    fenced = [
        line for found in re.finditer(r"^```\w*\n(.*?)^```$", text, re.M | re.S) for line in found[1].splitlines()
    ]
    prose: list[str] = []
    after_blank, inside = True, False
    for line in re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.M | re.S).splitlines():
        inside = bool(re.match(r" {4}", line)) and (after_blank or inside) and not re.match(r"\s*([-*]|\d+\.)\s", line)
        if inside:
            yield line.strip()
        else:
            prose.append(line)
        after_blank = not line.strip()
    yield from (line.strip() for line in fenced if line.strip())
    for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", "\n".join(prose)):
        span = " ".join(found[1].split())
        if " " in span or "=" in span or span.startswith("./"):
            yield span


def shown() -> list[tuple[str, str]]:
    """Every line that may be a command, with where it stands."""
    found = []
    for name in DOCS:
        found += [(name, line) for line in blocks((ROOT / name).read_text(encoding="utf-8"))]
    for path in sorted(CONFIGS.rglob("*.yaml")):
        told = re.findall(rf"^#.*?\b(fineface (?:{'|'.join(VERBS)}) [^.)\n]*)$", path.read_text(encoding="utf-8"), re.M)
        found += [(f"configs/{path.relative_to(CONFIGS)}", line) for line in told]
    return [(name, line) for line, name in {line: name for name, line in reversed(found)}.items()]


def words(line: str) -> list[str]:
    """As bash splits them, with nothing found to be run: what would start a second program is an error here."""
    for text, example in PLACEHOLDERS.items():
        line = line.replace(text, example)
    line = MEANT.get(line, line)
    done = subprocess.run(
        ["/bin/bash", "-c", f"args() {{ printf '%s\\0' \"$@\"; }}; PATH=/nowhere\nargs {line}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize(("where", "line"), shown(), ids=lambda value: value[:60])
def test_a_command_of_the_documentation_is_one(
    where: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    if any(re.fullmatch(pattern, line) for pattern in NO_COMMANDS):
        return
    command = words(line)
    while command and re.fullmatch(r"[A-Z][A-Z_0-9]*=.*", command[0]):
        variable(command.pop(0))
    if not command:
        return
    if all(re.match(r"\+?[\w./]+=", word) for word in command):
        overrides(command)
        return
    program, arguments = command[0].removeprefix(".venv/bin/"), command[1:]
    if command[0] in OTHERS:
        other(command[0], arguments)
        return
    assert program in PROGRAMS, f"{where}: nothing here knows the program {program!r} of {line!r}"
    PROGRAMS[program](arguments, tmp_path, monkeypatch)


def variable(assignment: str) -> None:
    """An environment variable that somebody reads."""
    name = assignment.partition("=")[0]
    places = [*CONFIGS.rglob("*.yaml"), *(ROOT / "tests").rglob("*.py")]
    assert name in VARIABLES or any(
        name in path.read_text(encoding="utf-8") for path in places if path != Path(__file__)
    ), name


def overrides(arguments: list[str]) -> None:
    """Values alone: with the data that they are of; whether a verb reads them is for the sentence around them."""
    source = next(
        (found[1] for one in arguments if (found := re.match(r"data\.(disfa|affectnet|manipulation)\.", one))), None
    )
    labels = (
        ["data.manipulation.aus=[1,2,4,5,6,9,12,15,17,20,25,26]"]
        if source == "manipulation" and "data.manipulation.missing=zero" not in arguments
        else []
    )
    load_config([*([f"data={source}"] if source else []), *labels, *arguments])


def other(program: str, arguments: list[str]) -> None:
    """The files and extras that another program is given are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(arguments)):
        assert extra in project["optional-dependencies"]
    for script in [one for one in arguments if one.startswith("scripts/")]:
        assert (ROOT / script).is_file()
        flags = [one for one in arguments[arguments.index(script) :] if one.startswith("--")]
        assert all(f'"{flag}"' in (ROOT / script).read_text(encoding="utf-8") for flag in flags)


def fineface(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verb, given = arguments[0], arguments[1:]
    assert verb in VERBS
    if "--help" in given:
        assert main(arguments) == 0
    elif "-m" in given:
        read_arms([*(one for one in given if one != "-m"), f"run.root={folder}"])
    else:
        load_config(given, verb)


def launched(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a launcher is given behind itself."""
    place = arguments.index("-m")
    assert arguments[place + 1] == "fineface_train"
    fineface(arguments[place + 2 :], folder, monkeypatch)
    return arguments[place + 2 :]


def torchrun(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.run import get_args_parser

    behind = launched(arguments, folder, monkeypatch)
    parsed = get_args_parser().parse_args(arguments)
    assert (parsed.module, parsed.training_script, parsed.training_script_args) == (True, "fineface_train", behind)


def accelerate(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert arguments[0] == "launch"
    parsed = launch_command_parser().parse_args(arguments[1:])
    if parsed.training_script:
        behind = launched(arguments[1:], folder, monkeypatch)
        assert (parsed.module, parsed.training_script, parsed.training_script_args) == (True, "fineface_train", behind)


def python(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if arguments[:2] == ["-m", "pytest"]:
        assert all((ROOT / one).exists() for one in arguments[2:] if not one.startswith("-"))
        return
    if arguments[0] == "-c":
        compile(arguments[1], "-c", "exec")
        return
    path = ROOT / arguments[0]
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, path.stem, module)
    specification.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", arguments)
    with monkeypatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, reading(getattr(argparse.ArgumentParser, name)))
        with pytest.raises(Parsed) as parsed:
            module.main()
    given = getattr(parsed.value.namespace, "overrides", [])
    load_config(given)


class Parsed(Exception):  # noqa: N818
    """A script has read its command line, and goes no further."""

    def __init__(self, namespace: argparse.Namespace) -> None:
        super().__init__()
        self.namespace = namespace


def reading(parse: Callable[..., argparse.Namespace]) -> Callable[..., argparse.Namespace]:
    def read(parser: argparse.ArgumentParser, *given: object) -> argparse.Namespace:
        raise Parsed(parse(parser, *given))

    return read


def train_sh(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script itself, beside a setup that does nothing and a fineface that says what it is given."""
    (folder / "scripts").mkdir()
    (folder / "scripts" / "setup.sh").touch()
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "fineface").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    (folder / ".venv" / "bin" / "fineface").chmod(0o755)
    (folder / "train.sh").write_text((ROOT / "train.sh").read_text())
    done = subprocess.run(
        ["bash", folder / "train.sh", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HOME": str(folder)},
    )
    fineface(done.stdout.split("\0")[:-1], folder, monkeypatch)


def test_sh(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert '"$@"' in (ROOT / "scripts" / "test.sh").read_text()
    assert arguments[::2] in ([], ["-k"], ["-m"])


def bash(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, *more = arguments
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    if more:  # scripts/gpu_check.sh: a folder of wheels, and the arguments of the program of the same name
        python([script.removesuffix(".sh") + ".py", *more[not more[0].startswith("--") :]], folder, monkeypatch)


def export(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for argument in arguments:
        variable(argument)


test_sh.__test__ = False  # type: ignore[attr-defined]
PROGRAMS: dict[str, Callable[[list[str], Path, pytest.MonkeyPatch], None]] = {
    "fineface": fineface,
    "torchrun": torchrun,
    "accelerate": accelerate,
    "python": python,
    "./train.sh": train_sh,
    "./scripts/test.sh": test_sh,
    "bash": bash,
    "export": export,
}


def test_the_lists_name_nothing_that_is_not_there() -> None:
    lines = [line for _, line in shown()]
    for pattern in NO_COMMANDS:
        assert any(re.fullmatch(pattern, line) for line in lines), pattern
    for text in (*PLACEHOLDERS, *OTHERS):
        assert any(text in line for line in lines), text
    replaced = [
        functools.reduce(lambda line, text: line.replace(text, PLACEHOLDERS[text]), PLACEHOLDERS, line)
        for line in lines
    ]
    assert set(MEANT) <= set(replaced)
