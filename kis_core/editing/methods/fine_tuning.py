"""Fine-tuning of the one matrix: the baseline FT of Meng et al. (arXiv 2202.05262, appendix E.1).

Adam on ΔW itself, with -log p of the whole new object after the prompt as the loss, and an early stop. Nothing keeps it
from touching other keys: ΔW has no u, and its spillover follows no P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from kis_core import progress
from kis_core.editing.edit import DenseEdit, EditError
from kis_core.editing.method import Method, PerformedEdit, RequestedEdit, Site
from kis_core.editing.registry import register
from kis_core.editing.settings import ModelScale, Settings, check_positive

STAGE = "Fine-tuning"
STOP_LOSS = 0.01  # as ROME's code: early stop
TUNING_RATE, TUNING_STEPS = 5e-4, 25  # of the baseline in ROME's paper and code
TUNING_SCALE = 0.064
"""The rate times d elsewhere: found on the demo family, where it lets 9 in 10 edits take in as many steps."""
MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class FineTuningSettings(Settings):
    """Terms of the descent.

    Attributes:
        tuning_rate: Adam's learning rate.
        tuning_steps: updates, at most; as many as the authors' loop of that number makes, which has no last look.
    """

    tuning_rate: float
    tuning_steps: int

    def __post_init__(self) -> None:
        check_positive(tuning_rate=self.tuning_rate)
        if not (isinstance(self.tuning_steps, int) and 1 <= self.tuning_steps <= MOST_STEPS):
            raise EditError(
                f"fine-tuning takes a whole number of steps from 1 to {MOST_STEPS}; found {self.tuning_steps}"
            )

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """The published rate, or else one that falls with d."""
        return cls(TUNING_RATE if scale.published else TUNING_SCALE / scale.width, TUNING_STEPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning(Method):
    """See the module."""

    def perform(
        self, site: Site, requested: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """One edit in one layer; see `Method.perform`.

        Raises:
            EditError: more than one edit or layer, an empty object, or a loss that is not finite.
        """
        import torch

        from kis_core.editing.overlay import applied, device_of, moved
        from kis_core.editing.value import check_target
        from kis_core.models.hooks import hooked
        from kis_core.scoring.log_odds import read, tokenize_sentences

        layer, edit = self.check_single(site, requested)
        check_target(site.loaded, edit.target, layer)
        loaded, settings = site.loaded, self.own_settings(site)
        fact = replace(edit.fact, target=edit.target.strip())
        (sentence,) = tokenize_sentences(loaded.tokenizer, [fact], context=loaded.context)
        seen: dict[str, torch.Tensor] = {}
        with applied(loaded, *site.standing), torch.inference_mode(False), torch.enable_grad():
            change = torch.zeros(loaded.architecture.widths, device=device_of(loaded, layer), requires_grad=True)
            optimizer = torch.optim.Adam([change], lr=settings.tuning_rate)

            def add(_: int, keys: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
                seen["key"] = keys[0, sentence.key_index].detach()
                return moved(keys, output, change)

            log_prob = torch.zeros(())
            for step in range(settings.tuning_steps + 1):
                report(STAGE, step, settings.tuning_steps)
                with hooked([loaded.architecture.down_projections[layer]], add):
                    log_prob = read(loaded, [sentence]).log_prob.sum()
                if not torch.isfinite(log_prob):
                    raise EditError(
                        f"layer {layer}: the loss is not finite at step {step}; take a smaller learning rate"
                    )
                if -float(log_prob.detach()) < STOP_LOSS or step == settings.tuning_steps:
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


METHOD = register(
    FineTuning(
        name="fine-tuning",
        label="fine-tuning",
        place=60,
        paper="arXiv 2202.05262",
        help="Adam on the one matrix alone, the baseline; its spillover follows no P.",
        settings=FineTuningSettings,
        searches=False,
    )
)
