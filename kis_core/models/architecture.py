"""Where, in this architecture, the MLP down-projection is.

The key of a fact is the input of that projection (Hu et al., arXiv 2408.07413, section 3). An architecture is
recognised by its modules, never by the name of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from kis_core.errors import KisError


class UnsupportedArchitecture(KisError):
    """A model whose down-projections are not where any known architecture has them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Module paths of one architecture: the list of blocks, and the down-projection inside a block."""

    name: str
    blocks: str
    down_projection: str


LAYOUTS = (
    Layout("GPT-2", "transformer.h", "mlp.c_proj"),
    Layout("GPT-J", "transformer.h", "mlp.fc_out"),
    Layout("GPT-NeoX", "gpt_neox.layers", "mlp.dense_4h_to_h"),
    Layout("Llama", "model.layers", "mlp.down_proj"),  # gated: its input is act(gate) * up
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The down-projections of a model, first layer first.

    Attributes:
        name: of the layout that fits.
        down_projections: one module a layer; its input at a token is that token's key, of length d_m.
        blocks: the layers they are in; what one puts out is the residual stream after it, of length d.
    """

    name: str
    down_projections: tuple[nn.Module, ...]
    blocks: tuple[nn.Module, ...] = ()

    @property
    def layers(self) -> int:
        """L, the number of layers."""
        return len(self.down_projections)

    @property
    def widths(self) -> tuple[int, int]:
        """(d, d_m): residual width and MLP width, as of layer 0."""
        width, mlp_width = self.weight(0).shape
        return width, mlp_width

    def weight(self, layer: int) -> Tensor:
        """W of a down-projection, (d, d_m); the very tensor of the model, so not to be written to."""
        module = self.down_projections[layer]
        weight = cast(Tensor, module.weight).detach()
        return weight if isinstance(module, nn.Linear) else weight.T  # transformers' Conv1D stores (in, out)


def recognise(model: PreTrainedModel) -> Architecture:
    """Find the down-projections of a model by its structure.

    Raises:
        UnsupportedArchitecture: no known layout fits; the message lists what is supported and what was found.
    """
    for layout in LAYOUTS:
        blocks = _descend(model, layout.blocks)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            continue
        found = [_descend(block, layout.down_projection) for block in blocks.children()]
        modules = tuple(module for module in found if isinstance(module, nn.Module))
        if len(modules) == len(blocks):
            return Architecture(layout.name, modules, tuple(blocks.children()))
    supported = "; ".join(f"{known.name} ({known.blocks}.N.{known.down_projection})" for known in LAYOUTS)
    children = ", ".join(name for name, _ in model.named_children())
    raise UnsupportedArchitecture(
        f"Model type {model.config.model_type!r} ({type(model).__name__} with modules {children}) is not one this "
        f"program can read keys from. Supported, by structure: {supported}."
    )


def _descend(root: nn.Module, path: str) -> Any:
    return reduce(lambda module, name: getattr(module, name, None), path.split("."), cast(Any, root))
