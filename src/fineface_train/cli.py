"""The command line: `fineface <verb> [key=value ...]`."""

import difflib
import errno
import logging
import signal
import sys
import traceback
import warnings

from fineface_train.runs import is_main_process

VERBS = {
    "prepare": "turn a dataset on disk (or the drawn world) into one table, and a page about it: fineface prepare data=toyfacs",
    "train": "fit an AU adapter, evaluate it and write a report: fineface train experiment=quickstart; -m sweeps: -m encoder=none,res_mlp64 seed=0,1",
    "generate": 'draw faces: fineface generate bundle=data/toyfacs/bundle prompt="a person" aus="AU12=5,AU6=2.5"',
    "evaluate": "measure a bundle: fineface evaluate bundle=outputs/RUN/bundle protocol=quick|paper [out=DIR]",
    "calibrate": "learn what to ask of a bundle so that the wanted AUs are measured (then calibrated=true): fineface calibrate bundle=outputs/RUN/bundle",
    "doctor": "say what this machine has, what a training would need and what is missing: fineface doctor experiment=quickstart",
    "report": "write the page and tables of a run, or compare a sweep's arms: fineface report out=outputs/RUN, fineface report sweep=table1",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for what the user can mend."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    verb, overrides = arguments[0], arguments[1:]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        print(f"fineface: no verb {verb!r}; there are {', '.join(VERBS)}" + (f"; did you mean {near[0]}?" if near else ""), file=sys.stderr)
        return 2
    if {"-h", "--help"} & set(overrides):
        print(_verb_help(verb))
        return 0
    _show_our_log()
    quieten_libraries()
    try:
        if {"-m", "--multirun"} & set(overrides):
            return _sweep(verb, [override for override in overrides if override not in ("-m", "--multirun")])
        from fineface_train import commands, config

        getattr(commands, verb)(config.load_config(overrides, verb))
    except (ValueError, FloatingPointError, OSError) as error:
        if debug:
            traceback.print_exc()
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        remedy = "; make room (see run.root and data.root): the same command goes on where it was" if full else ""
        print(f"fineface {verb}: {error}{remedy}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in str(error):
            raise
        print(f"fineface {verb}: out of memory; lower trainer.batch_size (or set trainer.accumulation), or evaluation.batch_size ({error})", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        if is_main_process():
            print(f"fineface {verb}: {stopped or 'stopped; the same command goes on where it was'}", file=sys.stderr)
        return 128 + getattr(stopped, "number", signal.SIGINT)
    return 0


def _sweep(verb: str, overrides: list[str]) -> int:
    if verb != "train":
        raise ValueError(f"-m sweeps over trainings: fineface train -m ...; there is no fineface {verb} -m")
    from fineface_train.sweep import sweep

    return 1 if sweep(overrides) else 0


def _help() -> str:
    verbs = "\n".join(f"  {verb:<10}{text}" for verb, text in VERBS.items())
    return f"usage: fineface <verb> [key=value ...] [--debug]\n\n{verbs}\n\n`fineface <verb> --help` lists the choices and keys. --debug shows tracebacks."


def _verb_help(verb: str) -> str:
    from fineface_train.config import load_config
    from fineface_train.files import flat, plain
    from fineface_train.overrides import CONFIGS, choices
    from fineface_train.reads import SWEEP, is_read

    verbs = (verb, SWEEP) if verb == "train" else (verb,)
    groups = [path.name for path in sorted(CONFIGS.iterdir()) if path.is_dir() and any(is_read(path.name, one) for one in verbs)]
    chosen = "\n".join(f"  {group:<13}{', '.join(choices(group))}" for group in groups)
    keys = [(key, value) for key, value in flat(plain(load_config([]))) if any(is_read(key, one) for one in verbs) and key not in groups]
    told = "\n".join(f"  {key}={'null' if value is None else value}" for key, value in keys)
    return f"fineface {verb}: {VERBS[verb]}\n\nchoices (group=name):\n{chosen}\n\nkeys and their defaults (other choices may set others):\n{told}"


def _show_our_log() -> None:
    """What readers dropped and what was found unchanged; from the first process only."""
    logger = logging.getLogger("fineface_train")
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]


def quieten_libraries() -> None:
    """Progress bars and notices of libraries would bury what we print; warnings about our own code stay on."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(diffusers|transformers|peft|accelerate|torch)\b")
