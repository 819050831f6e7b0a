"""Crews of threads: what the processes of a launch are to each other."""

import threading
from collections.abc import Callable
from typing import Any

from fineface_train.data.crew import Crew


def run_crew(count: int, work: Callable[[Crew], Any]) -> list[Any]:
    """What each of `count` members returns, or the exception that it ends with."""
    barrier, said = threading.Barrier(count, timeout=30), [None]
    results: list[Any] = [None] * count

    def member(index: int) -> None:
        def agree(value: Any) -> Any:
            if index == 0:
                said[0] = value
            barrier.wait()
            heard = said[0]
            barrier.wait()
            return heard

        try:
            results[index] = work(Crew(index, count, barrier.wait, agree, quiet=True))
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=member, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
