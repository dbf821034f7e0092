"""What a sequence of edits has come to, beside its trace: it is stored with it, so that a run can be resumed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

STATE = "state."  # how the names of its arrays begin in the store


@dataclass(eq=False)
class RunState:
    """What a run has come to, beside its trace.

    Attributes:
        total: ΔW of all edits so far, (layers, d, d_m).
        past: (layers, n, d_m), keys of the edits so far.
        wrote: (n, d) float32, output of the first edited layer at each edit's subject right after it.
        then: ΔW of the model at the last measurement, (layers, d, d_m), restrained where the method does so.
        renewed: (m,) forecast change of log-odds so far, with gradients renewed at every measurement.
        moved: (m, d) Σ_i p(k_ei, k_j) δ_i of the unrelated facts; ΔW k_j where edits have no δ.
        moved_edits: (n, d) the same of the facts edited, over the edits after each.
    """

    total: np.ndarray
    past: np.ndarray
    wrote: np.ndarray
    then: np.ndarray
    renewed: np.ndarray
    moved: np.ndarray
    moved_edits: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """As they are stored, by name."""
        return {f"{STATE}{name}": value for name, value in vars(self).items()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> RunState | None:
        """The state that `arrays` wrote; None where it was left out, as it is of runs that come with the program."""
        parts = {name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)}
        return cls(**parts) if len(parts) == len(fields(cls)) else None
