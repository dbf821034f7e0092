"""A request: what makes no sense is refused, and equal requests have one form."""

from __future__ import annotations

import pytest

from kis_core.request import Request, RequestError


def test_what_makes_no_sense_is_refused() -> None:
    for changes, reason in (
        ({"tokens": 0}, "at least one token; 0 were"),
        ({"tokens": -3}, "at least one token; -3 were"),
        ({"layers": ()}, r"layers count from 0; \(\) were"),
        ({"layers": (-1, 2)}, r"layers count from 0; \(-1, 2\) were"),
        ({"documents": 0}, "at least one document; 0 were"),
        ({"settled": 1.0}, "a share between 0 and 1"),
        ({"dtype": "int8"}, "float16; 'int8' was asked for"),
    ):
        with pytest.raises(RequestError, match=reason):
            Request(**changes)


def test_layers_have_one_form() -> None:
    assert Request(layers=[2, 0, 2]) == Request(layers=(0, 2))
    assert hash(Request(layers=[1])) == hash(Request(layers=(1,)))
