"""What an edit will do to every other fact, before it is made: four forecasts, from exact to what really happens.

Notation: k_e is the key of the edited fact; c_t = u·k_t the share of the edit that lands on a token with key k_t (for
an edit of eq. 2 this is k_eᵀC⁻¹k_t / k_eᵀC⁻¹k_e, and P[e, j] at fact j's last subject token); g_t the gradient of fact
j's log-odds there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from kis_core.editing.edit import Change, Edit
from kis_core.editing.overlay import device_of, overlaid
from kis_core.models.hooks import hooked
from kis_core.scoring.log_odds import Sentence, batched, read
from kis_core.spillover.sensitivity import Sensitivity

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

ONE_AT_A_TIME = threading.Lock()  # torch knows one forward-mode level for the whole process, not one a thread


def shift(edit: Edit, facts: Sensitivity) -> np.ndarray:
    """c_j·‖δ‖, (m,), at each subject: how far fact j's output moves along δ at the layer. Exact (eq. 11)."""
    moved: np.ndarray = edit.coefficients(facts.subject_keys) * edit.size
    return moved


def subject_token(edit: Change, facts: Sensitivity) -> np.ndarray:
    """c_j·(g_j·δ), (m,): change of log-odds to first order, as if only the last subject token were touched."""
    return _felt(edit, facts.subject_keys, facts.gradients[facts.key_rows])


def all_tokens(edit: Change, facts: Sensitivity) -> np.ndarray:
    """Σ_t c_t (g_t·δ), (m,): change of log-odds to first order, over every token the edit resembles."""
    change: np.ndarray = np.add.reduceat(_felt(edit, facts.keys, facts.gradients), facts.starts[:-1])
    return change


def _felt(edit: Change, keys: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """g·ΔW k of each token: keys (n, d_m), gradients (n, d)."""
    gradients = gradients.astype(np.float64)
    if isinstance(edit, Edit):
        felt: np.ndarray = edit.coefficients(keys) * (gradients @ edit.delta)
    else:
        felt = (edit.moves(keys) * gradients).sum(axis=1)
    return felt


def largest_share(edit: Edit, facts: Sensitivity) -> np.ndarray:
    """max_t |c_t|, (m,): the largest share of the edit that lands anywhere in fact j's sentence."""
    largest: np.ndarray = np.maximum.reduceat(np.abs(edit.coefficients(facts.keys)), facts.starts[:-1])
    return largest


@torch.inference_mode()
def propagated(loaded: LoadedModel, sentences: Sequence[Sentence], edit: Edit, facts: Sensitivity) -> np.ndarray:
    """Change of log-odds, (m,), when c_j·δ is added at fact j's last subject token alone and the model runs on.

    What the paper's coefficient alone would do; an edit also acts on the other tokens.
    """
    shares = torch.from_numpy(edit.coefficients(facts.subject_keys))
    delta, device = torch.from_numpy(edit.delta), device_of(loaded, edit.layer)
    changed = np.empty(len(sentences))
    for numbers, batch in batched(sentences):
        at = [sentence.key_index for sentence in batch]
        moved = (shares[numbers, None] * delta).float().to(device)

        def add(_: int, keys: Tensor, output: Tensor, moved: Tensor = moved, at: list[int] = at) -> Tensor:
            output = output.clone()
            output[list(range(len(at))), at] += moved
            return output

        with hooked([loaded.architecture.down_projections[edit.layer]], add):
            changed[numbers] = read(loaded, batch).log_odds.numpy()
    difference: np.ndarray = changed - facts.log_odds
    return difference


def first_order_logits(loaded: LoadedModel, sentences: Sequence[Sentence], edit: Edit) -> tuple[Tensor, Tensor]:
    """Logits of the answer's first token, and how they change per unit of edit strength, to first order in all tokens.

    Forward-mode differentiation through the overlay: Σ_t c_t (∂logit/∂output_t · δ) for every word at once, which tells
    to what an answer will flip.

    Returns:
        two (m, vocabulary) float32 tensors on the CPU.
    """
    module, device = loaded.architecture.down_projections[edit.layer], device_of(loaded, edit.layer)
    reach = torch.tensor(edit.reach[None], dtype=torch.float32, device=device)
    delta = torch.tensor(edit.delta[None], dtype=torch.float32, device=device)
    parts, order = [], []
    for numbers, batch in batched(sentences):
        with (
            ONE_AT_A_TIME,
            torch.inference_mode(False),
            torch.no_grad(),
            forward_ad.dual_level(),
            _WrittenOutAttention(),
        ):
            dual = forward_ad.make_dual(torch.zeros_like(delta), delta)  # type: ignore[no-untyped-call]

            def add(_: int, keys: Tensor, output: Tensor, dual: Tensor = dual) -> Tensor:
                return overlaid(keys, output, reach, dual)

            with hooked([module], add):
                logits, change = forward_ad.unpack_dual(read(loaded, batch).first_token)  # type: ignore[no-untyped-call]
            change = torch.zeros_like(logits) if change is None else change
            parts.append(torch.stack([logits.detach().cpu(), change.detach().cpu()]))
        order += numbers
    both = torch.cat(parts, dim=1)[:, torch.argsort(torch.tensor(order))]
    return both[0], both[1]


class _WrittenOutAttention(TorchFunctionMode):
    """In this thread alone, attention as plain products: torch's fused kernels know no forward-mode derivative.

    (`sdpa_kernel` would choose torch's own plain one, but for the whole process, and so change others' last digits.)
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        called = _attention if func is torch.nn.functional.scaled_dot_product_attention else func
        return called(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention` as its documentation defines it, without dropout."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if attn_mask is not None:
        unseen = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if unseen else scores + attn_mask
    return torch.softmax(scores, dim=-1) @ value


def crossings(logits: Tensor, change: Tensor, *, up_to: float) -> tuple[list[int], list[float], list[int]]:
    """Where the first choice changes as the strength grows from 0: the upper envelope of logits + strength · change.

    Args:
        logits: (m, vocabulary), as `first_order_logits` gives them.
        change: (m, vocabulary), likewise.
        up_to: largest strength of interest.

    Returns:
        facts, strengths and the tokens that then come first, one entry a change, by rising strength for each fact.
    """
    facts: list[int] = []
    strengths: list[float] = []
    tokens: list[int] = []
    rows = torch.arange(len(logits))
    top = logits.argmax(dim=1)
    while len(rows):
        at = top[rows, None]
        behind = logits[rows].gather(1, at) - logits[rows]
        gains = change[rows] - change[rows].gather(1, at)
        meets = torch.where(gains > 0, behind / gains, torch.inf)
        soonest, token = meets.min(dim=1)
        crossed = soonest <= up_to
        rows, soonest, token = rows[crossed], soonest[crossed], token[crossed]
        facts += rows.tolist()
        strengths += soonest.tolist()
        tokens += token.tolist()
        top[rows] = token  # its gain over the one before is positive, so this ends
    return facts, strengths, tokens
