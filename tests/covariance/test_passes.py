"""A pass over the text: it stops after the last layer needed, bears little memory, and counts every key once.

Two processes that share one give what one gives; killed, they are in tests/commands/test_covariance_command.py.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import corpora
from kis_core.covariance import moment, ranks, reading
from kis_core.covariance.layer_sums import OutOfMemory
from kis_core.covariance.moment import SecondMomentSum
from kis_core.covariance.passes import Pass, second_moments
from kis_core.covariance.ranks import ALONE, Share
from kis_core.covariance.reading import Extent
from kis_core.keys import NotFinite
from kis_core.models.loaded import LoadedModel
from kis_core.store.store import Store
from tests import covariance_workers, tiny
from tests.covariance import pass_tools
from tests.covariance.pass_tools import AT_ONCE, DOCUMENTS, SCARCE, Counting, before, new, run
from tests.covariance.pass_tools import out_of_memory_above as above

FLOAT32 = 1e-5  # relative to C's largest entry: keys from float32 passes over batches of another shape


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", AT_ONCE)


def close(one: dict[int, bytes], other: dict[int, bytes], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for layer, values in one.items():
        actual, expected = np.frombuffer(values), np.frombuffer(other[layer])
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * expected.max())


@pytest.mark.parametrize(
    "architecture", tiny.in_full(tiny.EVERY_ARCHITECTURE, ("GPT-2", "Llama", "Gemma 3 with images"))
)
class TestEarlyStop:
    def test_nothing_after_the_last_layer_needed_runs_and_c_is_that_of_all_layers(self, architecture: str) -> None:
        loaded = tiny.model(architecture)
        every = run(new(loaded, layers=[0, 1, 2]))
        names = {module: name for name, module in loaded.model.named_modules()}
        ran: list[str] = []
        handle = torch.nn.modules.module.register_module_forward_pre_hook(
            lambda module, _: ran.append(names.get(module, "")) if module in names else None
        )
        try:
            for last in (0, 1):
                ran.clear()
                actual = run(new(loaded, layers=sorted({last, 0})))
                beyond = tuple(names[block] for block in loaded.architecture.blocks[last + 1 :])
                assert loaded.architecture.paths[last] in ran
                assert not [name for name in ran if name.startswith(beyond)]
                assert not {names[loaded.model.get_output_embeddings()], "lm_head"} & set(ran)
                assert actual.c == {layer: every.c[layer] for layer in {last, 0}}
        finally:
            handle.remove()
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())


class TestCounting:
    def test_tokens_documents_and_batches_are_told(self, gpt2: LoadedModel) -> None:
        counting = Counting()
        actual = run(new(gpt2), report=counting)
        expected = sum(len(gpt2.tokenizer(document)["input_ids"]) for document in DOCUMENTS)
        assert actual.tokens == (expected, expected)
        assert actual.outcome.reading.count == len(DOCUMENTS)
        assert actual.outcome.reading.characters == sum(map(len, DOCUMENTS))
        assert actual.outcome.batches == counting.batches > 4
        assert not actual.outcome.settled
        with_empty = run(new(gpt2), documents=("", *DOCUMENTS[:3], *[""] * 20, *DOCUMENTS[3:]))
        assert (with_empty.outcome.reading.count, with_empty.tokens) == (len(DOCUMENTS) + 21, actual.tokens)


CPU = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes"
ERRORS: dict[str, Callable[[], BaseException]] = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": lambda: RuntimeError(CPU),
    "MPS": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "Python": MemoryError,
}


class TestOutOfMemory:
    @pytest.mark.parametrize(("layer", "kind"), [(0, "CUDA"), (2, "CUDA"), *((1, kind) for kind in ERRORS)])
    def test_batches_are_halved_and_every_key_counts_once(
        self, gpt2: LoadedModel, layer: int, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        undisturbed = run(new(gpt2, layers=[0, 1, 2]))
        with before(gpt2.architecture.blocks[layer], above(SCARCE, ERRORS[kind])), caplog.at_level(logging.WARNING):
            actual = run(new(gpt2, layers=[0, 1, 2]))
        assert actual.tokens == undisturbed.tokens
        assert actual.outcome.reading == undisturbed.outcome.reading
        close(actual.c, undisturbed.c, FLOAT32)
        assert "going on with half of it" in caplog.text
        assert len(caplog.records) < 4, "what memory there is is learnt, not found out again in every batch"

    def test_in_the_midst_of_adding(self, gpt2: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = torch.Tensor.addmm_, Counting()

        def scarce(self: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            calls()
            if calls.batches == 5:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(self, left, right)

        monkeypatch.setattr(torch.Tensor, "addmm_", scarce)
        with pytest.raises(OutOfMemory, match=r"layer 2, whose sum is lost\. Run the same again"):
            run(new(gpt2))

    def test_a_single_row_that_does_not_fit_and_another_error_end_it(self, gpt2: LoadedModel) -> None:
        message = r"A single text of \d+ tokens does not fit .*--dtype bfloat16"
        with before(gpt2.architecture.blocks[1], above(3, ERRORS["CUDA"])), pytest.raises(OutOfMemory, match=message):
            run(new(gpt2))
        other = above(0, lambda: RuntimeError("shapes do not fit"))
        with before(gpt2.architecture.blocks[1], other), pytest.raises(RuntimeError, match="shapes do not fit"):
            run(new(gpt2))
        assert not any(module._forward_hooks for module in gpt2.model.modules())

    @pytest.mark.parametrize(("tokens_per_batch", "batch"), [(1, "1"), (512, r"\d")])
    def test_a_nan_names_the_guilty_text(self, gpt2: LoadedModel, tokens_per_batch: int, batch: str) -> None:
        documents = ["A clock.", "The novel was written in Malta by somebody else."]
        [token, *_] = gpt2.tokenizer("Malta")["input_ids"]
        gpt2.model.transformer.wte.weight[token] = float("nan")
        with pytest.raises(NotFinite, match=rf"layer 0, batch {batch}: .* begins with ' ?The novel was written"):
            second_moments(gpt2, documents, tokens=1000, tokens_per_batch=tokens_per_batch)
        with pytest.raises(ValueError, match="holds no token"):
            second_moments(gpt2, ["", ""], tokens=10)

    def test_a_nan_in_a_halved_batch_is_still_found(self, gpt2: LoadedModel, tmp_path: Path) -> None:
        gpt2.model.transformer.h[2].mlp.c_fc.bias[0] = float("nan")
        store = Store(tmp_path / "cache")
        scarce = before(gpt2.architecture.blocks[1], above(SCARCE, ERRORS["CUDA"]))
        with scarce, pytest.raises(NotFinite, match=r"layer 2, batch 0: .* begins with"):
            run(new(gpt2), store=store)
        assert store.inventory() == []


def test_where_sums_lie_and_what_products_are_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """On chips without fast float64, and without any."""
    assert moment.home(torch.device("mps")) == torch.device("cpu")
    assert moment.home(torch.device("cuda:1")) == torch.device("cuda:1")
    assert moment.product_dtype(torch.device("cpu")) == torch.float64
    for capability, dtype in {(8, 0): torch.float64, (9, 0): torch.float64, (8, 6): torch.float32}.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, known=capability: known)
        assert moment.product_dtype(torch.device("cuda:0")) == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 3, 4, 5, 9])
def test_every_width_and_no_padding_is_summed(monkeypatch: pytest.MonkeyPatch, width: int, dtype: torch.dtype) -> None:
    """Products in either precision, their sum in float64; rows of padding need not even be finite."""
    monkeypatch.setattr(moment, "product_dtype", lambda _: dtype)
    keys, total = torch.arange(3.0 * width).reshape(3, width), SecondMomentSum()
    keys[0, 0] = 2.0**14
    total.add(torch.cat([keys[:1], torch.full((1, width), float("nan"))]), torch.tensor([True, False]))
    total.add(keys[1:])
    assert np.array_equal(total.mean().matrix, keys.double().numpy().T @ keys.double().numpy() / 3)
    assert total.mean().tokens == 3


EXACT = 1e-12  # relative to C's largest entry: float64 sums in another order
PATIENCE = 120  # seconds until a test gives up on a process; reached only when something hangs
FORK = multiprocessing.get_context("fork")  # a fork server would import torch once more
SHARED_TEXTS = corpora.builtin().texts[:30]
TOKENS, PER_BATCH = 1_234, 200  # the first cuts a document

Told = dict[str, Any]


def work(root: Path, share: Share = ALONE, *, memory: int = TOKENS) -> Told:
    """A pass with a checkpoint after every batch, and memory for so many tokens at once; `c.npz` comes to lie there."""
    loaded, counting, rows = tiny.model("GPT-2"), Counting(), []

    def count(hidden: torch.Tensor) -> None:
        rows.append(hidden.shape[0])
        above(memory, MemoryError)(hidden)

    checkpoints = pass_tools.EveryBatch(Store(root / "store"), {"rank": share.rank, "world": share.world}, {})
    one = Pass(loaded, [0, 2], Extent(TOKENS), PER_BATCH, share)
    with before(loaded.architecture.blocks[1], count):
        outcome = one.run(lambda: iter(SHARED_TEXTS), report=counting, checkpoints=checkpoints)
    actual = dict(one.moments())
    agreed = [share.agreed([0, 2, 5] if share.first else [1], loaded.device), share.agreed([], loaded.device)]
    least = share.least(10 + share.rank, loaded.device)
    share.wait()
    checkpoints.clear()
    if actual:
        tokens = [moment.tokens for moment in actual.values()]
        np.savez(root / "c.npz", **{f"{k}": moment.matrix for k, moment in actual.items()}, tokens=tokens)
    split = {"reading": outcome.reading.to_json(), "batches": outcome.batches, "reported": counting.batches}
    return split | {"rows": sum(rows), "layers": sorted(actual), "agreed": [*agreed, least]}


def share_out(root: Path, **disturbed: int) -> list[Told]:
    """Run two processes, the second one disturbed, and give what each tells."""
    root.mkdir(exist_ok=True)
    port, told = covariance_workers.free_port(), FORK.SimpleQueue()

    def process(rank: int) -> None:
        os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        with ranks.together("cpu") as share:
            told.put((rank, json.dumps(work(root, share, **(disturbed if rank else {})))))

    processes = [FORK.Process(target=process, args=(rank,), daemon=True) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(PATIENCE)
    assert [one.exitcode for one in processes] == [0, 0]
    return [json.loads(words) for _, words in sorted(told.get() for _ in processes)]


def check_equal(one: Path, other: Path, tolerance: float) -> None:
    with np.load(one / "c.npz") as a, np.load(other / "c.npz") as b:
        assert sorted(a) == sorted(b) == ["0", "2", "tokens"]
        assert a["tokens"].tolist() == b["tokens"].tolist() == [TOKENS] * 2
        for name in ("0", "2"):
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance * a[name].max())


def test_two_split_the_work_and_the_first_has_what_one_gives(tmp_path: Path) -> None:
    together, scarce = tmp_path / "together", tmp_path / "scarce"
    alone, (first, second) = work(tmp_path), share_out(together)
    check_equal(tmp_path, together, EXACT)
    assert Store(together / "store").inventory() == []
    assert first["agreed"] == second["agreed"] == [[0, 2, 5], [], 10], "on what the first one says"
    for name in ("reading", "batches", "reported"):
        assert first[name] == second[name] == alone[name]
    assert first["rows"] + second["rows"] == alone["rows"], "each document once"
    assert min(first["rows"], second["rows"]) > alone["rows"] / 4
    assert (first["layers"], second["layers"]) == ([0, 2], [])
    undisturbed, short = share_out(scarce, memory=110)
    check_equal(together, scarce, FLOAT32)
    assert undisturbed == first, "little memory in one does not change whose a batch is"
    assert short["rows"] > second["rows"], "some were tried in vain"


def test_every_batch_is_taken_once() -> None:
    for world in (1, 2, 3, 8):
        shares = [Share(rank, world) for rank in range(world)]
        assert all(sum(share.takes(batch) for share in shares) == 1 for batch in range(100))


def test_processes_of_a_machine_share_its_memory_and_not_their_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert ranks.sharing(torch.device("cpu")) == 4
    assert ranks.sharing(torch.device("cuda:1")) == 1
    for world, several in (("1", False), ("2", True)):
        monkeypatch.setenv("WORLD_SIZE", world)
        assert ranks.launched() is several
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert ranks.sharing(torch.device("cpu")) == 1
