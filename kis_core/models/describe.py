"""The size of a model that is in no catalogue, from its configuration alone: no weight is read."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kis_core.machine import DTYPE_BYTES
from kis_core.models import catalog
from kis_core.models.catalog import HUB_ID, ModelEntry
from kis_core.models.download import hub_configuration, no_name
from kis_core.models.files import CONFIGURATION, ModelError, ModelFiles

TYPED = "Typed in"  # family of what a user names


def described(name: str, *, revision: str | None = None, download: bool = True) -> ModelEntry:
    """An entry for a name: the catalogue's own, or one read from the configuration of a folder or an id of the Hub.

    Args:
        name: of an entry, a folder, or a Hugging Face id.
        revision: of the Hub; None for the newest.
        download: whether to get a configuration from the Hub that is not here.

    Raises:
        ModelError, NotHere: no such model, one whose configuration cannot be had now, or whose weights are packed.
        UnsupportedArchitecture: its keys cannot be read.
    """
    if entry := catalog.find(name):
        return entry
    if os.path.isdir(name):  # not Path.is_dir, which raises for a name no file system takes
        folder = Path(name).resolve()
        name, path = str(folder), folder / CONFIGURATION
    elif HUB_ID.fullmatch(name):
        path = hub_configuration(name, revision, download=download)
    else:
        raise no_name(name)
    ModelFiles(path.parent).refuse_packed()
    if not path.is_file():
        raise ModelError(f"{name} holds no {CONFIGURATION}; a transformers model folder has one.")
    return _read(name, path, revision)


def _read(name: str, path: Path, revision: str | None) -> ModelEntry:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from kis_core.models.architecture import recognise
    from kis_core.models.loaded import context_of
    from kis_core.models.loading import errors_of_transformers

    with errors_of_transformers(path.parent), torch.device("meta"):  # shapes alone, without memory
        config = AutoConfig.from_pretrained(path.parent, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(config)
        shape, context = recognise(model), context_of(config)
    width, mlp_width = shape.widths
    stored = json.loads(path.read_text("utf-8"))
    dtype = stored.get("dtype") or stored.get("torch_dtype")
    files = ModelFiles(path.parent) if os.path.isdir(name) else None
    size = model.num_parameters(), shape.layers, width, mlp_width
    dtype = dtype if dtype in DTYPE_BYTES else "float32"
    return ModelEntry(name, TYPED, name, *size, files=files, context=context, dtype=dtype, revision=revision)
