"""How each fact's answer depends on what a layer writes at each token: one backward pass, good for any edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kis_core import progress
from kis_core.models.batching import SENTENCE_TOKENS
from kis_core.models.hooks import hooked
from kis_core.scoring.log_odds import Sentence, batched, read

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

STAGE = "Gradients of the facts' answers"


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Of m facts to one layer, in all n tokens of their sentences (`log_odds.Sentence`), one after the other.

    Attributes:
        layer: its number.
        starts: (m + 1,) ints; the tokens of fact j are rows starts[j] to starts[j + 1].
        key_rows: (m,) ints, the row of each subject's last token.
        keys: (n, d_m) float32, the down-projection's input at each token.
        gradients: (n, d) float32, g_t: of fact j's log-odds with respect to the down-projection's output at token t.
        outputs: (m, d) float32, the down-projection's output at the subject's last token.
        hidden: (m, d) float32, the residual stream after the layer at the prompt's last token.
        log_odds, log_prob: (m,) float64, of each right answer.
    """

    layer: int
    starts: np.ndarray
    key_rows: np.ndarray
    keys: np.ndarray
    gradients: np.ndarray
    outputs: np.ndarray
    hidden: np.ndarray
    log_odds: np.ndarray
    log_prob: np.ndarray

    @property
    def subject_keys(self) -> np.ndarray:
        """(m, d_m): the facts' keys in the sense of the paper."""
        keys: np.ndarray = self.keys[self.key_rows]
        return keys

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but the layer, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "layer"}


def sensitivity(
    loaded: LoadedModel,
    sentences: Sequence[Sentence],
    layer: int,
    *,
    tokens_per_batch: int = SENTENCE_TOKENS,
    report: progress.Report = progress.silent,
) -> Sensitivity:
    """Forward and backward once over each batch of sentences."""
    module, block = loaded.architecture.down_projections[layer], loaded.architecture.blocks[layer]
    rows: list[dict[str, np.ndarray]] = [{} for _ in sentences]
    done = 0
    for numbers, batch in batched(sentences, tokens_per_batch=tokens_per_batch):
        report(STAGE, done, len(sentences))
        seen: dict[str, Tensor] = {}

        def keep(which: int, inputs: Tensor, output: Tensor, seen: dict[str, Tensor] = seen) -> Tensor | None:
            if which == 1:
                seen["hidden"] = output.detach()
                return None
            seen["keys"], seen["outputs"] = inputs.detach(), output.detach()
            seen["added"] = torch.zeros_like(output, requires_grad=True)
            return output + seen["added"]

        with torch.inference_mode(False), torch.enable_grad(), hooked([module, block], keep):
            reading = read(loaded, batch)
            (gradients,) = torch.autograd.grad(reading.log_odds.sum(), seen["added"])
        for row, (number, sentence) in enumerate(zip(numbers, batch, strict=True)):
            length = len(sentence.tokens)
            rows[number] = {
                "keys": _numpy(seen["keys"][row, :length]),
                "gradients": _numpy(gradients[row, :length]),
                "outputs": _numpy(seen["outputs"][row, sentence.key_index]),
                "hidden": _numpy(seen["hidden"][row, sentence.prompt_end]),
                "log_odds": reading.log_odds[row].detach().numpy(),
                "log_prob": reading.log_prob[row].detach().numpy(),
            }
        done += len(batch)
    report(STAGE, len(sentences), len(sentences))
    starts = np.cumsum([0, *(len(s.tokens) for s in sentences)])
    return Sensitivity(
        layer,
        starts,
        starts[:-1] + [s.key_index for s in sentences],
        *(np.concatenate([row[name] for row in rows]) for name in ("keys", "gradients")),
        *(np.stack([row[name] for row in rows]) for name in ("outputs", "hidden", "log_odds", "log_prob")),
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.float().cpu().numpy())
