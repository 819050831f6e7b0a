"""Train, ablate and compare models that control a face's expression muscle by muscle.

The names that other programs use are here; they are imported when first asked for, so that `import fineface_train` is
quick.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; importing typing takes as long as all the rest of this
if TYPE_CHECKING:
    from typing import Any

    from fineface_train.aus import AUS, format_aus, parse_aus
    from fineface_train.methods.au_diffusion.bundle import load_adapter
    from fineface_train.methods.au_diffusion.conditioning import au_embeds, pipeline_arguments

__version__ = "0.1.0"
__all__ = ["AUS", "au_embeds", "format_aus", "load_adapter", "parse_aus", "pipeline_arguments"]

_HOMES = {
    "AUS": "fineface_train.aus",
    "parse_aus": "fineface_train.aus",
    "format_aus": "fineface_train.aus",
    "au_embeds": "fineface_train.methods.au_diffusion.conditioning",
    "pipeline_arguments": "fineface_train.methods.au_diffusion.conditioning",
    "load_adapter": "fineface_train.methods.au_diffusion.bundle",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
