"""The models the program knows by name, the embedded demo family and those of the paper, and where they lie."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kis_core.demo.family import FAMILY
from kis_core.models.files import ModelError, checked_folder, parameters

DEMO = "Demo family"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
DEFAULT = "demo-gpt2-128"  # shows heavy tails and full recall, and is computed in seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        name: what users type.
        family: for grouping and colour.
        source: Hugging Face id; the name itself for an embedded model.
        parameters, layers, width, mlp_width: size, L, d and d_m.
        gated: a licence has to be accepted on the Hub first.
        folder: where an embedded model lies; None for one of the Hub.
    """

    name: str
    family: str
    source: str
    parameters: int
    layers: int
    width: int
    mlp_width: int
    gated: bool = False
    folder: Path | None = None


# The models of Hu et al. (arXiv 2408.07413), with the shapes their published configurations give.
PAPER = (
    Entry("gpt2", "GPT-2", "openai-community/gpt2", 124_439_808, 12, 768, 3072),
    Entry("gpt2-medium", "GPT-2", "openai-community/gpt2-medium", 354_823_168, 24, 1024, 4096),
    Entry("gpt2-large", "GPT-2", "openai-community/gpt2-large", 774_030_080, 36, 1280, 5120),
    Entry("gpt-j-6b", "GPT-J", "EleutherAI/gpt-j-6b", 6_050_882_784, 28, 4096, 16384),
    Entry("pythia-1b", "Pythia", "EleutherAI/pythia-1b", 1_011_781_632, 16, 2048, 8192),
    Entry("pythia-2.8b", "Pythia", "EleutherAI/pythia-2.8b", 2_775_208_960, 32, 2560, 10240),
    Entry("pythia-6.9b", "Pythia", "EleutherAI/pythia-6.9b", 6_857_302_016, 32, 4096, 16384),
    Entry("llama-2-7b", "Llama", "meta-llama/Llama-2-7b-hf", 6_738_415_616, 32, 4096, 11008, gated=True),
    Entry("llama-2-13b", "Llama", "meta-llama/Llama-2-13b-hf", 13_015_864_320, 40, 5120, 13824, gated=True),
    Entry("llama-3-8b", "Llama", "meta-llama/Meta-Llama-3-8B", 8_030_261_248, 32, 4096, 14336, gated=True),
    Entry("llama-3.1-8b", "Llama", "meta-llama/Llama-3.1-8B", 8_030_261_248, 32, 4096, 14336, gated=True),
)


@cache
def demo() -> tuple[Entry, ...]:
    """The embedded models, sized from their own files."""
    entries = []
    for member in FAMILY:
        if not (member.folder / "config.json").is_file():
            continue
        config = json.loads((member.folder / "config.json").read_text("utf-8"))
        entries.append(
            Entry(
                member.name,
                DEMO,
                member.name,
                parameters(member.folder),
                config.get("n_layer") or config["num_hidden_layers"],
                member.width,
                member.mlp_width,
                folder=member.folder,
            )
        )
    return tuple(entries)


def entries() -> tuple[Entry, ...]:
    """Everything in the catalogue, the demo family first."""
    return demo() + PAPER


def find(name: str) -> Entry | None:
    """The entry of that name or Hugging Face id, if there is one."""
    return next((entry for entry in entries() if name in (entry.name, entry.source)), None)


def available() -> tuple[Entry, ...]:
    """The entries whose weights are on this machine: the demo family, and what the Hub's local cache holds."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if not Path(HF_HUB_CACHE).is_dir():
        return demo()
    from huggingface_hub import try_to_load_from_cache

    return demo() + tuple(
        entry for entry in PAPER if isinstance(try_to_load_from_cache(entry.source, "config.json"), str)
    )


def locate(name: str, *, revision: str | None = None) -> Path:
    """The folder that holds a model: an embedded one, a local folder, or the Hub's local copy of an id.

    Raises:
        ModelError: nothing of that name; says where it looked and what to do.
    """
    if entry := find(name):
        if entry.folder:
            return entry.folder
        name = entry.source
    if os.path.isdir(name):  # not Path.is_dir, which raises for a name no file system takes
        return checked_folder(Path(name).resolve())
    if not HUB_ID.fullmatch(name):
        raise _no_name(name)
    return checked_folder(_from_hub(name, revision))


def _no_name(name: str) -> ModelError:
    return ModelError(
        f"{name[:120]!r} is neither a folder on this machine nor a model name. `python -m kis_core models` lists "
        f"the names; a local transformers folder works too."
    )


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]
        )
    except HFValidationError as error:
        raise _no_name(name) from error
    except GatedRepoError as error:  # a subclass of RepositoryNotFoundError: it has to come first
        raise ModelError(
            f"{name} is gated: accept its licence at https://huggingface.co/{name}, run `hf auth login`, try again."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{name} has no revision {revision!r}.") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{name} is not on this machine and cannot be downloaded now. Connect to the network, or give the folder "
            f"of a local copy; the demo models work offline (`python -m kis_core models`)."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"There is no model {name!r} on the Hugging Face Hub, nor in the catalogue.") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{name} could not be downloaded ({type(error).__name__}). Try again, or give a folder."
        ) from error
    return Path(folder)
