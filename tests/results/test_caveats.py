"""What is said beside the numbers of a result whose C was taken over little text, is singular or got a ridge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kis_core.__main__ import main
from kis_core.analysis import pipeline
from kis_core.request import Request
from kis_core.results import caveats
from kis_core.results.result import Result
from kis_core.store.store import Store
from tests.results.results_tools import made

MODEL, D_M = "demo-gpt2-32", 128


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of fewer tokens than a key has dimensions."""
    request = Request(MODEL, layers=(0, 1), tokens=D_M // 2)
    return pipeline.run(request, Store(tmp_path_factory.mktemp("few-tokens")))


def test_little_text_a_singular_c_and_its_ridge_are_told(result: Result) -> None:
    assert (result.mlp_width, result.provenance["tokens_counted"]) == (D_M, D_M // 2)
    text, rank, ridge = caveats.of_result(result)
    assert f"over 64 tokens; P is settled from about 30 × d_m = {30 * D_M:,} on" in text
    assert f"rank-deficient in all layers: rank {min(one.rank for one in result.reports)} of d_m = {D_M}" in rank
    assert max(one.rank for one in result.reports) <= D_M // 2
    assert "ridge in all layers" in ridge


def test_only_the_layers_concerned_are_named_and_nothing_is_said_of_a_good_c(result: Result) -> None:
    good, bad = (replace(one, rank=D_M, ridge=0.0) for one in result.reports), result.reports[1]
    enough = result.provenance | {"tokens_counted": caveats.ENOUGH_TOKENS * D_M}
    whole = replace(result, reports=tuple(good), provenance=enough)
    assert caveats.of_result(whole) == []
    rank, ridge = caveats.of_result(replace(whole, reports=(whole.reports[0], bad)))
    assert "in layer 1:" in rank
    assert "in layer 1:" in ridge
    assert caveats.of_result(replace(whole, provenance=enough | {"tokens_counted": caveats.ENOUGH_TOKENS * D_M - 1}))


def test_first_tokens_weak_keys_and_what_is_unknown_of_them_are_told() -> None:
    p, sizes, text = np.ones((2, 3, 3)), np.array([[9.0, 9.0, 0.5], [0.1, 0.1, 9.0]]), (0.1, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert caveats.of_tags(made(p, leverage=sizes + 5, text_leverage=text), (0, 1)) == []
    first, weak = caveats.of_tags(made(p, leverage=sizes, text_leverage=text, key_token_index=(0, 0, 1)), (0, 1))
    assert first.startswith("2 keys are taken at the first token")
    assert weak.startswith("There are weak keys: 1 at layer 0, 2 at layer 1, of 3 facts.")
    [unknown] = caveats.of_tags(made(p), (0,))
    assert "unknown, as C came without the text" in unknown


def test_before_an_edit_an_odd_key_is_told_with_what_it_does_and_an_ordinary_one_is_not() -> None:
    p, text = np.ones((2, 3, 3)), (0.1, 1.0, 2.0, 3.0, 4.0, 5.0)
    p[0, 0], p[0, 1] = (1.0, -2.5, 0.05), (0.3, 1.0, np.nan)
    sizes = np.array([[0.5, 0.5, 9.0], [9.0, 0.5, 9.0]])
    result = made(p, leverage=sizes, text_leverage=text, key_token_index=(0, 1, 2), layers=(2, 5))
    first, weak, row = caveats.of_edit(result, 2, 0)
    assert first.startswith("The key of this fact is taken at the first token.")
    assert weak.endswith("its leverage, 0.5, is below that of 95 % of general text. It is not weak at layer 5.")
    assert (
        row == "An edit of it (eq. 2) lands on 1 of 2 other facts by 10 % or more, most on “subject 1”, with P = -2.50."
    )
    weak, row = caveats.of_edit(result, 2, 1)
    assert weak.endswith("It is weak at every layer computed.")
    assert "lands on 1 of 1 other fact by" in row, "a zero key has no P"
    assert caveats.of_edit(result, 2, 2) == []
    [alone] = caveats.of_edit(made(np.ones((1, 1, 1)), key_token_index=(0,)), 0, 0)
    assert alone == first, "there is nobody else"


def test_a_command_says_it_beside_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = [f"--model={MODEL}", "--facts=builtin", "--corpus=builtin", "--layers=0", "--device=cpu"]
    assert main(["analyse", *source, f"--tokens={D_M // 2}", f"--out={tmp_path}"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line.split(" ")[1:3] for line in said] == [["C", "was"], ["C", "is"], ["C", "got"]]
