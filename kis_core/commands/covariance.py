"""`covariance`: C of a model into the store and into ROME's files, by one process or by those that torchrun starts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kis_core import progress
from kis_core.analysis import pipeline
from kis_core.analysis.resolve import ResolvedRequest
from kis_core.analysis.second_moments import LayerSecondMoment, moments
from kis_core.commands import options
from kis_core.commands.line import ProgressLine, refuse
from kis_core.covariance import rome_files
from kis_core.covariance.rome_files import Statistics
from kis_core.errors import KisError
from kis_core.models import catalog, loading
from kis_core.models.loaded import LoadedModel
from kis_core.request import RequestError
from kis_core.results import caveats
from kis_core.store.store import Store

if TYPE_CHECKING:
    import numpy as np

    from kis_core.covariance.ranks import Share

ONE_EACH = ("auto", "cpu", "cuda")  # devices of which every process of several can have its own
PROVENANCE = (
    "revision", "weights_sha256", "architecture", "corpus", "corpus_sha256", "tokens_requested", "documents_requested",
    "tokens_counted", "documents_read", "documents_sha256_sum", "moment_dtype", "settled", "versions",
)  # fmt: skip
"""Of a result's provenance, what is true of C: nothing of facts, of this machine, or of where its files lie."""
EPILOG = (
    "After a kill, the same command resumes where it stopped. On a machine with several GPUs, or on several machines: "
    "torchrun --nproc-per-node N -m kis_core covariance ...; the processes share the text, and the first one writes."
)


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "compute C of a model's layers; store it, and write ROME's files"
    covariance = commands.add_parser("covariance", help=summary, description=summary, epilog=EPILOG)
    options.add_model(covariance)
    options.add_text(covariance, corpus=None, tokens="all")
    options.add_facts(covariance)
    covariance.add_argument("--layers", default="all", metavar="all|0,2", help="default all")
    options.add_out(covariance)
    covariance.set_defaults(command=_covariance)


def _covariance(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    request = options.request_of(args, layers=options.chosen_layers(args.layers), tokens=None)
    options.folder(args.out)
    with _processes(args.device) as (share, device):
        store, report = Store(), line if share.first else progress.silent
        report("Reading facts and text", 0, 1)
        resolved = pipeline.resolve(request, store, report=report)
        if share.first:
            line.say_of(resolved.facts)
        report("Loading the model", 0, 1)
        loaded = loading.load(resolved.files, device=device, dtype=request.dtype)
        layers = pipeline.chosen_layers(request, loaded.architecture.layers)
        keys = None if request.settled is None else _keys(resolved, loaded, layers, report)
        warned: set[str] = set()
        for moment in moments(resolved, loaded, layers, store, report, keys=keys, share=share):
            few = set(caveats.of_text(moment.tokens, len(moment.matrix))) - warned  # the same in every layer
            warned |= few
            line.warn(few if share.first else ())
            if isinstance(resolved.corpus, Statistics):
                yield resolved.corpus.paths[moment.layer]  # C came from there
                continue
            yield _write(args.out, resolved, loaded, moment)


def _write(out: Path, resolved: ResolvedRequest, loaded: LoadedModel, moment: LayerSecondMoment) -> Path:
    """Write C of a layer where ROME looks for it; gives the path."""
    name, module = _short_name(resolved), loaded.architecture.module_path(moment.layer)
    samples = moment.reading["documents"]
    path = rome_files.path_for(out, name, _dataset(resolved), module, samples)
    whole = pipeline.provenance(resolved, loaded, moment)
    provenance = {part: whole[part] for part in PROVENANCE} | {"model": name, "layer": moment.layer, "module": module}
    rome_files.write(path, moment.matrix, moment.tokens, samples, provenance)
    return path


@contextmanager
def _processes(wanted: str) -> Iterator[tuple[Share, str]]:
    """This process's share of the work and its device; an error of one of several processes ends them all."""
    from kis_core.covariance import ranks

    if not ranks.launched():
        yield ranks.ALONE, wanted
        return
    device = _own_device(wanted)
    with ranks.together(device) as share:
        try:
            yield share, device
        except (KisError, OSError) as error:
            _leave(error)
        except RuntimeError as error:
            if not _of_another(error):
                raise
            _leave(RequestError("another process ended before its share was done; what it said tells why"))


def _own_device(wanted: str) -> str:
    import torch

    from kis_core.covariance.ranks import own_device

    if wanted not in ONE_EACH:
        raise RequestError(f"several processes take a device each: --device {', '.join(ONE_EACH)}; found {wanted}")
    device, here = own_device(wanted), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.startswith("cuda") and here > (gpus := torch.cuda.device_count()):
        raise RequestError(f"{here} processes were started on a machine with {gpus} GPUs; use --nproc-per-node {gpus}")
    return device


def _leave(error: KisError | OSError) -> NoReturn:
    """End this process now, upon which torchrun ends the others: to take the group down is to wait for them."""
    os._exit(refuse(error))


def _of_another(error: RuntimeError) -> bool:
    """Whether an error says that another process no longer answers."""
    import torch

    return isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)


def _keys(
    resolved: ResolvedRequest, loaded: LoadedModel, layers: list[int], report: progress.Report
) -> Mapping[int, np.ndarray]:
    from kis_core.keys import fact_keys, tokenize_prompts

    prompts = tokenize_prompts(loaded.tokenizer, resolved.facts.facts, context=loaded.context)
    return dict(zip(layers, fact_keys(loaded, prompts, layers=layers, report=report), strict=True))


def _short_name(resolved: ResolvedRequest) -> str:
    """What ROME's folders call a model: its name without the owner."""
    name, files = resolved.request.model, resolved.files
    if entry := catalog.find(name):
        return Path(entry.source).name
    return Path(name).name if files.commit else files.name


def _dataset(resolved: ResolvedRequest) -> str:
    """What ROME's folders call a text: a file without its suffix, a folder as it is."""
    name = resolved.corpus.name
    return Path(name).stem if Path(resolved.request.corpus).is_file() else name
