"""The members of the demo family: one recipe, several widths, two architectures."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

CONTEXT = 64
LAYERS = 4
VOCABULARY = 3000


@dataclass(frozen=True, slots=True)
class Member:
    """One demo model.

    Attributes:
        name: catalogue name and folder under `demo/models`.
        architecture: "gpt2" or "llama".
        width: residual width d; the MLP is 4d wide in GPT-2 and 8d/3 rounded to a multiple of 16 in Llama.
        heads: attention heads.
    """

    name: str
    architecture: Literal["gpt2", "llama"]
    width: int
    heads: int

    @property
    def folder(self) -> Path:
        """Where the trained weights and the tokenizer lie."""
        return Path(str(resources.files(__package__))) / "models" / self.name

    @property
    def mlp_width(self) -> int:
        """d_m, the length of a key."""
        return 4 * self.width if self.architecture == "gpt2" else round(8 * self.width / 3 / 16) * 16

    @property
    def learning_rate(self) -> float:
        """Peak learning rate: one rule for all sizes, 2.8e-3 at width 128, falling with width to the power 0.8."""
        return float(2.8e-3 * (128 / self.width) ** 0.8)


FAMILY = (
    Member("demo-gpt2-32", "gpt2", 32, 2),
    Member("demo-gpt2-64", "gpt2", 64, 4),
    Member("demo-gpt2-128", "gpt2", 128, 4),
    Member("demo-gpt2-256", "gpt2", 256, 8),
    Member("demo-gpt2-384", "gpt2", 384, 12),
    Member("demo-llama-128", "llama", 128, 4),
)


def member(name: str) -> Member:
    """The member of that name.

    Raises:
        KeyError: no such member; the message lists the family.
    """
    for candidate in FAMILY:
        if candidate.name == name:
            return candidate
    raise KeyError(f"no demo model {name!r}; there are {', '.join(m.name for m in FAMILY)}")
