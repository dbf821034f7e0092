"""Looking at what passes through a model, and changing it, without writing to the model.

A model may serve several threads at once. A hook set here acts in the thread that set it and in no other, and is gone
after the block, whatever happens in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

Seen = Callable[[int, Tensor, Tensor], Tensor | None]
"""Called with (number of the module, its input, its output); a tensor it returns takes the output's place."""

OUTER = "kis_core: its block"  # of a module's __dict__: as an attribute the block would become a part of its own part


def keep_positions(module: nn.Module, block: nn.Module) -> None:
    """Let `hooked` show the module's tensors as (B, T, …) where its block flattens them to (B · T, …), as OPT does.

    Args:
        module: part of the block.
        block: is handed the residual stream, (B, T, d).
    """
    module.__dict__[OUTER] = block


@contextmanager
def hooked(modules: Sequence[nn.Module], seen: Seen) -> Iterator[None]:
    """Within the block, call `seen` whenever this thread runs one of the modules.

    Args:
        modules: with one tensor as input; of an output that is a tuple, the first part counts.
        seen: see there; an error it raises ends the forward pass.
    """
    owner = threading.get_ident()
    batch_shapes: dict[int, torch.Size] = {}

    def note(number: int, block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == owner:
            batch_shapes[number] = inputs[0].shape[:-1]

    def hook(number: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> object:
        if threading.get_ident() != owner:
            return None
        first = output if isinstance(output, Tensor) else output[0]
        if shape := batch_shapes.get(number):
            changed = seen(number, *(tensor.reshape(*shape, tensor.shape[-1]) for tensor in (inputs[0], first)))
            changed = None if changed is None else changed.reshape(first.shape)
        else:
            changed = seen(number, inputs[0], first)
        return changed if changed is None or isinstance(output, Tensor) else (changed, *output[1:])

    outer = [module.__dict__.get(OUTER) for module in modules]
    try:
        for number, (module, block) in enumerate(zip(modules, outer, strict=True)):
            if block is not None:
                block.register_forward_pre_hook(partial(note, number))
            module.register_forward_hook(partial(hook, number))
        yield
    finally:  # by what they are, not by handles: an interrupt may come before a handle is noted
        for module, block in zip(modules, outer, strict=True):
            remove(module, hook)
            if block is not None:
                remove(block, note)


def remove(module: nn.Module, function: Callable[..., object]) -> None:
    """Take a function off a module that was registered there as a `partial`."""
    for hooks, with_options in (
        (module._forward_hooks, module._forward_hooks_with_kwargs),
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
    ):
        for key in [key for key, hook in list(hooks.items()) if isinstance(hook, partial) and hook.func is function]:
            del hooks[key]
            with_options.pop(key, None)
