"""`fineface doctor`: what this machine has, what the config would need, and everything that is missing or wrong,
without training."""

from fineface_train.config import Config
from fineface_train.loop.accelerator import make_accelerator
from fineface_train.verbs.checkup.data_needs import known_table
from fineface_train.verbs.checkup.faults import find_faults, unmeasured
from fineface_train.verbs.checkup.machine import print_machine
from fineface_train.verbs.checkup.needs import all_needs
from fineface_train.verbs.checkup.trial import open_base, try_out
from fineface_train.verbs.checkup.verdict import DAY, MOST_DAYS_ON_A_CPU, print_memory, print_needs, shortages, too_slow

IMAGES_READ = 4
"""Of a prepared table, to see how long that takes."""


def doctor(config: Config) -> None:
    """Print the report; raises ValueError at its end if anything is missing or wrong, with all of it on its own
    lines."""
    accelerator = make_accelerator(config.trainer)
    print_machine(config, accelerator)
    faults, found = find_faults(config, accelerator)
    pipe = faults.check(lambda: open_base(config))
    notes = unmeasured(config)
    if pipe is not None:
        table = known_table(config)
        known = table.frame["image"].iloc[:IMAGES_READ].tolist() if table is not None else []
        trial = faults.check(lambda: try_out(config, pipe, accelerator, known))
        if trial is not None:
            needed = 0
            print("\nwhat this config needs")
            if trial.training is None:
                print("nothing is trained: the base is exported as it is, with AUs as text")
            else:
                print(trial.training.parts)
                needed = print_memory(trial.training)
            needs = all_needs(config, accelerator, trial, table, found)
            seconds = print_needs(needs)
            faults += shortages(config, accelerator, needed, needs)
            slow = too_slow(config, accelerator, seconds, trial.training) if trial.training is not None else None
            if slow:
                (faults if seconds > MOST_DAYS_ON_A_CPU * DAY else notes).append(slow)
    if notes:
        print("\nto know before it starts\n" + "\n".join(f"  - {note}" for note in notes))
    if faults:
        raise ValueError(
            f"{len(faults)} thing{'s' if len(faults) > 1 else ''} to mend before this can train:\n"
            + "\n".join(f"  - {fault}" for fault in faults)
        )
    print("\nnothing is missing")
