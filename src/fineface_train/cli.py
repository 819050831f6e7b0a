"""The command line: `fineface <verb> [key=value ...]`."""

import contextlib
import errno
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

from fineface_train.loop.launch import end_with_launcher, is_main_process, launcher_is_gone
from fineface_train.quiet import quieten_libraries

VERBS = {
    "prepare": "turn a dataset on disk (or the drawn world) into one table, and a page about it: fineface prepare "
    "data=toyfacs",
    "train": "fit an AU adapter, evaluate it and write a report: fineface train experiment=quickstart; -m sweeps: -m "
    "encoder=none,res_mlp64 seed=0,1",
    "generate": 'draw faces: fineface generate bundle=data/toyfacs/bundle prompt="a person" aus="AU12=5,AU6=2.5"; '
    'aus="AU12=0..5" a strip and a GIF',
    "evaluate": "measure a bundle: fineface evaluate bundle=outputs/RUN/bundle protocol=quick|paper [out=DIR]",
    "judge": "measure pictures that any program made: fineface judge images=DIR requests=FILE.csv [judge=libreface] "
    "[out=DIR]; or how well a judge reads labelled images: fineface judge data=disfa judge=libreface [split=test]",
    "calibrate": "learn what to ask of a bundle so that the wanted AUs are measured (then calibrated=true): fineface "
    "calibrate bundle=outputs/RUN/bundle",
    "doctor": "say what this machine has, what a training would need and what is missing: fineface doctor "
    "experiment=quickstart",
    "report": "write the page and tables of a run, or compare a sweep's arms: fineface report out=outputs/RUN, "
    "fineface report sweep=table1",
}
ELSEWHERE = "; choose a place that you may read and write (data.root, data.cache, run.root, out), or ask its owner"
REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "; make room (see run.root and data.root): the same command goes on where it was",
    errno.ENAMETOOLONG: "; choose shorter names: file systems take 255 bytes of one, and most letters beyond a-z have "
    "2 to 4",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ELSEWHERE),
}
"""What to do about an error of the system, by its number."""
RESUMED = ("prepare", "train", "evaluate", "judge")
"""Verbs that go on where they were stopped."""
HELP, SWEEP = {"-h", "--help"}, {"-m", "--multirun"}
BUNDLE_VERBS = ("generate", "evaluate", "calibrate")
"""These take the base from the bundle."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for what the user can mend.

    Nothing that takes time is imported before, so that Ctrl-C is answered from the start.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    verb = arguments[0] if arguments else ""
    name = f"fineface {verb}" if verb in VERBS else "fineface"
    for stream in (sys.stdout, sys.stderr):
        if (
            hasattr(stream, "reconfigure") and stream.errors == "strict"
        ):  # a terminal without our letters costs letters, not the run
            stream.reconfigure(errors="backslashreplace")
    end_with_launcher()
    try:
        status = _run(verb, arguments[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt as stopped:
        _say_stopped(verb, str(stopped))
        status = 128 + getattr(stopped, "number", signal.SIGINT)
    except (ValueError, FloatingPointError, OSError) as error:
        if isinstance(error, OSError) and _nobody_reads():
            return 128 + signal.SIGPIPE
        if debug:
            _traceback()
        print(f"{name}: {error}{REMEDIES.get(getattr(error, 'errno', None), '')}", file=sys.stderr)
        status = 2
    except (RuntimeError, MemoryError) as error:
        if launcher_is_gone():  # another process has ended already, and this one has lost the connection to it
            return 128 + signal.SIGTERM
        if (
            not isinstance(error, MemoryError)
            and type(error).__name__ != "OutOfMemoryError"
            and "can't allocate memory" not in str(error)
        ):
            raise
        said = f" ({error})" if str(error) else ""
        print(
            f"{name}: out of memory; lower trainer.batch_size (or set trainer.accumulation), or "
            f"evaluation.batch_size{said}",
            file=sys.stderr,
        )
        status = 2
    return status


def _run(verb: str, overrides: list[str]) -> int:
    if verb in ("", "-h", "--help", "help"):
        print(_help())
        return 0
    if verb not in VERBS:
        import difflib

        near = difflib.get_close_matches(verb, VERBS, n=1)
        print(
            f"fineface: no verb {verb!r}; there are {', '.join(VERBS)}"
            + (f"; did you mean {near[0]}?" if near else ""),
            file=sys.stderr,
        )
        return 2
    if sys.flags.optimize > 1:
        raise ValueError("PYTHONOPTIMIZE=2 (python -OO) takes away the docstrings that transformers reads; unset it")
    with _stopping_at_once(verb):
        from fineface_train.compose import load_config
        from fineface_train.files import check_utf8
        from fineface_train.verbs.base_of_bundle import with_base
        from fineface_train.verbs.sweep_arms import read_arms

        _show_our_log()
    for override in overrides:
        key, _, value = override.partition("=")
        check_utf8(ascii(key)[1:-1], value)
    if HELP & set(overrides):
        print(_verb_help(verb, overrides))
        return 0
    if SWEEP & set(overrides):
        if verb != "train":
            raise ValueError(f"-m sweeps over trainings: fineface train -m ...; there is no fineface {verb} -m")
        arms = read_arms([override for override in overrides if override not in SWEEP])
        with _stopping_at_once(verb):
            quieten_libraries()
            from fineface_train.verbs.sweep import sweep
        return 1 if sweep(arms) else 0
    config = load_config(with_base(overrides) if verb in BUNDLE_VERBS else overrides, verb)
    with _stopping_at_once(verb):
        quieten_libraries()  # some say something when they are imported
        from fineface_train.verbs import commands
    getattr(commands, verb)(config)
    return 0


@contextlib.contextmanager
def _stopping_at_once(verb: str) -> Iterator[None]:
    """While libraries load, Ctrl-C ends the process there and then: what an import that is cut short raises is
    anybody's guess."""

    def stop(number: int, _: FrameType | None) -> None:
        _say_stopped(verb, "")
        os._exit(128 + number)

    if (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _say_stopped(verb: str, said: str) -> None:
    if is_main_process():
        told = said or ("stopped; the same command resumes" if verb in RESUMED else "stopped")
        print(f"{f'fineface {verb}'.strip()}: {told}", file=sys.stderr, flush=True)


def _nobody_reads() -> bool:
    """Whether the reader of what is printed has gone, as `head` does."""
    lost = [_lost(stream) for stream in (sys.stdout, sys.stderr) if stream is not None]  # both, whatever the first is
    return any(lost)


def _lost(stream: TextIO) -> bool:
    """Whether a stream is a pipe without a reader. What cannot be written is given up, so that the end of the process
    does not fail on it."""
    try:
        number = stream.fileno()
        stream.flush()
        watch = select.poll()
        watch.register(number, 0)
        lost = any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))
    except io.UnsupportedOperation:  # no file at all
        return False
    except OSError as error:
        lost = isinstance(error, BrokenPipeError)
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return lost


def _traceback() -> None:
    import traceback

    traceback.print_exc()


def _help() -> str:
    verbs = "\n".join(f"  {verb:<10}{text}" for verb, text in VERBS.items())
    return (
        f"usage: fineface <verb> [key=value ...] [--debug]\n\n{verbs}\n\n`fineface <verb> --help` lists its "
        f"choices and keys. --debug shows tracebacks."
    )


def _verb_help(verb: str, arguments: list[str]) -> str:
    """The page of a verb, or of the part of its config that is named; other choices show their own defaults."""
    from fineface_train.help import part_help, verb_help

    asked = [one for one in arguments if "=" not in one and not one.startswith("-")]
    overrides = [one for one in arguments if "=" in one]
    if len(asked) > 1:
        raise ValueError(f"--help {' '.join(asked)}: one part of the config at a time, such as --help trainer")
    return part_help(verb, asked[0], overrides) if asked else verb_help(verb, VERBS[verb], overrides)


def _show_our_log() -> None:
    """What readers dropped and what was found unchanged; from the first process only."""
    import logging

    logger = logging.getLogger("fineface_train")
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
