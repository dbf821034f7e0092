"""Fine-tuning of the one matrix: the baseline FT of Meng et al. (arXiv 2202.05262, appendix E.1).

Adam on ΔW itself, with -log p of the whole new object after the prompt as the loss, and an early stop. Nothing keeps it
from touching other keys: ΔW has no u, and its spillover follows no P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kis_core import progress
from kis_core.editing.edit import DenseEdit, EditError, applied, device_of, moved
from kis_core.editing.method import PerformedEdit, RequestedEdit, Site
from kis_core.editing.value import check_asked
from kis_core.models.hooks import hooked
from kis_core.scoring.log_odds import read, tokenize_sentences

STAGE = "Fine-tuning"
STOP_LOSS = 0.01  # as ROME's code: early stop


@dataclass(frozen=True, slots=True)
class FineTuning:
    """A `Method`."""

    name: str = "fine-tuning"
    told: str = "fine-tuning"
    batches: bool = False
    spreads: bool = False

    def make(
        self, site: Site, asked: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """One edit in one layer; see `Method.make`.

        Raises:
            EditError: more than one edit or layer, an empty object, or a loss that is not finite.
        """
        if len(asked) != 1 or len(site.layers) != 1:
            raise EditError("fine-tuning makes one edit at a time, in one layer")
        (layer,), (one,) = site.layers, asked
        check_asked(site.loaded, one.target, layer)
        loaded, weights = site.loaded, site.weights
        (sentence,) = tokenize_sentences(
            loaded.tokenizer, [replace(one.fact, target=one.target.strip())], context=loaded.context
        )
        seen: dict[str, Tensor] = {}
        with applied(loaded, *site.standing), torch.inference_mode(False), torch.enable_grad():
            change = torch.zeros(loaded.architecture.widths, device=device_of(loaded, layer), requires_grad=True)
            optimizer = torch.optim.Adam([change], lr=weights.tuning_rate)

            def add(_: int, keys: Tensor, output: Tensor) -> Tensor:
                seen["key"] = keys[0, sentence.key_index].detach()
                return moved(keys, output, change)

            log_prob = torch.zeros(())
            for step in range(weights.tuning_steps + 1):
                report(STAGE, step, weights.tuning_steps)
                with hooked([loaded.architecture.down_projections[layer]], add):
                    log_prob = read(loaded, [sentence]).log_prob.sum()
                if not torch.isfinite(log_prob):
                    raise EditError(
                        f"layer {layer}: the loss is not finite at step {step}; take a smaller learning rate"
                    )
                if -float(log_prob.detach()) < STOP_LOSS or step == weights.tuning_steps:
                    break
                optimizer.zero_grad()
                torch.autograd.backward(-log_prob)
                optimizer.step()
        matrix = change.detach().cpu().double().numpy()
        key = seen["key"].cpu().double().numpy()
        return [
            PerformedEdit(
                (DenseEdit(layer, matrix),),
                np.asarray(key)[None],
                float((log_prob.detach() / len(sentence.answer)).exp()),
                step,
            )
        ]


METHOD = FineTuning()
