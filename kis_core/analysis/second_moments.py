"""C of a model's layers: from the store, from files of statistics, or in as few passes over the text as memory allows.

Each C is stored as soon as its pass is over, and a pass keeps its place every minute, so that whatever ends the
process costs a minute of work.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from kis_core import progress
from kis_core.analysis.resolve import SECOND_MOMENT, ResolvedRequest, resolve, second_moment_key
from kis_core.corpora import Corpus
from kis_core.covariance.rome_files import Statistics
from kis_core.errors import shown
from kis_core.request import RequestError
from kis_core.results.result import Result
from kis_core.store.store import Store, StoreError, key_of

if TYPE_CHECKING:
    import torch

    from kis_core.covariance.ranks import Share
    from kis_core.covariance.settling import Look
    from kis_core.models.loaded import LoadedModel

log = logging.getLogger(__name__)

WATCHED_FACTS = 256  # whose P is looked at while C grows: of thousands of facts it would cost more than it tells

Looked = Callable[["Look"], None]
"""Told of each look at how far P still moves, while C grows."""


@dataclass(frozen=True, slots=True)
class LayerSecondMoment:
    """C of a layer, and where it comes from.

    Attributes:
        layer: its number.
        matrix: C, (d_m, d_m) float64.
        tokens: behind it.
        reading: how the text was read: documents, their digest, padding, looks at P.
        later: layers that wait for another pass.
    """

    layer: int
    matrix: np.ndarray
    tokens: int
    reading: dict[str, Any]
    later: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What `moments` was called with."""

    resolved: ResolvedRequest
    loaded: LoadedModel
    layers: list[int]
    store: Store
    keys: Mapping[int, np.ndarray]
    looked: Looked | None
    share: Share


def moments(
    resolved: ResolvedRequest,
    loaded: LoadedModel,
    layers: Sequence[int],
    store: Store,
    report: progress.Report = progress.silent,
    *,
    keys: Mapping[int, np.ndarray] | None = None,
    looked: Looked | None = None,
    share: Share | None = None,
) -> Iterator[LayerSecondMoment]:
    """C of each layer, one after the other; first what is stored, then the rest, all of a pass stored before the first.

    Args:
        resolved: of the request.
        loaded: the model.
        layers: which.
        store: where C and checkpoints are kept.
        report: called with every batch.
        keys: (m, d_m) keys of the facts by layer, to look at how far their P still moves.
        looked: called with these looks.
        share: of the work that this process does; of several, only the first one gets C.

    Raises:
        NotFinite, OutOfMemory: as `covariance.Pass.run`.
        StatisticsError: files of statistics do not fit the model.
        RequestError: P is to settle, but no facts are given or several processes share the work.
    """
    from kis_core.covariance.ranks import ALONE

    share = share or ALONE
    known = store.holds if share.world == 1 else store.verify  # several processes have to agree beforehand
    missing = share.agreed([layer for layer in layers if not known(_name(resolved, layer))], loaded.device)
    for layer in [layer for layer in layers if layer not in missing and share.first]:
        if moment := read(resolved, layer, store, loaded.architecture.widths[1]):
            yield replace(moment, later=len(missing))
        else:
            missing.append(layer)  # it turned out to be damaged
    if not missing:
        return
    # two analyses of other facts want the same C: one takes it, the other waits and finds it
    alone = store.alone(key_of("pass", resolved.second_moment_key), report) if share.world == 1 else nullcontext()
    with alone:
        yield from _computed(_Work(resolved, loaded, list(layers), store, keys or {}, looked, share), missing, report)


def _computed(work: _Work, missing: list[int], report: progress.Report) -> Iterator[LayerSecondMoment]:
    """C of the missing layers, from files or in passes; what somebody else stored meanwhile is read."""
    resolved, loaded, store, share = work.resolved, work.loaded, work.store, work.share
    width = loaded.architecture.widths[1]
    for layer in list(missing) if share.world == 1 else ():
        if moment := read(resolved, layer, store, width):
            missing.remove(layer)
            yield replace(moment, later=len(missing))
    if not missing:
        return
    text = resolved.corpus
    if isinstance(text, Statistics):
        groups = [sorted(missing)]
    else:
        groups = _groups(resolved, loaded, set(work.layers), set(missing), store, share)
    wanted = set(missing) if share.first else set()  # of a pass taken up again, some layers may be stored already
    for number, group in enumerate(groups):

        def report_group(stage: str, done: int, total: int, number: int = number) -> None:
            report(stage, number * total + done, len(groups) * total)

        if isinstance(text, Statistics):
            moments_of_group = _from_files(resolved, text, loaded, group, report_group)
        else:
            moments_of_group = _pass(work, text, group, report_group)
        unkept: dict[int, LayerSecondMoment] = {}
        for moment in moments_of_group:
            if moment.layer in wanted and not _keep(resolved, moment, store):
                unkept[moment.layer] = moment
        for layer in sorted(wanted & set(group)):
            if moment := unkept.get(layer) or read(resolved, layer, store, width):
                yield replace(moment, later=sum(map(len, groups[number + 1 :])))
            else:
                raise StoreError(f"C of layer {layer} was stored and cannot be read back; is the disk failing?")


def second_moment(
    result: Result, layer: int, store: Store, load: Callable[[], LoadedModel], report: progress.Report = progress.silent
) -> np.ndarray:
    """C of a result's layer, (d_m, d_m): the stored one, which needs no model; computed anew if it was deleted.

    Raises:
        ModelError, FactFileError, CorpusError: it is gone, and so is what it came from.
        RequestError: it is gone, and what it came from has changed.
    """
    if entry := store.get(second_moment_key(result, layer)):
        matrix = unpacked(entry.arrays["triangle"])
        if len(matrix) != result.mlp_width:
            raise RequestError(
                f"C of layer {layer} has {len(matrix):,} rows, and keys of this result {result.mlp_width:,} numbers: "
                f"one of the two came from elsewhere; delete both in the Library, and analyse anew"
            )
        return matrix
    resolved, source = resolve(result.request, store), result.provenance
    current = (resolved.weights, resolved.text)
    if current != (source["weights_sha256"], source["corpus_sha256"]):
        what = "weights" if current[0] != source["weights_sha256"] else "text"
        raise RequestError(
            f"C of layer {layer} is no longer stored, and the {what} it was taken from changed since; analyse anew"
        )
    if result.request.settled is not None:
        raise RequestError(
            f"C of layer {layer} is no longer stored, and where P had settled is not known; analyse anew"
        )
    [moment] = moments(resolved, load(), [layer], store, report)
    return moment.matrix


def read(resolved: ResolvedRequest, layer: int, store: Store, width: int | None = None) -> LayerSecondMoment | None:
    """A stored C, of so many rows if that is known, or None: there is none, or it is damaged."""
    if (entry := store.get(_name(resolved, layer), **({} if width is None else {"d_m": width}))) is None:
        return None
    reading = entry.meta["told"]
    if reading.get("looks_of", "") != resolved.facts.fingerprint:
        reading = reading | {"looks": []}  # looks at P of other facts
    return LayerSecondMoment(layer, unpacked(entry.arrays["triangle"]), entry.meta["tokens"], reading)


def _name(resolved: ResolvedRequest, layer: int) -> str:
    return key_of(SECOND_MOMENT, resolved.second_moment_key | {"layer": layer})


def packed(matrix: np.ndarray) -> np.ndarray:
    """The lower triangle of a symmetric matrix row by row, (d_m (d_m + 1) / 2,): half the size, nothing lost."""
    triangle = np.empty(len(matrix) * (len(matrix) + 1) // 2, matrix.dtype)
    for row, values in enumerate(matrix):
        begin = row * (row + 1) // 2
        triangle[begin : begin + row + 1] = values[: row + 1]
    return triangle


def unpacked(triangle: np.ndarray) -> np.ndarray:
    """The symmetric matrix that was `packed`."""
    size = int((np.sqrt(8 * len(triangle) + 1) - 1) / 2)
    matrix = np.empty((size, size), triangle.dtype)
    for row in range(size):
        values = triangle[row * (row + 1) // 2 :][: row + 1]
        matrix[row, : row + 1] = values
        matrix[: row + 1, row] = values
    return matrix


def _keep(resolved: ResolvedRequest, moment: LayerSecondMoment, store: Store) -> bool:
    """Store C; where it cannot be, the log says why and the work goes on."""
    meta = {"tokens": moment.tokens, "told": moment.reading, "about": about(resolved) | {"layer": moment.layer}}
    try:
        store.put(_name(resolved, moment.layer), meta, {"triangle": packed(moment.matrix)})
    except StoreError as error:
        log.warning("C of layer %d was computed but not kept: %s", moment.layer, shown(str(error)))
        return False
    return True


def about(resolved: ResolvedRequest) -> dict[str, Any]:
    """What a stored C or checkpoint is of, for people."""
    request = resolved.request
    return {
        "model": request.model,
        "corpus": resolved.corpus.name,
        "tokens": request.tokens,
        "documents": request.documents,
        "dtype": request.dtype,
        "weights_sha256": resolved.weights,
    }


def _from_files(
    resolved: ResolvedRequest, files: Statistics, loaded: LoadedModel, layers: Sequence[int], report: progress.Report
) -> Iterator[LayerSecondMoment]:
    """C of these layers as the files have it."""
    shape, whose = loaded.architecture, {"model": resolved.request.model, "weights": resolved.weights}
    files.check(shape.layers, shape.widths[1], shape.module_path, wanted=layers, **whose)
    for done, layer in enumerate(layers, 1):
        statistics = files.moment(layer)
        yield LayerSecondMoment(
            layer, statistics.matrix, statistics.tokens, {"statistics": files.name, "documents": statistics.samples}
        )
        report("Second moment of the keys", done, len(layers))


def _groups(
    resolved: ResolvedRequest, loaded: LoadedModel, requested: set[int], missing: set[int], store: Store, share: Share
) -> list[list[int]]:
    """Layers that are summed up together: first those of a pass that was begun and can be taken up again.

    A sum lies on the device of its layer; where there are several, each group takes of each what fits there.
    """
    from kis_core.analysis import requirements

    begun = share.agreed(_begun(resolved, requested, missing, store, share) if share.first else [], loaded.device)
    width, by_device = loaded.architecture.widths[1], defaultdict(list)
    for layer in sorted(missing.difference(begun)):
        by_device[loaded.architecture.weight(layer).device].append(layer)
    parts = [requirements.grouped(there, width, _room(place, loaded, share)) for place, there in by_device.items()]
    together = [sorted(chain.from_iterable(part)) for part in zip_longest(*parts, fillvalue=())]
    return [group for group in (begun, *together) if group]


def _room(place: torch.device, loaded: LoadedModel, share: Share) -> int:
    """Bytes for the sums of a group on a device: at least for one, as the estimate is cautious and a pass can tell."""
    from kis_core import machine
    from kis_core.analysis import requirements
    from kis_core.covariance.ranks import sharing

    devices = machine.devices()
    named = [device for device in devices if device.name == str(place)]
    device = (named or [device for device in devices if device.kind == place.type])[0]
    room = share.least(requirements.budget(device, 0) // sharing(place), loaded.device)
    return max(room, requirements.moment_bytes(loaded.architecture.widths[1]))


def _begun(resolved: ResolvedRequest, requested: set[int], missing: set[int], store: Store, share: Share) -> list[int]:
    """Layers of a pass that a checkpoint is of, if all were asked for and not all are stored."""
    from kis_core.store.leftovers import HEAD

    mine = (key_of(SECOND_MOMENT, resolved.second_moment_key), share.rank, share.world)
    for meta in store.listed(HEAD).values():
        pass_of = meta["about"]
        layers = set(pass_of.get("layers", ()))
        if tuple(map(pass_of.get, ("of", "rank", "world"))) == mine and layers <= requested and layers & missing:
            return sorted(layers)
    return []


def _pass(work: _Work, text: Corpus, layers: list[int], report: progress.Report) -> Iterator[LayerSecondMoment]:
    """C of these layers in one pass over the text."""
    from kis_core.covariance.checkpoint import Checkpoints
    from kis_core.covariance.passes import Pass, tokens_per_batch
    from kis_core.covariance.reading import Extent
    from kis_core.covariance.settling import Settling, as_json, watched

    resolved, loaded, share, keys = work.resolved, work.loaded, work.share, work.keys
    request = resolved.request
    if request.settled is not None and (share.world > 1 or not keys):
        raise RequestError("reading until P has settled needs facts, and one process alone; leave `settled` out")
    seen = {layer: keys[layer][:WATCHED_FACTS] for layer in watched(layers) if layer in keys}
    watching = Settling(seen, request.settled, work.looked, resolved.facts.fingerprint)
    mine = {"layers": layers, "rank": share.rank, "world": share.world}
    described = about(resolved) | mine | {"of": key_of(SECOND_MOMENT, resolved.second_moment_key)}
    described["moments"] = [_name(resolved, layer) for layer in layers]  # once all are there, the pass is over
    checkpoints = Checkpoints(work.store, resolved.second_moment_key | mine, described)
    extent, settling = Extent(request.tokens, request.documents), watching if share.world == 1 else None
    moment_pass = Pass(loaded, layers, extent, tokens_per_batch(loaded.device), share)
    outcome = moment_pass.run(text.documents, report=report, checkpoints=checkpoints, settling=settling)
    reading = outcome.reading.to_json() | {
        "padding": outcome.padding,
        "settled": outcome.settled,
        "looks": [as_json(look) for look in watching.looks],
        "looks_of": watching.of,
    }
    for layer, moment in moment_pass.moments():
        yield LayerSecondMoment(layer, moment.matrix, moment.tokens, reading)
    share.wait()
    checkpoints.clear()
