"""Load a causal language model and its tokenizer: safetensors or GGUF, no code of its files, if there is memory."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kis_core import machine
from kis_core.errors import KisError
from kis_core.machine import ALL, DTYPE_BYTES, Device, available_bytes, gigabytes
from kis_core.models.files import ModelError, ModelFiles
from kis_core.models.loaded import LoadedModel, context_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

OVERHEAD = 1.2  # activations and the loader's own copies, beside the weights; seen 1.05-1.15 on GPT-2 shapes
DEVICES = ("auto", "cpu", "cuda", "mps", ALL)
NUMBERED = re.compile(r"cuda:\d{1,3}")
MOST_LAYERS = 1_000  # ten times those of the deepest models
ONE_AT_A_TIME = threading.Lock()
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # of the RuntimeErrors of CUDA and MPS, and of the CPU


def choose_device(wanted: str) -> torch.device:
    """The device of that name; "auto" takes the first of `machine.devices()`, "all" has its inputs on the first GPU.

    Raises:
        ModelError: the name is none of `DEVICES` or "cuda:N", or this machine has no such device.
    """
    import torch

    return torch.device(_inputs(_candidates(wanted, machine.devices())[0]))


def load(
    files: ModelFiles, *, device: str = "auto", dtype: str = "float32", memory: Callable[[], int] = available_bytes
) -> LoadedModel:
    """Load a model, without network.

    Args:
        files: as `catalog.locate` gives them.
        device: one of `DEVICES`, or "cuda:N"; "auto" takes the first of `machine.devices()` with memory for it, and
            "all" spreads the layers over all GPUs.
        dtype: what the model computes in, one of `DTYPE_BYTES`, whatever it is stored in.
        memory: tells the bytes there are for a model on the CPU.

    Raises:
        ModelError: too large for the memory, damaged or incomplete weights, a slow tokenizer or one of another model,
            or a folder transformers cannot read.
        UnsupportedArchitecture: no known down-projection, or logits that are not made as those of a known architecture.
    """
    if dtype not in DTYPE_BYTES:
        raise ModelError(f"A model runs in one of {', '.join(DTYPE_BYTES)}; {dtype!r} was asked for.")
    path = files.path
    folder, options = files.source
    files.refuse_packed()
    there = machine.devices(memory)
    candidates = _candidates(device, there)
    stored = files.parameters()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from kis_core.models import architecture, checks

    transformers_logging.disable_progress_bar()  # the caller shows progress, and what is wrong comes as an error
    transformers_logging.set_verbosity_error()
    local = {"local_files_only": True, "trust_remote_code": False} | options
    with errors_of_transformers(path), files.read_once():
        config = AutoConfig.from_pretrained(folder, **local)
        refuse_endless(path, config)
        with torch.device("meta"):  # shapes alone, without memory
            promised = AutoModelForCausalLM.from_config(config).num_parameters()
        place = _with_room(path.name, max(stored, promised), dtype, candidates, there)  # what files lack is made up
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model, notes = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            output_loading_info=True,
            **_placement(place, there),
            **local,
        )
        recognised = architecture.recognise(model)
        _check_whole(path, model, tokenizer, notes)
        context_of(model.config)
        inputs = _settled(model, place)
    loaded = LoadedModel(model.eval().requires_grad_(False), tokenizer, recognised, inputs, dtype)
    with errors_of_transformers(path):
        checks.check_logits(loaded)
    log.info("loaded a %s of %d layers on %s in %s", recognised.name, recognised.layers, place.name, dtype)
    return loaded


def refuse_endless(path: Path, config: Any) -> None:
    """Refuse a configuration of more layers than any model has: they are made one by one, even without their numbers.

    Raises:
        ModelError: it has more.
    """
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise ModelError(
            f"{path} tells of {layers:,} layers; at most {MOST_LAYERS:,} are read. Is its config.json whole?"
        )


def _candidates(wanted: str, there: Sequence[Device]) -> list[Device]:
    """The devices that answer to a name, the one to try first in front."""
    if wanted not in DEVICES and not NUMBERED.fullmatch(wanted):
        raise ModelError(f"No device {wanted!r}; there are {', '.join(DEVICES)} and cuda:N for one of several GPUs.")
    if wanted == "auto":
        return list(there)
    alone = wanted == ALL and all(device.name != ALL for device in there)  # then one GPU is all there are, if any
    name = "cuda:0" if wanted == "cuda" or alone else wanted
    named = [device for device in there if device.name == name]
    if not named:
        raise ModelError(f"This machine has no {'cuda' if alone else wanted} device; use --device auto or cpu.")
    return named


def _with_room(name: str, numbers: int, dtype: str, candidates: Sequence[Device], there: Sequence[Device]) -> Device:
    """The first candidate with memory for that many numbers; a refusal tells needed and free bytes, and a way out."""

    def needed(_: Device, dtype: str) -> int:
        return int(numbers * DTYPE_BYTES[dtype] * OVERHEAD)

    for device in candidates:
        if needed(device, dtype) <= device.free_bytes:
            return device
    largest = max(candidates, key=lambda device: device.free_bytes)
    most, free = needed(largest, dtype), largest.free_bytes
    if way_out := machine.first_fit([largest, *there], DTYPE_BYTES, needed):
        device, smaller = way_out
        advice = f"In {smaller} on {device.name} it takes {gigabytes(needed(device, smaller))} and fits."
    else:
        advice = "Nothing here holds it in any precision: choose a smaller model, or a machine with more memory."
    raise ModelError(
        f"{name} needs about {most:,} bytes ({gigabytes(most)}) of memory in {dtype} on {largest.name}; {free:,} are "
        f"free ({gigabytes(free)}). {advice}"
    )


def _placement(place: Device, there: Sequence[Device]) -> dict[str, Any]:
    """How transformers is to lay out the weights: straight onto GPUs, as the processor's memory may be the smaller."""
    if place.kind != "cuda":
        return {}
    if place.name != ALL:
        return {"device_map": {"": place.name}}
    gpus = {int(device.name.split(":")[1]): device.free_bytes for device in there if device.name.startswith("cuda:")}
    return {"device_map": "auto", "max_memory": gpus}


def _inputs(place: Device) -> str:
    return "cuda:0" if place.name == ALL else place.name


def _settled(model: PreTrainedModel, place: Device) -> torch.device:
    """Bring the model to its place if it is not there yet; gives the device of its inputs."""
    import torch

    if place.name != ALL:
        chosen = torch.device(place.name)
        model.to(chosen)
        return chosen
    outside = {weight.device.type for weight in model.parameters()} - {place.kind}  # "meta" where it stayed on disk
    if outside:
        raise ModelError(
            f"The GPUs cannot hold all layers; some were left to {', '.join(sorted(outside))}, from where each pass "
            f"would fetch them. Free memory on the GPUs, choose bfloat16, or a smaller model."
        )
    from accelerate.utils import send_to_device  # type: ignore[import-untyped]

    inputs: torch.device = model.get_input_embeddings().weight.device
    for module in (model.base_model, model.get_output_embeddings()):  # hidden states and logits come back to the inputs
        module.register_forward_hook(lambda _, __, output: send_to_device(output, inputs))
    return inputs


@contextmanager
def errors_of_transformers(path: Path) -> Iterator[None]:
    """Within the block, whatever transformers raises over a model's files becomes a ModelError; one thread at a time.

    While it builds a model, transformers replaces functions of its classes for the whole process. Of two threads, the
    one that ends last would put back what the other had put there, and no tied head would ever be tied again.
    """
    try:
        with ONE_AT_A_TIME:
            yield
    except KisError:
        raise
    except Exception as error:  # tokenizers and safetensors raise ones that have no ancestor but Exception
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
            raise ModelError(
                f"The memory ran out while {path.name} was loaded; something else may have taken it meanwhile. Close "
                f"other programs, or choose bfloat16, another device or a smaller model."
            ) from error
        raise ModelError(f"transformers cannot load {path} ({type(error).__name__}): {error}") from error


def _check_whole(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, notes: dict[str, Any]
) -> None:
    """Refuse what transformers lets pass: random numbers for tensors not found, an empty or a foreign tokenizer."""
    if missing := notes["missing_keys"]:
        raise ModelError(f"{folder} lacks {len(missing)} of the model's tensors, such as {min(missing)}; get it anew.")
    if misshapen := notes["mismatched_keys"]:
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
    _refuse_without_embedding(folder, model, tokenizer, known)


def _refuse_without_embedding(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, known: int
) -> None:
    """Refuse a tokenizer whose text may hold a token the model has no embedding for.

    Special tokens beyond the embedding are common and harmless, as nothing but their own name brings them in: a padding
    token, or that for images in Gemma 3's text models. Only a text that holds such a name is refused, as it is run.
    """
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= known}
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    brought_in = {number for number in tokenizer("a")["input_ids"] if number >= known}
    if plain := (beyond.keys() - special) | brought_in:
        number = min(plain)
        raise ModelError(
            f"{folder} has a tokenizer with the token {beyond[number]!r} (number {number:,}), for which the model has "
            f"no embedding: it knows {known:,} tokens. Was a token added and the model not resized? Resize it, or take "
            f"the tokenizer it was trained with."
        )
    if beyond:

        def refuse(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
            if number := next((number for number in beyond if bool((inputs[0] == number).any())), None):
                raise ModelError(
                    f"A text holds {beyond[number]!r}, a token for which this model has no embedding. Take it out."
                )

        model.get_input_embeddings().register_forward_pre_hook(refuse)
