"""Looking at a page as it came out of a run, clicking on what it shows, and waiting for the jobs it began."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd
from streamlit import dataframe_util
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from kis_core import jobs
from pages.parts.frame.text import JOINER
from pages.parts.jobs import background

MARK = "◉"
PATIENCE = 120  # seconds until a test gives up on a job; reached only when something hangs


@dataclass(frozen=True)
class Chart:
    """A chart as the browser gets it.

    Attributes:
        id: of the widget it is; empty where it cannot be clicked.
        title: what it is called for those who do not see it.
        spec: its Vega-Lite specification.
        tables: the data it names, by name.
    """

    id: str
    title: str
    spec: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    def holds(self, *columns: str) -> bool:
        """Whether it has a table with these columns."""
        return any(set(columns) <= set(table.columns) for table in self.tables.values())

    def table(self, *columns: str) -> pd.DataFrame:
        """The one table that has these columns."""
        (fitting,) = (table for table in self.tables.values() if set(columns) <= set(table.columns))
        return fitting

    def drawn(self, mark: str) -> pd.DataFrame:
        """What the first layer of a kind of mark draws."""
        return self._data(next(layer for layer in self.spec["layer"] if layer["mark"]["type"] == mark))

    def under_mouse(self) -> pd.DataFrame:
        """All that it draws: what its layer with a tooltip holds."""
        return self._data(next(layer for layer in self.spec["layer"] if "tooltip" in layer["encoding"]))

    def ringed(self) -> pd.DataFrame:
        """What its first layer of rings goes around."""
        return self._data(next(layer for layer in self.spec["layer"] if layer["mark"].get("filled") is False))

    def _data(self, layer: dict[str, Any]) -> pd.DataFrame:
        return self.tables[(layer if "data" in layer else self.spec)["data"]["name"]]

    def domains(self, channel: str) -> list[list[float]]:
        """Every domain that a layer asks for on a channel."""
        scales = (layer["encoding"].get(channel, {}).get("scale", {}) for layer in self.spec["layer"])
        return [scale["domain"] for scale in scales if "domain" in scale]


def charts(page: AppTest) -> list[Chart]:
    """All charts, from the top."""
    return [
        Chart(
            element.proto.id,
            element.proto.alt.split(". ")[0],
            json.loads(element.proto.spec),
            {table.name: dataframe_util.convert_arrow_bytes_to_pandas_df(table.data.data) for table in datasets},
        )
        for element in page.get("vega_lite_chart")
        for datasets in [element.proto.datasets]
    ]


def click(page: AppTest, chart: Chart, **selection: Any) -> AppTest:
    """Click on a chart: `click(page, chart, tail=[{...}])` selects points, the callbacks run, the page runs again."""
    return _select(page, chart.id, selection)


def click_cell(page: AppTest, table: Any, row: int, column: str) -> AppTest:
    """Click on a cell of a table that takes clicks."""
    return _select(page, table.proto.id, {"rows": [], "columns": [], "cells": [[row, column]]})


def tick(page: AppTest, table: Any, *rows: int) -> AppTest:
    """Tick rows of a table."""
    return _select(page, table.proto.id, {"rows": list(rows), "columns": [], "cells": []})


def _select(page: AppTest, widget: str, selection: dict[str, Any]) -> AppTest:
    """What the browser sends; `AppTest` itself knows no clicks on charts or tables."""
    assert widget, "it takes no clicks"
    states = page._tree.get_widget_states()
    states.widgets.append(WidgetState(id=widget, string_value=json.dumps({"selection": selection})))
    return page._run(states)


def button(page: AppTest, label: str) -> Any:
    """The one button of that label."""
    (fitting,) = (button for button in page.button if button.label == label)
    return fitting


def press(page: AppTest, label: str) -> AppTest:
    return button(page, label).click().run()


def labels(page: AppTest) -> list[str]:
    """The labels of all buttons but those of every page's side bar."""
    everywhere = ("talk-", "tray-")
    return [button.label for button in page.button if not (button.key or "").startswith(everywhere)]


def choose(page: AppTest, name: str, value: Any) -> AppTest:
    """Choose by the widget of that choice."""
    kinds = (page.segmented_control, page.slider, page.select_slider, page.selectbox, page.number_input, page.toggle)
    widgets = (widget for kind in (*kinds, page.multiselect) for widget in kind)
    (fitting,) = (widget for widget in widgets if widget.key == f"choose-{name}")
    return fitting.set_value(value).run()


def finish() -> list[jobs.Snapshot]:
    """Wait for every job of the server; how each ended."""
    ended = []
    for job in list(background.runner().jobs().values()):
        assert job.wait(PATIENCE)
        ended.append(job.snapshot())
    return ended


def infos(page: AppTest) -> str:
    return "\n".join(info.value for info in page.info)


def captions(page: AppTest) -> str:
    return "\n".join(caption.value for caption in page.caption)


def unescaped(markdown: str) -> str:
    """Markdown as its reader sees it, as far as `plain` goes."""
    return markdown.replace("\\", "").replace(JOINER, "")


def provenance(page: AppTest) -> list[str]:
    """Where each figure and table says it comes from, from the top: under it, or in its help."""
    texts = (unescaped(f"{caption.value}\n{caption.proto.help}") for caption in page.caption)
    return [text for text in texts if "(weights " in text]


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def markdown(page: AppTest) -> str:
    """Everything on the page that is read as Markdown."""
    kinds = (page.markdown, page.caption, page.info, page.warning, page.error, page.success, page.subheader)
    texts = [element.value for kind in kinds for element in kind]
    return "\n".join([*texts, *(element.label for kind in (page.button, page.metric) for element in kind)])


def notes(page: AppTest) -> list[str]:
    """What the page tells about a link that asks for something that is not there."""
    return [info.value for info in page.info if info.value.startswith("This link")]


def table_of(page: AppTest, *columns: str) -> Any:
    """The one table on the page that has these columns among its own."""
    (fitting,) = (table for table in page.dataframe if set(columns) <= set(table.value.columns))
    return fitting


def assert_shown(table: Any, expected: pd.DataFrame) -> None:
    """A table holds these numbers in full, with 0 for those alone that its digits would write as -0.00."""
    shown = table.value[expected.columns.tolist()]
    pd.testing.assert_frame_equal(shown, as_in_table(expected, table), check_dtype=False, rtol=0, atol=0)


def as_in_table(frame: pd.DataFrame, table: Any) -> pd.DataFrame:
    """Numbers as a table on a page holds them: the same, but 0 for what its digits would write as -0.00."""
    configured = json.loads(table.proto.columns)
    formats = {name: (column or {}).get("type_config", {}).get("format") or "" for name, column in configured.items()}
    digits = {name: match[1] for name in frame if (match := re.fullmatch(r"%\+?(\.\d+f)", formats.get(name, "")))}
    changed = {
        name: [0.0 if re.fullmatch(r"-0\.?0*", format(value, form)) else value for value in frame[name]]
        for name, form in digits.items()
    }
    return frame.assign(**changed)


def listed(page: AppTest) -> pd.DataFrame:
    """What the list of pairs holds."""
    return table_of(page, "picked", "i", "j").value


def pairs_of(frame: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(frame["i"].tolist(), frame["j"].tolist(), strict=True))


def marked(page: AppTest) -> list[tuple[int, int]]:
    """The pairs that the list marks as picked."""
    frame = listed(page)
    return pairs_of(frame[frame["picked"] == MARK])


def carried_out(code: str) -> tuple[dict[str, Any], Any]:
    """Run Python lines in a namespace of their own; the namespace, and the value of the last line."""
    lines = ast.parse(code)
    names: dict[str, Any] = {}
    last = lines.body.pop() if isinstance(lines.body[-1], ast.Expr) else None
    exec(compile(lines, "lines", "exec"), names)  # noqa: S102 - what a reader would do with them
    return names, eval(compile(ast.Expression(last.value), "lines", "eval"), names) if last else None  # noqa: S307
