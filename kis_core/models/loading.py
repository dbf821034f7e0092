"""Load a causal language model and its tokenizer: safetensors only, no code from the model's folder, float32."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kis_core.models.files import FLOAT32_BYTES, ModelError, float32_bytes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from kis_core.models.architecture import Architecture

log = logging.getLogger(__name__)

OVERHEAD = 1.2  # activations and the loader's own copies, beside the weights; seen 1.05-1.15 on GPT-2 shapes
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be read.

    Attributes:
        model: in float32 and evaluation mode; its weights are never written to.
        tokenizer: a fast tokenizer, for character offsets.
        architecture: where its down-projections are.
        device: where it lives.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    architecture: Architecture
    device: torch.device

    @property
    def context(self) -> int:
        """Longest sequence, in tokens, that the model was built for."""
        return int(self.model.config.max_position_embeddings)

    def digest(self) -> str:
        """SHA-256 over the bits of all weights, by name: the same before and after anything this program does."""
        found = hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            found.update(name.encode())
            found.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


def available_bytes() -> int:
    """Memory this process may still take: free memory of the machine, or the process's own limit if lower."""
    import resource

    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # all there is, where free memory is not told
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return free if limit == resource.RLIM_INFINITY else min(free, limit)


def choose_device(wanted: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ModelError: the device is not one of `DEVICES`, or this machine has none.
    """
    import torch

    if wanted not in DEVICES:
        raise ModelError(f"No device {wanted!r}; there are {', '.join(DEVICES)}.")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, there in present.items() if there)
    if not present[wanted]:
        raise ModelError(f"This machine has no {wanted} device; use --device auto or cpu.")
    return torch.device(wanted)


def import_all() -> None:
    """Import now what loading and running a model will need, at a moment of the caller’s choosing."""
    import transformers.models.auto.modeling_auto
    import transformers.models.auto.tokenization_auto  # noqa: F401

    from kis_core import answers, covariance, keys  # noqa: F401


def load(folder: Path, *, device: str = "auto", memory: Callable[[], int] = available_bytes) -> LoadedModel:
    """Load the model in a folder (as `locate` gives it), in float32, without network.

    Args:
        folder: a transformers model folder.
        device: one of `DEVICES`.
        memory: tells the bytes there are for a model on the CPU.

    Raises:
        ModelError: too large for the memory, damaged or incomplete weights, a slow tokenizer or one of another model,
            or a folder transformers cannot read.
        UnsupportedArchitecture: no known down-projection.
    """
    chosen = choose_device(device)
    stored = float32_bytes(folder)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from kis_core.models import architecture

    transformers_logging.disable_progress_bar()  # the caller shows progress, and what is wrong comes as an error
    transformers_logging.set_verbosity_error()
    local = {"local_files_only": True, "trust_remote_code": False}
    with _errors_of_transformers(folder), torch.device("meta"):  # shapes alone, without memory
        promised = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **local)).num_parameters()
    needed = int(max(stored, promised * FLOAT32_BYTES) * OVERHEAD)  # what its files lack, transformers makes up
    if chosen.type == "cpu" and needed > memory():
        raise ModelError(
            f"{folder.name} needs about {needed:,} bytes of memory in float32; {memory():,} are free. "
            f"Choose a smaller model, or a machine with more memory."
        )
    with _errors_of_transformers(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            output_loading_info=True,
            **local,
        )
    recognised = architecture.recognise(model)
    _check_whole(folder, model, tokenizer, found)
    model.to(chosen).eval().requires_grad_(False)
    log.info("loaded a %s of %d layers on %s", recognised.name, recognised.layers, chosen)
    return LoadedModel(model, tokenizer, recognised, chosen)


@contextmanager
def _errors_of_transformers(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # tokenizers and safetensors raise ones that have no ancestor but Exception
        raise ModelError(f"transformers cannot load {folder} ({type(error).__name__}): {error}") from error


def _check_whole(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, found: dict[str, Any]
) -> None:
    """Refuse what transformers lets pass: random numbers for tensors not found, an empty or a foreign tokenizer."""
    if missing := found["missing_keys"]:
        raise ModelError(f"{folder} lacks {len(missing)} of the model's tensors, such as {min(missing)}; get it anew.")
    if misshapen := found["mismatched_keys"]:
        name, stored, wanted = min(misshapen)
        raise ModelError(
            f"{folder} holds {name} with shape {tuple(stored)} where its config.json wants {tuple(wanted)}; "
            f"get it anew."
        )
    if not tokenizer.is_fast:
        raise ModelError(f"{folder.name} has no fast tokenizer (tokenizer.json); character offsets need one.")
    known = model.get_input_embeddings().num_embeddings
    if not 0 < tokenizer.vocab_size <= known:
        raise ModelError(
            f"{folder} has a tokenizer of {tokenizer.vocab_size:,} tokens where the model knows {known:,}; "
            f"is its tokenizer.json missing, or of another model?"
        )
