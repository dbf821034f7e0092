"""A forward pass from a layer on: all that has to be run again where only that layer's output changes.

Below the layer nothing changes, and neither does any token before the first that is changed, as the model is causal:
the keys and values that the attention above made of those are kept. A search for a value runs the same few tokens
dozens of times.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from kis_core.errors import shown
from kis_core.models.batching import pad
from kis_core.models.hooks import remove

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

log = logging.getLogger(__name__)

MASK, POSITIONS = "attention_mask", "position_ids"  # by these names blocks take them


@torch.no_grad()
def from_layer(
    loaded: LoadedModel, sequences: Sequence[Sequence[int]], layer: int, begin: Sequence[int]
) -> PassFromLayer:
    """A pass over the same texts, to be run again and again while what a layer writes is changed by hooks.

    The first pass is a whole one. If the tail does not give what that gave, for an architecture whose blocks take
    something unknown, every pass is a whole one.

    Args:
        loaded: the model, with whatever hooks stand on it while it is run.
        sequences: B texts, as token ids.
        layer: whose down-projection's output changes.
        begin: for each text, the first token at which it does.
    """
    ids, mask = pad(sequences, loaded.device)
    longest = max(len(tokens) - first for tokens, first in zip(sequences, begin, strict=True))
    at = torch.tensor(begin)[:, None] + torch.arange(longest)
    columns = _Columns(at.clamp(max=ids.shape[1] - 1).to(loaded.device), torch.tensor(begin).to(loaded.device))

    def whole(**options: Any) -> Tensor:
        options = {"use_cache": False} | options
        hidden: Tensor = loaded.model.base_model(input_ids=ids, attention_mask=mask, **options).last_hidden_state
        return columns.of(hidden, 1)

    instead = PassFromLayer(whole, [0] * len(begin))
    if not (blocks := loaded.architecture.blocks[layer:]):
        return instead
    past = DynamicCache() if max(begin) else None
    with _listening(loaded.model, blocks) as heard:
        expected = whole(**({"use_cache": True, "past_key_values": past} if past is not None else {}))
    try:
        tail = _Tail.of(heard, blocks, past, columns, ids.shape[1])
        actual = tail()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        log.info("the whole model is run at every step: %s", shown(str(error)))
        return instead
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max())
    inside = at < torch.tensor([len(tokens) for tokens in sequences])[:, None]
    if not bool(((actual - expected).abs().amax(dim=-1).cpu() <= tolerance)[inside].all()):
        log.info("the whole model is run at every step: its blocks alone give something else")
        return instead
    return PassFromLayer(tail, list(begin))


@dataclass(frozen=True, slots=True)
class PassFromLayer:
    """A pass over texts, to be run again and again.

    Attributes:
        run: gives the base model's last hidden states, (B, S, d): row r begins with its first changed token.
        first: which token of each text is the first that hooks on modules see.
    """

    run: Callable[[], Tensor]
    first: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Columns:
    """The tokens of each text that may change.

    Attributes:
        at: (B, S), their positions; where a text has fewer than S, the last position of all.
        begin: (B,), the first of them.
    """

    at: Tensor
    begin: Tensor

    def of(self, values: Tensor, dim: int) -> Tensor:
        """Those of (B or 1, …, T, …), whose tokens lie along `dim`."""
        values = values.expand(len(self.at), *values.shape[1:])
        index = self.at.to(values.device).reshape(len(self.at), *(1,) * (dim - 1), -1, *(1,) * (values.ndim - dim - 1))
        return values.gather(dim, index.expand(*values.shape[:dim], -1, *values.shape[dim + 1 :]))

    def mask(self, whole: Tensor | None, before: int, hidden: Tensor) -> Tensor:
        """Who sees whom, (B, 1, S, before + S): each changed token, and the `before` kept ones with those changed.

        Args:
            whole: the mask of the whole texts, (B or 1, 1, T, T), boolean or added to the scores; None: causal.
            before: kept tokens of the text that has most; others have as many columns, the rest of which nobody sees.
            hidden: what the block takes, of the device and the precision that the scores have.
        """
        at = self.at.to(hidden.device)
        batch, changed = at.shape
        kept = torch.arange(before, device=at.device).expand(batch, before)
        keys = torch.cat([kept, at], dim=1)
        own = torch.cat([torch.ones_like(at[:, :1]), at.diff(dim=1)], dim=1) > 0  # not the last token once more
        there = torch.cat([kept < self.begin.to(at.device)[:, None], own], dim=1)[:, None, :]
        if whole is None:
            causal = there & (keys[:, None, :] <= at[:, :, None])
            allowed = torch.zeros(causal.shape, dtype=hidden.dtype, device=at.device)
            return allowed.masked_fill(~causal, torch.finfo(hidden.dtype).min)[:, None]
        by_text = whole.to(at.device).expand(batch, *whole.shape[1:])[:, 0]
        seen = by_text.gather(1, at[:, :, None].expand(-1, -1, whole.shape[-1]))
        seen = seen.gather(2, keys[:, None, :].expand(-1, changed, -1))
        unseen = False if whole.dtype == torch.bool else torch.finfo(whole.dtype).min
        return seen.masked_fill(~there, unseen)[:, None]


@dataclass(slots=True)
class _Heard:
    """What a whole pass was seen to do.

    Attributes:
        calls: of each block, by parameter.
        ends: the modules that follow the last block, in order.
    """

    calls: list[dict[str, Any]] = field(default_factory=list)
    ends: list[nn.Module] = field(default_factory=list)


@contextmanager
def _listening(model: nn.Module, blocks: Sequence[nn.Module]) -> Iterator[_Heard]:
    """Within the block, note how this thread calls the blocks, and what follows them."""
    heard, owner = _Heard(), threading.get_ident()
    parents = (one for one in model.modules() if any(blocks[-1] in child.children() for child in one.children()))
    beside = [child for child in next(parents).children() if not isinstance(child, nn.ModuleList)]

    def called(number: int, block: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if threading.get_ident() == owner and number == len(heard.calls):
            heard.calls.append(inspect.signature(block.forward).bind(*args, **options).arguments)

    def followed(_: int, module: nn.Module, *__: Any) -> None:
        if threading.get_ident() == owner and len(heard.calls) == len(blocks):
            heard.ends.append(module)

    try:
        for number, block in enumerate(blocks):
            block.register_forward_pre_hook(partial(called, number), with_kwargs=True)
        for number, module in enumerate(beside):
            module.register_forward_hook(partial(followed, number))
        yield heard
    finally:  # by what they are: see `hooked`
        for block in blocks:
            remove(block, called)
        for module in beside:
            remove(module, followed)


class _Past(Cache):  # type: ignore[misc]
    """The attention's keys and values of the tokens before, in front of which nothing is ever kept."""

    def __init__(self, past: DynamicCache, before: int) -> None:
        self._before = [(layer.keys[..., :before, :], layer.values[..., :before, :]) for layer in past.layers]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        before = self._before[layer]
        return torch.cat([before[0], keys], dim=-2), torch.cat([before[1], values], dim=-2)


@dataclass(frozen=True, slots=True)
class _Tail:
    """The blocks from a layer on and what follows them.

    Attributes:
        first: what the first block takes, (B, S, d).
        blocks: with what else each of them takes.
        ends: what follows them.
    """

    first: Tensor
    blocks: list[tuple[nn.Module, dict[str, Any]]]
    ends: list[nn.Module]

    @classmethod
    def of(
        cls, heard: _Heard, blocks: Sequence[nn.Module], past: DynamicCache | None, columns: _Columns, length: int
    ) -> _Tail:
        """The tail of a pass that was listened to, over texts of that length; `past` if not all of it changes.

        Raises:
            ValueError: a block takes something else of that length.
        """
        before = int(columns.begin.max())
        kept = None if past is None else _Past(past, before)  # an empty cache is false
        options = []
        for call in heard.calls:
            hidden = next(iter(call.values()))
            taken = dict(list(call.items())[1:])
            extra = {name: value for name, value in taken.items() if isinstance(value, dict)}
            for name, values in extra.items():  # **kwargs of the block
                del taken[name]
                taken |= values
            if kept is not None:
                taken = {name: _changed(name, value, columns, length, kept) for name, value in taken.items()}
                taken[MASK] = columns.mask(taken.get(MASK), before, hidden)
            options.append(taken)
        first = next(iter(heard.calls[0].values()))
        return cls(first if kept is None else columns.of(first, 1), list(zip(blocks, options, strict=True)), heard.ends)

    def __call__(self) -> Tensor:
        hidden = self.first
        for block, options in self.blocks:
            output = block(hidden, **options)
            hidden = output if isinstance(output, Tensor) else output[0]
        for module in self.ends:
            hidden = module(hidden)
        return hidden


def _changed(name: str, value: Any, columns: _Columns, length: int, past: _Past | None) -> Any:
    """What a block takes, for the tokens that may change alone."""
    if isinstance(value, Cache):
        return past
    if isinstance(value, tuple) and all(isinstance(part, Tensor) for part in value):
        return tuple(columns.of(part, part.ndim - 2) for part in value)  # of a rotary embedding
    if name == MASK or not isinstance(value, Tensor):
        return value
    if name == POSITIONS:
        return columns.of(value, 1)
    if length in value.shape:
        raise ValueError(f"its blocks take {name}, which is not known")
    return value
