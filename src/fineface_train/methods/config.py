"""What the settings of a family are to the verbs, whatever the family. Imports no torch.

A family is a package. Its module `config` holds a dataclass `Method`, a subclass of `MethodConfig`, which is the type
of `config.method`; method=NAME chooses it by the import path in `method.family`.
"""

import dataclasses
from typing import ClassVar, Literal


@dataclasses.dataclass
class MethodConfig:
    """The settings of a family. What is below stands for a family of which nothing special is known."""

    family: str = ""
    """Import path of the family's package. method=NAME sets it."""

    asked: ClassVar[tuple[str, ...]] = ()
    """Fields that making pictures with a finished bundle reads; the others count in training only."""

    @property
    def trains(self) -> bool:
        """Whether these settings train anything."""
        return True

    @property
    def draws(self) -> Literal["toyfacs", "photographs"]:
        """What the pictures show, which decides the prompts that evaluate them and the judges that can read them."""
        return "photographs"

    @property
    def short_name(self) -> str:
        """Part of a run folder's name."""
        return self.family.rpartition(".")[2]

    @property
    def source(self) -> str:
        """The setting that decides what is drawn, for messages: "base=sd21"."""
        return f"method.family={self.family}"

    def locate(self) -> None:
        """Make paths of what is shipped hold from any working directory (see `places.found`)."""

    def unused(self) -> dict[str, str]:
        """Keys below `method` that change nothing in a training with these settings, and the setting that says so.

        Two runs that differ in such a key only are one run.
        """
        return {}

    def idle(self) -> dict[str, str]:
        """Keys of the whole config that nothing reads with these settings, and the setting that says so.

        Given on the command line they are refused.
        """
        return {f"method.{key}": why for key, why in self.unused().items()}

    def validate(self, key: str) -> None:
        """Raise ValueError, naming the full key, for a value out of range and for settings that do not go together."""
