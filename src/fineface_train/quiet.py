"""Libraries that speak while they are loaded, silenced."""

import logging
import os
import warnings

QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""Variables that transformers ("Loading weights", "requires torchvision"), diffusers and the hub read when they are
imported, in this process and in those that it starts."""


def quieten_libraries() -> None:
    """Progress bars and notices of libraries would bury what we print; warnings about our own code stay on.

    Called before anything imports them, as some speak then.
    """
    os.environ.update(QUIET)
    import diffusers
    import transformers

    for library in (diffusers, transformers):  # whoever has imported them before
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"(diffusers|transformers|peft|accelerate|torch)\b"
    )
