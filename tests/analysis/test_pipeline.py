"""The whole way from a request to a result: computed once, keyed by content, safe to cancel and to kill."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from kis_core import corpora
from kis_core.analysis.pipeline import Request, RequestError, Result, cached, resolve, run
from kis_core.covariance import checkpoint
from kis_core.covariance import passes as passes_module
from kis_core.keys import NotFinite
from kis_core.models import loading
from kis_core.models.download import STAGE as DOWNLOAD
from kis_core.progress import STAGES, Cancelled, overall
from kis_core.store.leftovers import HEAD, PART
from kis_core.store.store import Store
from tests import tiny
from tests.store.store_tools import close, leftovers

TOLD = [stage for stage in STAGES if stage != DOWNLOAD]  # of a model that is here

ROWS = (
    ("subject", "prompt", "target", "relation"),
    ("Malta", "The capital of {} is", "Valletta", "capital"),
    ("Oslo", "{} lies in", "Norway", "country"),
    ("Malta", "{} was once ruled by", "Britain", ""),
    ("Paris", "The mayor of {} is", "Anne", ""),
)
TOKENS = 300
LAYERS = 3
ROOTS = 10  # kills of one analysis; the next one begins anew
ROUNDING = 1e-12  # of a few additions in float64
BATCHED = 1e-5  # float32 passes over batches of another shape

Count = Callable[[Any, str], list[Any]]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("GPT-2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture
def request_(tmp_path: Path, gpt2: Path) -> Request:
    """A small request on files of its own."""
    shutil.copytree(gpt2, tmp_path / "model")
    write_facts(tmp_path / "facts.csv", ROWS)
    (tmp_path / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:30]), encoding="utf-8")
    return Request(str(tmp_path / "model"), str(tmp_path / "facts.csv"), str(tmp_path / "corpus.txt"), TOKENS)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Watch a function of a module: the returned list grows by its result at every call."""

    def watch(module: Any, name: str) -> list[Any]:
        results: list[Any] = []
        original = getattr(module, name)

        def counting(*args: Any, **options: Any) -> Any:
            results.append(original(*args, **options))
            return results[-1]

        monkeypatch.setattr(module, name, counting)
        return results

    return watch


def write_facts(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    path.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")


def assert_equal(one: Result, other: Result) -> None:
    """Bit for bit the same numbers."""
    for name in ("p", "whitening_cosine", "activation_cosine", "leverage", "text_leverage"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
    assert (one.layers, one.reports, one.answers) == (other.layers, other.reports, other.answers)
    tokens = [(each.key_token_index, each.key_tokens, each.key_token_ids) for each in (one, other)]
    assert tokens[0] == tokens[1]


class TestResult:
    def test_is_what_was_asked_for_and_says_how_it_was_made(
        self, request_: Request, store: Store, tmp_path: Path
    ) -> None:
        told: list[tuple[str, int, int]] = []
        result = run(replace(request_, layers=(2, 0)), store, device="cpu", report=lambda *now: told.append(now))
        assert [fact.subject for fact in result.facts.facts] == ["Malta", "Oslo", "Malta", "Paris"]
        assert result.layers == (0, 2)
        for matrix in (result.p, result.whitening_cosine, result.activation_cosine):
            assert matrix.shape == (2, 4, 4)
            assert matrix.dtype == np.float64
            np.testing.assert_array_equal(np.diagonal(matrix, axis1=1, axis2=2).round(12), 1.0)
        full = run(request_, Store(tmp_path / "full"), device="cpu")
        for name in ("p", "whitening_cosine", "activation_cosine", "leverage", "text_leverage"):
            assert np.array_equal(getattr(result, name), getattr(full, name)[[0, 2]]), "a slice of the full run"
        ratio = result.whitening_cosine * np.sqrt(result.leverage[:, None, :] / result.leverage[:, :, None])
        np.testing.assert_allclose(ratio, result.p, atol=ROUNDING, err_msg="leverage is what P divides by")
        assert result.reports == (full.reports[0], full.reports[2])
        assert [report.layer for report in result.reports] == [0, 2]
        assert all(len(row) == 5 for row in result.answers)
        assert result.same_subject.nonzero()[0].tolist() == [0, 2]
        assert not any(result.same_last_token[i, i] for i in range(4))
        assert [result.at(layer) for layer in (0, 2)] == [0, 1]
        with pytest.raises(RequestError, match="layer 1 was not computed; there are 0, 2"):
            result.at(1)
        about, resolved = result.provenance, resolve(request_, store)
        assert Request(**json.loads(json.dumps(about["request"]))) == result.request
        assert about["weights_sha256"] == resolved.weights
        assert about["facts_sha256"] == resolved.facts.fingerprint
        assert about["corpus_sha256"] == resolved.corpus.fingerprint
        assert (about["tokens_requested"], about["tokens_counted"]) == (TOKENS, TOKENS)
        assert (about["facts"], about["facts_count"], about["corpus"]) == ("facts.csv", 4, "corpus.txt")
        assert (about["architecture"], about["layers_in_model"], about["device"]) == ("GPT-2", LAYERS, "cpu")
        assert {"torch", "transformers", "tokenizers", "numpy", "scipy", "python"} <= about["versions"].keys()
        assert all(0 <= done <= total for _, done, total in told)
        assert list(dict.fromkeys(stage for stage, _, _ in told)) == TOLD
        shares = [overall(*now) for now in told]
        assert shares[-1] == pytest.approx(1.0)
        assert (np.diff(shares) >= -ROUNDING).all(), "the bar never falls"


class TestCache:
    def test_the_second_time_nothing_is_computed(
        self, request_: Request, store: Store, tmp_path: Path, count: Count
    ) -> None:
        assert cached(resolve(request_, store), store) is None
        loads = count(loading, "load")
        first = run(request_, store, device="cpu")
        assert_equal(run(request_, Store(), device="cpu"), first)
        assert_equal(cached(resolve(request_, store), store), first)
        moved = replace(request_, facts=str(tmp_path / "moved.csv"), corpus=str(tmp_path / "moved.txt"))
        Path(request_.facts).rename(moved.facts)
        Path(request_.corpus).rename(moved.corpus)
        result = run(moved, store, device="cpu")
        assert len(loads) == 1
        assert result.request == moved == Request(**result.provenance["request"])
        assert (result.provenance["facts"], result.provenance["corpus"]) == ("moved.csv", "moved.txt")
        [path] = (store.root / "matrices").glob("superposition*")
        path.write_bytes(path.read_bytes()[:-5] + b"wrong")
        passes = count(passes_module, "Pass")
        assert_equal(run(moved, store, device="cpu"), first)
        assert (len(loads), passes) == (2, []), "what is damaged is computed anew"
        assert len(list((store.root / "damaged").iterdir())) == 1

    def test_each_ingredient_makes_another_key(self, request_: Request, store: Store, tmp_path: Path) -> None:
        """Of what lies in files; tests/test_derived_keys.py has the fields of a request."""
        keys = {"as it is": resolve(request_, store).key}

        def with_facts(rows: Sequence[tuple[str, ...]]) -> str:
            write_facts(tmp_path / "other.csv", rows)
            return resolve(replace(request_, facts=str(tmp_path / "other.csv")), store).key

        for column, value in enumerate(("Malt", "{} is", "Rome", "town")):
            changed = (*ROWS[1][:column], value, *ROWS[1][column + 1 :])
            keys[f"column {column}"] = with_facts((ROWS[0], changed, *ROWS[2:]))
        keys["facts in another order"] = with_facts((*ROWS[:1], *ROWS[:0:-1]))
        keys["a fact less"] = with_facts(ROWS[:-1])
        lines = Path(request_.corpus).read_text("utf-8").splitlines()
        for name, text in (("order", lines[::-1]), ("end", lines[:-1]), ("joined", [" ".join(lines)])):
            (tmp_path / "other.txt").write_text("\n".join(text), encoding="utf-8")
            keys[name] = resolve(replace(request_, corpus=str(tmp_path / "other.txt")), store).key
        folder = Path(request_.model)
        for part in ("config.json", "tokenizer.json", "generation_config.json"):
            with (folder / part).open("a") as stream:
                stream.write(" ")
            keys[part] = resolve(request_, store).key
        weights = load_file(folder / "model.safetensors")
        weights["transformer.wpe.weight"][0, 0] += 1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        keys["a weight"] = resolve(request_, store).key
        assert len(set(keys.values())) == len(keys) == 14

    def test_two_sets_at_once_take_one_pass(
        self, request_: Request, store: Store, count: Count, tmp_path: Path
    ) -> None:
        write_facts(tmp_path / "fewer.csv", ROWS[:-1])
        both = (request_, replace(request_, facts=str(tmp_path / "fewer.csv")))
        passes, loaded = count(passes_module, "Pass"), threading.Barrier(2, timeout=60)

        def together(stage: str, done: int, total: int) -> None:
            if stage == "The model's own answers" and done == total:
                loaded.wait()  # C is what both want next, and neither has it

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda one: run(one, store, device="cpu", report=together), both)
        assert len(passes) == 1
        np.testing.assert_allclose(second.p, first.p[:, :3, :3], rtol=0, atol=BATCHED)


def test_a_cancel_keeps_no_result_but_c(request_: Request, store: Store, count: Count, tmp_path: Path) -> None:
    for stage in ("The model's own answers", "Whitening"):

        def stop(now: str, *_: int, stage: str = stage) -> None:
            if now == stage:
                raise Cancelled(stage)

        with pytest.raises(Cancelled, match=stage):
            run(request_, store, device="cpu", report=stop)
        assert cached(resolve(request_, store), store) is None
    passes = count(passes_module, "Pass")
    actual = run(request_, store, device="cpu")
    assert passes == []
    assert_equal(actual, run(request_, Store(tmp_path / "new"), device="cpu"))


DAMAGED = (
    ("h.2.mlp.c_proj", float("nan"), "layer 2 is the first where it is not, in its output of the down-pro"),
    ("ln_f", float("inf"), "all layers are, so it is the final norm or the output embeddings"),
    ("h.1.mlp.c_proj", float("inf"), "layer 2: the key of fact"),  # the first that meets it at the subject
)


class TestNotFinite:
    """What the model says is looked at before the text is read: a typed error with layer and text, and nothing kept."""

    def refused(self, request: Request, store: Store, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passes_module.Pass, "run", None)  # the text must not be read
        with pytest.raises(NotFinite, match=told):
            run(request, store, device="cpu")
        kept = {item.key.rpartition("-")[0] for item in store.inventory()}
        assert kept == {"fingerprint"}

    @pytest.mark.parametrize(("tensor", "value", "told"), DAMAGED)
    def test_a_damaged_weight(
        self, request_: Request, store: Store, monkeypatch: pytest.MonkeyPatch, tensor: str, value: float, told: str
    ) -> None:
        """While other layers are asked for."""
        path = Path(request_.model) / "model.safetensors"
        weights = load_file(path)
        weights[f"transformer.{tensor}.weight"].view(-1)[0] = value
        save_file(weights, path, metadata={"format": "pt"})
        self.refused(replace(request_, layers=(0,)), store, told, monkeypatch)

    def test_an_overflow_of_float16_names_its_text(
        self, request_: Request, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As Gemma's residual stream in float16: each number is fine where it is stored, and their sum is not."""
        path = Path(request_.model) / "model.safetensors"
        weights = load_file(path)
        tokenizer = AutoTokenizer.from_pretrained(request_.model, local_files_only=True)
        [token] = tokenizer(" Anne", add_special_tokens=False)["input_ids"][:1]
        for name in ("transformer.wte.weight", "transformer.wpe.weight"):
            weights[name][token if "wte" in name else slice(None), 0] = 4e4
        save_file(weights, path, metadata={"format": "pt"})
        write_facts(Path(request_.facts), (*ROWS, ("Anne", "The name of {} is", "x", "")))
        asked = replace(request_, dtype="float16", layers=(0,))
        self.refused(asked, store, r"fact 4 is not finite .* in ' ?The name of Anne is'.* for float16", monkeypatch)


def killed_after(seconds: float, root: Path, request: Request) -> None:
    """Run the analysis in a forked process, and kill it after so long unless it has ended by then."""
    if (child := os.fork()) == 0:
        try:
            run(request, Store(root), device="cpu")
        finally:
            os._exit(0)
    kill = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    kill.start()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # so that the timer meets a process of ours, dead or alive
    kill.cancel()
    kill.join()
    os.waitpid(child, 0)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kills", "seed"), [(2, 1), pytest.param(300, 2, marks=pytest.mark.stress)])
def test_kills_at_any_moment_change_nothing(
    kills: int,
    seed: int,
    request_: Request,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("trials", kills)
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint, "WRITING_SHARE", 1e9)  # after every batch
    began = time.monotonic()
    right = run(request_, Store(tmp_path / "undisturbed"), device="cpu")
    choose, seconds = random.Random(seed), time.monotonic() - began
    for first in range(0, kills, ROOTS):
        root = tmp_path / f"store-{first}"
        for _ in range(min(ROOTS, kills - first)):
            killed_after(choose.uniform(0, 1.2 * seconds), root, request_)
        store = Store(root)
        actual = run(request_, store, device="cpu")
        assert np.array_equal(actual.p, right.p)
        for name in ("tokens_counted", "documents_sha256_sum"):
            assert actual.provenance[name] == right.provenance[name]
        close(store)
        again = Store(root)
        assert leftovers(root) == []
        assert [item.kind for item in again.inventory() if item.kind in (HEAD, PART)] == []
        assert list((root / "damaged").iterdir()) == list((root / "locks").iterdir()) == []
        close(again)
