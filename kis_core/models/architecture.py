"""Where, in this architecture, the MLP down-projection is.

The key of a fact is the input of that projection (Hu et al., arXiv 2408.07413, section 3). An architecture is
recognised by its modules, never by the name of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from kis_core.errors import KisError
from kis_core.models.hooks import keep_positions
from kis_core.models.layers import editable_layers


class UnsupportedArchitecture(KisError):
    """A model whose down-projections are not where they are known to be, or whose logits are made in an unknown way."""


@dataclass(frozen=True, slots=True)
class ModuleLayout:
    """Module paths of one architecture.

    Attributes:
        name: of the architecture.
        blocks: path of the list of blocks.
        down_projection: path of it inside a block.
        attention_output: path inside a block of the projection that the attention puts out.
        others: architectures built the same way, for people to read.
        one_row: a block hands its down-projection all tokens of a batch in one row, without saying which text is whose.
    """

    name: str
    blocks: str
    down_projection: str
    attention_output: str
    others: str = ""
    one_row: bool = False

    def __str__(self) -> str:
        """As a message tells it."""
        return f"{self.name}{self.others and ', '}{self.others} ({self.blocks}.N.{self.down_projection})"


LAYOUTS = (
    ModuleLayout("GPT-2", "transformer.h", "mlp.c_proj", "attn.c_proj"),
    ModuleLayout("GPT-J", "transformer.h", "mlp.fc_out", "attn.out_proj"),
    ModuleLayout("GPT-NeoX", "gpt_neox.layers", "mlp.dense_4h_to_h", "attention.dense", "Pythia"),
    # gated: the input of down_proj is act(gate) * up, whether the two come from one matrix (Phi-3) or from two
    ModuleLayout(
        "Llama",
        "model.layers",
        "mlp.down_proj",
        "self_attn.o_proj",
        "Mistral, Qwen2, Qwen3, Gemma 2, Gemma 3, Phi-3, Granite, Cohere",
    ),
    ModuleLayout("Gemma 3 with images", "model.language_model.layers", "mlp.down_proj", "self_attn.o_proj"),
    ModuleLayout("Phi", "model.layers", "mlp.fc2", "self_attn.dense"),
    ModuleLayout("OPT", "model.decoder.layers", "fc2", "self_attn.out_proj", one_row=True),
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The down-projections of a model, first layer first.

    Attributes:
        name: of the layout that fits.
        down_projections: one module a layer; its input at a token is that token's key, of length d_m.
        blocks: the layers they are in; what one puts out is the residual stream after it, of length d.
        paths: where in the model each down-projection is.
        logit_scale: what the output embeddings give is multiplied by it, as Granite and Cohere do.
        logit_cap: logits are then bent to stay below it, c tanh(x / c), as Gemma 2 does; None where they are not.
        attention_outputs: the projections that the attentions put out, of length d, before what a block does with it;
            none where they are not where the layout has them.
    """

    name: str
    down_projections: tuple[nn.Module, ...]
    blocks: tuple[nn.Module, ...] = ()
    paths: tuple[str, ...] = ()
    logit_scale: float = 1.0
    logit_cap: float | None = None
    attention_outputs: tuple[nn.Module, ...] = ()

    @property
    def layers(self) -> int:
        """L, the number of layers."""
        return len(self.down_projections)

    @property
    def editable_layers(self) -> range:
        """The layers that can be edited."""
        return editable_layers(self.layers)

    @property
    def widths(self) -> tuple[int, int]:
        """(d, d_m): residual width and MLP width, the same in every layer."""
        width, mlp_width = self.weight(0).shape
        return width, mlp_width

    def weight(self, layer: int) -> Tensor:
        """W of a down-projection, (d, d_m); the very tensor of the model, so not to be written to."""
        return _weight(self.down_projections[layer])

    def module_path(self, layer: int) -> str:
        """Path of a down-projection in the model, such as "transformer.h.0.mlp.c_proj"; ROME's statistics carry it."""
        return self.paths[layer]


def recognise(model: PreTrainedModel) -> Architecture:
    """Find the down-projections of a model by its structure.

    Raises:
        UnsupportedArchitecture: no known layout fits; the message lists what is supported and what was found.
    """
    for layout in LAYOUTS:
        if architecture := _fit(model, layout):
            return architecture
    children = ", ".join(name for name, _ in model.named_children())
    raise UnsupportedArchitecture(
        f"Model type {model.config.model_type!r} ({type(model).__name__} with modules {children}) is not one this "
        f"program can read keys from: it needs one MLP a layer, with a down-projection of the same size in each. "
        f"Supported, by structure: {'; '.join(map(str, LAYOUTS))}."
    )


def _fit(model: PreTrainedModel, layout: ModuleLayout) -> Architecture | None:
    listed = _descend(model, layout.blocks)
    if not isinstance(listed, nn.ModuleList) or not len(listed):
        return None
    blocks = tuple(listed.children())
    modules = tuple(_descend(block, layout.down_projection) for block in blocks)
    if not all(isinstance(module, nn.Linear | Conv1D) for module in modules):
        return None
    if len({_weight(module).shape for module in modules}) != 1:
        return None
    if layout.one_row:
        for module, block in zip(modules, blocks, strict=True):
            keep_positions(module, block)
    attentions = tuple(_descend(block, layout.attention_output) for block in blocks)
    if not all(isinstance(module, nn.Linear | Conv1D) for module in attentions):
        attentions = ()
    paths = tuple(f"{layout.blocks}.{layer}.{layout.down_projection}" for layer in range(len(blocks)))
    config = model.config.get_text_config()
    logit_cap = getattr(config, "final_logit_softcapping", None)
    return Architecture(layout.name, modules, blocks, paths, _logit_scale(config), logit_cap, attentions)


def _logit_scale(config: PretrainedConfig) -> float:
    """By the two names there are for it; `checks.check_logits` sees whether the model means it so."""
    factor, divisor = (getattr(config, name, None) for name in ("logit_scale", "logits_scaling"))
    scale = float(factor) if isinstance(factor, int | float) else 1.0
    return scale / divisor if isinstance(divisor, int | float) and divisor else scale


def _weight(module: nn.Module) -> Tensor:
    weight = cast(Tensor, module.weight).detach()
    return weight.T if isinstance(module, Conv1D) else weight  # transformers' Conv1D stores (in, out)


def _descend(root: nn.Module, path: str) -> Any:
    return reduce(lambda module, name: getattr(module, name, None), path.split("."), cast(Any, root))
