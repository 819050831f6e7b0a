"""The 50 AU combinations on which ToyFACS is evaluated: 25 that its corpus holds and 25 that it does not.

The first three of each half are those that the paper names, with the intensities of its figures. A drawing is held out
when the AUs that are not 0 are one of the held-out sets or contain one.
"""

from collections.abc import Iterable

import numpy as np

from fineface_train.aus import AU_KEYS

SEEN_COMBINATIONS: tuple[dict[str, float], ...] = (
    {"AU6": 1, "AU12": 4, "AU25": 4},
    {"AU6": 3, "AU12": 3},
    {"AU1": 3, "AU2": 3, "AU5": 3, "AU25": 3, "AU26": 3},
    {"AU12": 3, "AU25": 2},
    {"AU1": 3, "AU2": 4},
    {"AU25": 4, "AU26": 3},
    {"AU4": 4, "AU9": 3},
    {"AU15": 3, "AU17": 4},
    {"AU1": 4, "AU4": 3, "AU15": 4},
    {"AU4": 3, "AU5": 4},
    {"AU1": 3, "AU4": 3, "AU20": 4, "AU25": 2},
    {"AU4": 3, "AU9": 4, "AU17": 3},
    {"AU1": 4, "AU2": 3, "AU5": 4, "AU26": 3},
    {"AU6": 4, "AU12": 5, "AU25": 3, "AU26": 2},
    {"AU9": 4, "AU25": 3},
    {"AU20": 4, "AU25": 3},
    {"AU2": 3, "AU12": 3},
    {"AU5": 4, "AU25": 2, "AU26": 4},
    {"AU1": 3, "AU15": 3, "AU17": 3},
    {"AU4": 2, "AU6": 3},
    {"AU9": 3, "AU15": 3},
    {"AU2": 4, "AU17": 2},
    {"AU12": 2, "AU17": 3},
    {"AU6": 2, "AU9": 3, "AU25": 4},
    {"AU5": 3, "AU20": 3, "AU25": 3},
)
HELD_OUT_COMBINATIONS: tuple[dict[str, float], ...] = (
    {"AU4": 2, "AU15": 3, "AU17": 4},
    {"AU4": 3, "AU6": 4, "AU17": 2, "AU20": 3},
    {"AU1": 4, "AU2": 4, "AU4": 3, "AU9": 3},
    {"AU1": 3, "AU12": 4},
    {"AU2": 3, "AU15": 3},
    {"AU5": 4, "AU12": 3, "AU25": 3},
    {"AU9": 3, "AU12": 3},
    {"AU4": 3, "AU12": 4},
    {"AU6": 3, "AU15": 3},
    {"AU1": 3, "AU2": 3, "AU5": 4, "AU20": 3},
    {"AU9": 4, "AU20": 3},
    {"AU15": 3, "AU20": 4},
    {"AU5": 4, "AU9": 4, "AU25": 3},
    {"AU2": 3, "AU4": 4, "AU26": 3},
    {"AU6": 4, "AU20": 3, "AU25": 4},
    {"AU1": 3, "AU9": 4, "AU25": 3},
    {"AU4": 4, "AU6": 2, "AU26": 3},
    {"AU2": 3, "AU12": 3, "AU26": 4},
    {"AU9": 4, "AU15": 3, "AU17": 3},
    {"AU2": 3, "AU6": 3, "AU12": 4, "AU25": 4},
    {"AU5": 4, "AU15": 3, "AU25": 2},
    {"AU12": 3, "AU15": 3},
    {"AU5": 3, "AU17": 4},
    {"AU1": 3, "AU4": 2, "AU20": 3, "AU26": 4},
    {"AU6": 3, "AU9": 4, "AU17": 2},
)


def active_mask(combinations: Iterable[dict[str, float]]) -> np.ndarray:
    """(sets, 12) booleans: which AUs each combination moves."""
    return np.array([[combination.get(key, 0) > 0 for key in AU_KEYS] for combination in combinations])


_HELD_OUT = active_mask(HELD_OUT_COMBINATIONS)


def holds_held_out(aus: np.ndarray) -> np.ndarray:
    """For intensities (..., 12): whether the active AUs are, or contain, a held-out set; shape (...)."""
    active = np.asarray(aus) > 0
    return (active[..., None, :] | ~_HELD_OUT).all(axis=-1).any(axis=-1)
