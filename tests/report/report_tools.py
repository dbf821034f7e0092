"""Reading a report as its script does."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from kis_core.results.result import Result
from tests.results.results_tools import made

CLOSING, OPENING = "</script><script>document.title='run'</script>", "<img src=x onerror=alert(1)>"
FILE = "<script>alert(1)<!--.csv"
P = np.array(
    [[[1.0, 0.4, -0.0504], [0.25, 1.0, 0.3], [-0.02, 33.5, 1.0]], [[1.0, 0.1, 0.2], [0.3, 1.0, 0.4], [0.5, 0.6, 1.0]]]
)


def hostile() -> Result:
    """A result of two layers and three facts, whose texts would be markup if they were not taken as text."""
    result = made(P, subjects=[CLOSING, OPENING, "%DATA% & %SCRIPT%"], relations=["<b>a</b>", "a", "b"])
    object.__setattr__(result.facts, "name", FILE)
    result.provenance["facts"] = FILE
    result.provenance["request"]["facts"] = f"/home/someone/{FILE}"
    return result


class Elements(HTMLParser):
    """The elements of a page with the text in them, as a browser parts them.

    Attributes:
        scripts: attributes and content of each script.
        tags: how often each element begins.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.cdata_elem == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data


def data_of(page: str) -> dict[str, Any]:
    """What a report holds, from strict JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    (text,) = (text for attributes, text in Elements(page).scripts if attributes.get("id") == "data")
    found: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return found


def ranking_of(layer: dict[str, Any], facts: int) -> list[list[int]]:
    """The pairs of a layer in their order."""
    places = np.frombuffer(base64.b64decode(layer["ranking"]), "<u4")
    return np.column_stack(np.divmod(places, facts)).tolist()


def policy_of(page: str) -> str:
    """The page's own content security policy."""
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    return str(policy)
