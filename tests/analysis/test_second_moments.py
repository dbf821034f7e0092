"""C of a model's layers: from the store, in groups that fit the memory, or from files; nothing is computed twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kis_core import corpora, machine
from kis_core.analysis import pipeline, requirements
from kis_core.analysis.resolve import SECOND_MOMENT, ResolvedRequest, resolve, second_moment_key
from kis_core.analysis.second_moments import LayerSecondMoment, _groups, moments, packed, unpacked
from kis_core.covariance import reading, rome_files
from kis_core.covariance.checkpoint import Checkpoints
from kis_core.covariance.passes import Pass
from kis_core.covariance.ranks import ALONE
from kis_core.covariance.rome_files import StatisticsError
from kis_core.covariance.whitener import Whitener
from kis_core.models.loaded import LoadedModel
from kis_core.progress import Cancelled
from kis_core.request import Request, RequestError
from kis_core.store.leftovers import HEAD, PART
from kis_core.store.store import Store, StoreError
from kis_core.superposition.matrix import superposition
from tests import tiny
from tests.covariance.pass_tools import after

LAYERS = [0, 1, 2]
WIDTH = 40
TOKENS = 900
FLOAT32 = 1e-6  # of P's largest entry: ROME's files hold C in float32, and this C is well conditioned enough
TEXTS = corpora.builtin().texts[:40]

Passes = list[tuple[list[int], int]]
"""Of each pass: its layers, and its batches."""
Take = Callable[..., dict[int, bytes]]


@pytest.fixture(scope="module")
def gpt2() -> LoadedModel:
    return tiny.model("GPT-2")


@pytest.fixture
def asked(tmp_path: Path, saved: Path) -> Request:
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    return Request(str(saved), corpus=str(tmp_path / "corpus.txt"), tokens=TOKENS)


@pytest.fixture
def resolved(asked: Request, store: Store) -> ResolvedRequest:
    return resolve(asked, store)


@pytest.fixture
def take(gpt2: LoadedModel, resolved: ResolvedRequest, store: Store) -> Take:
    """Takes C of some layers, by default of all, and gives its bytes by layer."""

    def taken(layers: list[int] = LAYERS, *more: Any, of: ResolvedRequest = resolved, into: Store = store) -> Any:
        return matrices(moments(of, gpt2, layers, into, *more))

    return taken


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Watch the passes over the text; documents come in small groups."""
    monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", 6)
    seen: Passes = []
    original = Pass.run

    def run(self: Pass, documents: Any, *, report: Any, **options: Any) -> Any:
        seen.append((list(self.layers), -1))  # the first report comes before any batch

        def counting(*told: Any) -> None:
            seen[-1] = (seen[-1][0], seen[-1][1] + 1)
            report(*told)

        return original(self, documents, report=counting, **options)

    monkeypatch.setattr(Pass, "run", run)
    return seen


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Pretend that there is memory for so many layers."""

    def pretend(layers: float) -> None:
        monkeypatch.setattr(requirements, "budget", lambda *_: int(layers * requirements.moment_bytes(WIDTH)))

    return pretend


def matrices(actual: Iterator[LayerSecondMoment]) -> dict[int, bytes]:
    return {moment.layer: moment.matrix.tobytes() for moment in actual}


def left(store: Store) -> set[str]:
    return {item.kind for item in store.inventory()} & {HEAD, PART}


@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_nothing_of_a_packed_c_is_lost(size: int, seed: int) -> None:
    square = np.random.default_rng(seed).normal(size=(size, size))
    symmetric = square + square.T
    triangle = packed(symmetric)
    assert triangle.shape == (size * (size + 1) // 2,)
    assert (unpacked(triangle) == symmetric).all()


class TestGroups:
    def test_little_memory_same_bits(
        self, take: Take, tmp_path: Path, passes: Passes, room: Callable[[float], None]
    ) -> None:
        actual = {}
        for layers in (3, 2, 0.5):
            room(layers)
            actual[layers] = take(into=Store(tmp_path / str(layers)))
            assert actual[layers].keys() == set(LAYERS)
            assert actual[layers] == actual[3]
        assert [layers for layers, _ in passes] == [LAYERS, [0, 1], [2], [0], [1], [2]]

    def test_what_fits_on_each_gpu(
        self, resolved: ResolvedRequest, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free = {"cuda:0": 2.5, "cuda:1": 4.5}
        gpus = [machine.Device(name, name, "cuda", 0, int(room * WIDTH**2 * 8)) for name, room in free.items()]
        monkeypatch.setattr(machine, "devices", lambda: (*gpus, replace(gpus[0], name="all")))
        monkeypatch.setattr(requirements, "budget", lambda device, _: device.free_bytes)
        weights = [SimpleNamespace(device=torch.device(f"cuda:{layer // 4}")) for layer in range(8)]
        shape = SimpleNamespace(widths=(24, WIDTH), weight=weights.__getitem__)
        loaded = SimpleNamespace(architecture=shape, device=torch.device("cuda:0"))
        every = set(range(8))
        assert _groups(resolved, loaded, every, every, store, ALONE) == [[0, 1, 4, 5, 6, 7], [2, 3]]
        assert _groups(resolved, loaded, every, {1, 5}, store, ALONE) == [[1, 5]]

    def test_only_what_is_missing_is_computed(self, take: Take, store: Store, tmp_path: Path, passes: Passes) -> None:
        whole = take(into=Store(tmp_path / "whole"))
        take([1])
        assert take() == take() == whole
        [broken] = [item for item in store.inventory(SECOND_MOMENT) if item.meta["about"]["layer"] == 1]
        broken.path.write_bytes(broken.path.read_bytes()[:-8])
        assert take() == whole
        assert [layers for layers, _ in passes] == [LAYERS, [1], [0, 2], [1]]


class TestResume:
    @pytest.fixture(autouse=True)
    def every_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Checkpoints, "due", lambda _: True)

    def test_goes_on_after_a_kill(self, take: Take, store: Store, tmp_path: Path, passes: Passes) -> None:
        whole = take(into=Store(tmp_path / "whole"))
        for stop in (3, 2, 4):
            with pytest.raises(Cancelled):
                take(LAYERS, after(stop))
            assert left(store) == {HEAD, PART}
        assert take() == whole
        (_, batches), *rest = passes
        assert [count for _, count in rest] == [3, 2, 4, batches - 2 - 1 - 3]
        assert left(store) == set()

    def test_what_was_begun_is_ended_first(self, take: Take, passes: Passes, room: Callable[[float], None]) -> None:
        with pytest.raises(Cancelled):
            take([0, 2], after(5))
        room(1)
        assert set(take()) == set(LAYERS)
        assert [layers for layers, _ in passes] == [[0, 2], [0, 2], [1]]
        assert passes[1][1] == passes[2][1] - 4

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), StoreError("No space left on device")])
    def test_what_cannot_be_stored_costs_no_pass(
        self, take: Take, store: Store, tmp_path: Path, passes: Passes, error: BaseException
    ) -> None:
        """Killed after the second layer, or on a full disk, which costs the store and not the result."""
        whole = take(into=Store(tmp_path / "whole"))
        put, numbers = store.put, iter(range(2))

        def dying(key: str, *arguments: Any) -> None:
            if key.startswith(f"{SECOND_MOMENT}-") and next(numbers, None) is None:
                raise error
            put(key, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "put", dying)
            if isinstance(error, StoreError):
                assert take() == whole
            else:
                with pytest.raises(KeyboardInterrupt):
                    take()
        assert len(store.inventory(SECOND_MOMENT)) == 2
        assert take() == whole
        assert passes[-1][1] == 0 or (passes[-1][0], type(error)) == ([2], StoreError)
        assert left(store) == set()

    def test_looks_at_other_facts_are_not_taken_up(
        self, gpt2: LoadedModel, asked: Request, store: Store, tmp_path: Path, passes: Passes
    ) -> None:
        asked, rng = replace(asked, tokens=None), np.random.default_rng(0)
        mine = resolve(asked, store)
        (tmp_path / "facts.csv").write_text("subject,prompt,target\nMalta,The capital of {} is,Valletta\n")
        others = resolve(replace(asked, facts=str(tmp_path / "facts.csv")), store)
        keys = {count: {layer: rng.normal(size=(count, WIDTH)) for layer in LAYERS} for count in (5, 3)}
        with pytest.raises(Cancelled):
            matrices(moments(others, gpt2, LAYERS, store, after(6), keys=keys[3]))
        looks: list[int] = []
        actual = list(moments(mine, gpt2, LAYERS, store, keys=keys[5], looked=lambda look: looks.append(look.tokens)))
        alone = list(moments(mine, gpt2, LAYERS, Store(tmp_path / "alone"), keys=keys[5]))
        assert matrices(iter(actual)) == matrices(iter(alone))
        assert [count for _, count in passes] == [6, passes[2][1] - 5, passes[2][1]]
        assert 0 < len(actual[0].reading["looks"]) < len(alone[0].reading["looks"])
        assert [tokens for tokens, *_ in actual[0].reading["looks"]] == looks
        [again] = moments(others, gpt2, [0], store, keys=keys[3])
        assert again.reading["looks"] == []


def test_a_settled_pass_ends_early_and_says_so(
    take: Take, gpt2: LoadedModel, resolved: ResolvedRequest, store: Store, passes: Passes
) -> None:
    settled = replace(resolved, request=replace(resolved.request, tokens=None, settled=0.9))
    with pytest.raises(RequestError, match="needs facts"):
        take(of=settled)
    keys = dict.fromkeys(LAYERS, np.random.default_rng(0).normal(size=(6, WIDTH)))
    [actual, *_] = moments(settled, gpt2, LAYERS, store, keys=keys)
    digest = corpora.DocumentsRead()
    for place, text in enumerate(TEXTS[: actual.reading["documents"]]):
        digest.add(place, text)
    assert (actual.reading["characters"], actual.reading["sha256_sum"]) == (digest.characters, digest.digest)
    assert actual.reading["settled"]
    assert actual.tokens < sum(len(gpt2.tokenizer(text)["input_ids"]) for text in TEXTS)
    assert all(share < 0.9 for _, _, share in actual.reading["looks"][-6:])
    assert resolved.second_moment_key != settled.second_moment_key


class TestStatisticsAsCorpus:
    """ROME's files in the place of a text."""

    @pytest.fixture
    def files(
        self, gpt2: LoadedModel, resolved: ResolvedRequest, asked: Request, store: Store, tmp_path: Path
    ) -> ResolvedRequest:
        folder = tmp_path / "wikipedia_stats"
        for moment in moments(resolved, gpt2, LAYERS, store):
            name = f"transformer.h.{moment.layer}.mlp.c_proj_float32_mom2_100000.npz"
            rome_files.write(folder / name, moment.matrix, moment.tokens, 100_000)
        return resolve(replace(asked, corpus=str(folder)), store)

    def test_p_is_the_same_to_the_rounding_of_the_files(
        self, gpt2: LoadedModel, resolved: ResolvedRequest, files: ResolvedRequest, store: Store, passes: Passes
    ) -> None:
        keys = np.random.default_rng(1).normal(size=(6, WIDTH))
        expected, actual = (list(moments(source, gpt2, LAYERS, store)) for source in (resolved, files))
        for one, other in zip(expected, actual, strict=True):
            assert (one.layer, one.tokens) == (other.layer, other.tokens)
            p, q = (superposition(Whitener.fit(c.matrix).whiten(keys)) for c in (one, other))
            condition = Whitener.fit(one.matrix).condition_number
            np.testing.assert_allclose(q, p, rtol=0, atol=FLOAT32 * condition * np.abs(p).max())
            assert other.reading == {"statistics": "wikipedia_stats", "documents": 100_000, "looks": []}
            about = pipeline.provenance(files, gpt2, other)
            result = SimpleNamespace(provenance=about, request=files.request)
            assert store.holds(second_moment_key(result, other.layer))
        assert passes == []
        assert left(store) == set()

    def test_a_layer_without_a_file_is_refused(self, take: Take, files: ResolvedRequest, store: Store) -> None:
        files.corpus.paths[1].unlink()
        fewer = resolve(files.request, store)
        first = take([0, 2], of=fewer)
        assert first.keys() == {0, 2}
        with pytest.raises(StatisticsError, match="no statistics of layer 1"):
            take(of=fewer)
        shutil.rmtree(files.corpus.paths[0].parent)
        assert take([0, 2], of=fewer) == first, "they are not read twice"
