"""The size of a model that is in no catalogue, from its configuration alone: no weight is read."""

from __future__ import annotations

from kis_core.machine import DTYPE_BYTES
from kis_core.models import catalog
from kis_core.models.catalog import HUB_ID, ModelEntry
from kis_core.models.download import hub_configuration, no_name
from kis_core.models.files import CONFIGURATION, ModelError, ModelFiles
from kis_core.models.gguf import IN_PACKAGE

TYPED = "Typed in"  # family of what a user names


def described(name: str, *, revision: str | None = None, download: bool = True) -> ModelEntry:
    """An entry for a name: the catalogue's own, or one read from the configuration of what is named.

    Args:
        name: of an entry, a folder, a GGUF file, or a Hugging Face id.
        revision: of the Hub; None for the newest.
        download: whether to get a configuration from the Hub that is not here.

    Raises:
        ModelError, NotHere: no such model, one whose configuration cannot be had now, or whose weights are packed.
        UnsupportedArchitecture: its keys cannot be read.
    """
    if entry := catalog.find(name):
        return entry
    if files := catalog.on_disk(name):
        return _read(name if IN_PACKAGE.fullmatch(name) else str(files.path), files, files)
    if not HUB_ID.fullmatch(name):
        raise no_name(name)
    path = hub_configuration(name, revision, download=download)
    return _read(name, ModelFiles(path.parent), None, revision)


def _read(name: str, files: ModelFiles, here: ModelFiles | None, revision: str | None = None) -> ModelEntry:
    """The entry for what these files, of which the configuration is there at least, say; `here` are the whole ones."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from kis_core.models.architecture import recognise
    from kis_core.models.loaded import context_of
    from kis_core.models.loading import errors_of_transformers, refuse_endless

    files.refuse_packed()
    folder, options = files.source
    if not options and not (folder / CONFIGURATION).is_file():
        raise ModelError(f"{name} holds no {CONFIGURATION}; a transformers model folder has one.")
    with errors_of_transformers(files.path), torch.device("meta"):  # shapes alone, without memory
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
        refuse_endless(files.path, config)
        model = AutoModelForCausalLM.from_config(config)
        shape, context = recognise(model), context_of(config)
    width, mlp_width = shape.widths
    stored = files.configuration
    dtype = stored.get("dtype") or stored.get("torch_dtype")
    return ModelEntry(
        name,
        TYPED,
        name,
        model.num_parameters(),
        shape.layers,
        width,
        mlp_width,
        files=here,
        context=context,
        dtype=dtype if dtype in DTYPE_BYTES else "float32",
        revision=revision,
        quantisation=files.quantisation,
    )
