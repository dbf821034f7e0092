"""Looking at what passes through a model, and changing it, without writing to the model.

A model may serve several threads at once. A hook set here acts in the thread that set it and in no other, and is gone
after the block, whatever happens in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

Seen = Callable[[int, Tensor, Tensor], Tensor | None]
"""Called with (number of the module, its input, its output); a tensor it returns takes the output's place."""


@contextmanager
def hooked(modules: Sequence[nn.Module], seen: Seen) -> Iterator[None]:
    """Within the block, call `seen` whenever this thread runs one of the modules.

    Args:
        modules: with one tensor as input; of an output that is a tuple, the first part counts.
        seen: see there; an error it raises ends the forward pass.
    """
    owner = threading.get_ident()

    def hook(number: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> object:
        if threading.get_ident() != owner:
            return None
        if isinstance(output, Tensor):
            return seen(number, inputs[0], output)
        changed = seen(number, inputs[0], output[0])
        return None if changed is None else (changed, *output[1:])

    try:
        for number, module in enumerate(modules):
            module.register_forward_hook(partial(hook, number))
        yield
    finally:  # by what they are, not by handles: an interrupt may come before a handle is noted
        for module in modules:
            hooks = module._forward_hooks
            for key in [key for key, one in list(hooks.items()) if isinstance(one, partial) and one.func is hook]:
                del hooks[key]
