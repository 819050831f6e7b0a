"""What the first process does for all: its value, its refusal, its locks."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fineface_train.data.crew import ALONE, Crew
from fineface_train.locks import locked
from tests.data.crews import run_crew


def test_what_the_first_finds_is_everybodys() -> None:
    called = []

    def find() -> int:
        called.append(1)
        return 7

    assert run_crew(3, lambda crew: crew.first(find)) == [7, 7, 7]
    assert called == [1]
    assert ALONE.first(find) == 7


def test_what_the_first_refuses_is_refused_on_all() -> None:
    def refuse() -> int:
        raise ValueError("data.root=x: is wrong")

    for error in run_crew(3, lambda crew: crew.first(refuse)):
        assert isinstance(error, ValueError)
        assert str(error) == "data.root=x: is wrong"
    with pytest.raises(ValueError, match=r"data\.root=x: is wrong"):
        ALONE.first(refuse)


def test_the_first_enters_a_context_for_all() -> None:
    entered = []

    @contextlib.contextmanager
    def context(name: str) -> Iterator[str]:
        entered.append("in")
        yield name
        entered.append("out")

    def work(crew: Crew) -> str:
        with crew.entered(context(f"of {crew.index}")) as value:
            crew.wait()
            assert entered == ["in"]
            crew.wait()
        crew.wait()
        return value

    assert run_crew(2, work) == ["of 0", "of 0"]
    assert entered == ["in", "out"]


def test_a_lock_that_another_has_is_told_to_all(tmp_path: Path) -> None:
    with locked(tmp_path):

        def work(crew: Crew) -> None:
            with crew.entered(locked(tmp_path)):
                pytest.fail("entered")

        for error in run_crew(2, work):
            assert isinstance(error, ValueError)
            assert "is in use by process" in str(error)
