"""Where a δ is added while it is searched for: a module's output, at the subject or at every token by its share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kis_core.editing.overlay import overlaid
from kis_core.models.hooks import hooked


@dataclass(frozen=True, eq=False)
class Insertion:
    """Where a δ is added.

    Attributes:
        module: a δ is added to its output.
        size: ‖v₀‖, which weight decay and clamp are relative to.
        reach: u, (1, d_m), where δ acts on every token by its share u·k, as the edit will; None where it acts at the
            subject's last token alone.
    """

    module: nn.Module
    size: float
    reach: Tensor | None = None

    def adding(self, at: Sequence[int], delta: Tensor, keys: Tensor | None = None) -> AbstractContextManager[None]:
        """Within the block, δ is added.

        Args:
            at: column of the subject's last token in each row of the batch.
            delta: δ, (d,).
            keys: (B, S, d_m), by which the shares go; None for those that the module takes in.
        """

        def everywhere(reach: Tensor, inputs: Tensor, output: Tensor) -> Tensor:
            return overlaid(inputs if keys is None else keys, output, reach, delta[None])

        def at_subject(output: Tensor) -> Tensor:
            rows = torch.zeros(output.shape[:2], device=output.device)
            rows[list(range(len(at))), list(at)] = 1
            return output + (rows[..., None] * delta).to(output.dtype)

        def add(_: int, inputs: Tensor, output: Tensor) -> Tensor:
            return at_subject(output) if self.reach is None else everywhere(self.reach, inputs, output)

        return hooked([self.module], add)
