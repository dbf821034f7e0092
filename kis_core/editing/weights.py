"""What the methods weigh against each other, beside the search for the value: as published, or by scale else."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from kis_core.editing.edit import EditError
from kis_core.models import catalog


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the methods' own terms.

    Attributes:
        memit_lambda: λ of MEMIT: as how many tokens general text counts against the batch.
        null_below: AlphaEdit's null space is spanned by the eigenvectors of C with an eigenvalue below this; None for
            the three quarters of them that general text uses least.
        null_l2: AlphaEdit's L2, in units of ‖k‖²; None for a quarter of what general text has in the null space.
        tuning_rate: Adam's learning rate in fine-tuning.
        tuning_steps: updates of it, at most; as many as the authors' loop of that number makes, which has no last look.
    """

    memit_lambda: float
    null_below: float | None
    null_l2: float | None
    tuning_rate: float
    tuning_steps: int

    def __post_init__(self) -> None:
        for name in ("memit_lambda", "null_below", "null_l2", "tuning_rate"):
            value = getattr(self, name)
            by_scale = value is None and name.startswith("null")
            if not by_scale and not (isinstance(value, float | int) and math.isfinite(value) and value > 0):
                raise EditError(f"{name} has to be a positive number; found {value}")
        if not (isinstance(self.tuning_steps, int) and 1 <= self.tuning_steps <= 1000):
            raise EditError(f"whole steps of fine-tuning from 1 to 1000; {self.tuning_steps} were asked for")

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


MEMIT_LAMBDA = {"gpt2-xl": 20_000.0, "gpt-j-6b": 15_000.0, "llama-3-8b": 15_000.0}
"""As MEMIT's authors run it (Meng et al., arXiv 2210.07229, and its code), and AlphaEdit's; by catalogue name."""
LAMBDA_SHARE = 0.1
"""λ as a share of d_m elsewhere: kᵀC⁻¹k is about d_m for a key of general text, so nine tenths of an edit land."""
NULL_BELOW, NULL_L2 = 0.02, 10.0  # AlphaEdit's own (Fang et al., arXiv 2410.02355, and its code)
NULL_L2_OF = {"llama-3-8b": 1.0}
TUNING_RATE, TUNING_STEPS = 5e-4, 25  # ROME's baseline FT (Meng et al., arXiv 2202.05262, and its code)


TUNING_SCALE = 0.064
"""The rate times d elsewhere: found on the demo family, where it lets 9 in 10 edits take in as many steps."""


def weights(model: str, *, width: int, mlp_width: int) -> Weights:
    """What to start from for a model.

    Args:
        model: catalogue name, Hub id or folder.
        width: d.
        mlp_width: d_m.
    """
    entry = catalog.find(model)
    name = entry.name if entry else model
    published = entry is not None and entry.family != catalog.DEMO
    return Weights(
        memit_lambda=MEMIT_LAMBDA.get(name, LAMBDA_SHARE * mlp_width),
        null_below=NULL_BELOW if published else None,
        null_l2=NULL_L2_OF.get(name, NULL_L2) if published else None,
        tuning_rate=TUNING_RATE if published else TUNING_SCALE / width,
        tuning_steps=TUNING_STEPS,
    )
