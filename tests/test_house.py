"""Imports run one way between the rooms of the package. Each rule is one line."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "fineface_train"
ABOVE_DATA = "loop methods evaluation reports verbs config"
RULES = (
    # who, imports nothing of, because
    ("aus files texts", f"locks toyfacs data {ABOVE_DATA}", "small things that all rooms share stand below them"),
    ("locks", f"toyfacs data {ABOVE_DATA}", "small things that all rooms share stand below them"),
    ("toyfacs", f"data {ABOVE_DATA}", "the drawn world knows nothing of what is done with it"),
    ("data", ABOVE_DATA, "data is read before anything is trained, whoever trains"),
    (
        "data/formats",
        "toyfacs data/disfa data/affectnet data/manipulation data/annotators",
        "a format is any data set's",
    ),
    ("data/disfa", "toyfacs data/affectnet data/manipulation", "a reader knows its own data set alone"),
    ("data/affectnet", "toyfacs data/disfa data/manipulation", "a reader knows its own data set alone"),
    ("data/manipulation", "toyfacs data/disfa data/affectnet", "a reader knows its own data set alone"),
    ("data/annotators", "toyfacs data/disfa data/affectnet data/manipulation", "annotators read images, whose ever"),
    ("data/inspection", "toyfacs data/disfa data/affectnet data/manipulation", "a table is looked at, whose ever"),
    ("loop", "methods evaluation reports verbs", "the loop trains what it is given"),
    ("methods", "evaluation reports verbs", "a method is trained and judged by others"),
    ("evaluation", "reports verbs", "numbers are made before they are shown"),
    ("reports", "verbs", "a page is made of a folder, whatever verb asks for it"),
)
EXCEPTIONS: dict[str, str] = {
    "__init__": "methods/au_diffusion",
    "reports/sweep_records": "methods/au_diffusion",
    "verbs/base_of_bundle": "methods/au_diffusion",
    "verbs/calibrate": "methods/au_diffusion",
    "verbs/commands": "methods/au_diffusion",
    "verbs/checkup/trial": "methods/au_diffusion",
    "verbs/evaluation_folder": "methods/au_diffusion",
    "verbs/generate": "methods/au_diffusion",
    "verbs/generators": "methods/au_diffusion",
    "verbs/run_identity": "methods/au_diffusion",
    "verbs/train": "methods/au_diffusion",
}
"""What the rules do not allow and today's code does: file, and what it imports. This list may only become shorter."""


@dataclasses.dataclass(frozen=True)
class Import:
    """A line of the package that imports something of the package; both as paths below it, without .py."""

    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"src/fineface_train/{self.file}.py, line {self.line}: imports {self.module.replace('/', '.')}"


def _lies_in(path: str, rooms: str) -> bool:
    return any(path == room or path.startswith(f"{room}/") for room in rooms.split())


def _is_module(path: str) -> bool:
    return (PACKAGE / f"{path}.py").is_file() or (PACKAGE / path / "__init__.py").is_file()


def _named(node: ast.AST) -> list[str]:
    """What an import names: modules, or names in modules."""
    if isinstance(node, ast.ImportFrom):
        assert not node.level, f"line {node.lineno}: write the module's whole name"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _imports() -> Iterator[Import]:
    """All of them, also those within functions."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for name in _named(node):
                package, *inside = name.split(".")
                if package == PACKAGE.name:
                    module = "/".join(inside)
                    module = module if _is_module(module) else "/".join(inside[:-1])
                    yield Import(file, node.lineno, module or "__init__")


IMPORTS = tuple(_imports())


def _excepted(one: Import) -> bool:
    return _lies_in(one.module, EXCEPTIONS.get(one.file, ""))


def _broken(who: str, others: str) -> list[Import]:
    """Imports in `who` of something in `others`."""
    return [one for one in IMPORTS if _lies_in(one.file, who) and _lies_in(one.module, others)]


def _of_families() -> list[Import]:
    """Imports of a family of methods from outside its folder."""
    families = [path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("methods/*/__init__.py")]
    return [
        one for family in families for one in IMPORTS if _lies_in(one.module, family) and not _lies_in(one.file, family)
    ]


@pytest.mark.parametrize(("who", "others", "because"), RULES, ids=[f"{rule[0]} not {rule[1]}" for rule in RULES])
def test_a_room_imports_nothing_of(who: str, others: str, because: str) -> None:
    broken = [one for one in _broken(who, others) if not _excepted(one)]
    assert not broken, (
        "\n".join(map(str, broken)) + f"\nbut {who} imports nothing of {others}: {because}. "
        "Move what both need into a room below, or hand it over as an argument."
    )


def test_nobody_imports_a_family_of_methods() -> None:
    broken = [one for one in _of_families() if not _excepted(one)]
    assert not broken, (
        "\n".join(map(str, broken)) + "\nbut nothing outside the folder of a family imports it: "
        "go through what methods/ says that every family has."
    )


def test_an_exception_that_is_not_needed_any_more_goes() -> None:
    needed = [*_of_families(), *(one for who, others, _ in RULES for one in _broken(who, others))]
    for file, others in EXCEPTIONS.items():
        for other in others.split():
            assert any(one.file == file and _lies_in(one.module, other) for one in needed), (
                f"{file} imports nothing of {other} any more: take it out of EXCEPTIONS in {Path(__file__).name}"
            )


def test_every_import_is_seen() -> None:
    """A module, a name in one, and an import within a function."""
    seen = {(one.file, one.module) for one in IMPORTS}
    assert {("locks", "files"), ("data/prepare", "data/formats/archives"), ("data/cache", "locks")} <= seen
    assert ("methods/au_diffusion/bundle_config", "__init__") in seen
    assert all(_is_module(one.module) or one.module == "__init__" for one in IMPORTS)
    for rooms in (" ".join(rule[:2]) for rule in RULES):
        for room in rooms.split():
            assert _is_module(room), f"{room} is no room of the package"
