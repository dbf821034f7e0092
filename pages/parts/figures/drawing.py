"""Charts of the pages: drawn once for the same numbers, for all sessions.

Making a chart costs more than all else of a visit: Altair checks and copies every piece of it many times. So a page
says which function of `kis_core.charts` is to draw what, and the finished specification is kept under everything that
function is given, number by number. Nothing else tells charts apart, so no result can be shown another's.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ParamSpec, cast

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from altair.utils import schemapi
from streamlit.elements.vega_charts import _convert_altair_to_vega_lite_spec

from pages.parts.frame import talk

KEPT_CHARTS = 200  # for all sessions; a heatmap of 128 × 128 takes about 130 kB

# else every piece of a chart is checked against the schema of Vega-Lite when it is made, which takes longer than making
# it; the tests check the finished charts
schemapi.disable_debug_mode()

P = ParamSpec("P")


@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """A chart that is made when it is needed.

    Attributes:
        make: the chart, anew.
        key: SHA-256 of everything that determines it.
    """

    make: Callable[[], alt.LayerChart]
    key: str

    def show(self, **options: Any) -> Any:
        """Draw it here, with options of `st.vega_lite_chart`; returns Streamlit's event of the chart."""
        if talk.on():
            return st.vega_lite_chart(spec=_for_the_last_row(self.key, self.make), **(options | {"height": "stretch"}))
        return st.vega_lite_chart(spec=_specification(self.key, self.make), **options)


def drawing(make: Callable[P, alt.LayerChart], /, *args: P.args, **options: P.kwargs) -> Drawing:
    """The chart that a function draws of these arguments, which alone determine it.

    Raises:
        TypeError: an argument is of a kind whose content cannot be read.
    """
    content = hashlib.sha256(f"{make.__module__}.{make.__qualname__}".encode())
    _add(content, args)
    _add(content, options)
    return Drawing(lambda: make(*args, **options), content.hexdigest())


@st.cache_data(show_spinner=False, max_entries=KEPT_CHARTS)
def _specification(key: str, _make: Callable[[], alt.LayerChart]) -> dict[str, Any]:
    """The chart as `st.altair_chart` would send it; its data lies in it as Arrow's bytes."""
    chart = _make()
    unchecked = SimpleNamespace(to_dict=lambda: chart.to_dict(validate=False))
    return _convert_altair_to_vega_lite_spec(cast(Any, unchecked))


@st.cache_data(show_spinner=False, max_entries=KEPT_CHARTS)
def _for_the_last_row(key: str, _make: Callable[[], alt.LayerChart]) -> dict[str, Any]:
    """The same in talk mode."""
    return dict(talk.enlarged(_specification(key, _make)))


def _add(content: Any, value: Any) -> None:
    """Let a digest take in a value: its kind, its size, and then its content, so that no two values look alike."""
    if isinstance(value, pd.DataFrame | pd.Series):
        frame = value.to_frame() if isinstance(value, pd.Series) else value
        content.update(f"{type(value).__name__} {list(frame.columns)!r}\n".encode())
        columns: list[Any] = [frame.index, *(frame.iloc[:, at] for at in range(frame.shape[1]))]
        for column in columns:
            _add(content, np.asarray(column))
            content.update(f"{column.dtype}\n".encode())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        content.update(f"array {value.dtype.str} {value.shape}\n".encode())
        content.update(np.ascontiguousarray(value).data)
    elif isinstance(value, np.ndarray):
        content.update(f"objects {value.shape}\n".encode())
        _add(content, value.ravel().tolist())
    elif isinstance(value, Mapping):
        content.update(f"mapping {len(value)}\n".encode())
        for pair in value.items():
            _add(content, pair)
    elif isinstance(value, list | tuple):
        content.update(f"{type(value).__name__} {len(value)}\n".encode())
        if all(type(item) in (str, int, float) for item in value):
            content.update(f"{value!r}\n".encode())
        else:
            for item in value:
                _add(content, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        content.update(f"{type(value).__qualname__}\n".encode())
        _add(content, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, alt.SchemaBase):  # such as a colour that depends on the theme
        content.update(f"{type(value).__qualname__}\n".encode())
        _add(content, value.to_dict())
    elif value is None or isinstance(value, str | bool | int | float | np.generic):
        text = repr(value).encode()
        content.update(f"{type(value).__name__} {len(text)} ".encode() + text)
    else:
        raise TypeError(f"a chart is not kept by a {type(value).__name__}: give text, numbers, arrays or tables")
