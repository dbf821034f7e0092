"""What a page looks at: chosen once a run of the page, and handed to everything that draws a part of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kis_core.read_only import last_part
from kis_core.request import C_SETTINGS, Request
from kis_core.results import export
from kis_core.results.result import Result
from kis_core.results.tags import SIGNS
from pages.parts.frame.provenance import origin

KEEP_KNOWN = 'result = result.subset([i for i, known in enumerate(result.known) if known], "known")'


@dataclass(frozen=True)
class View:
    """What is chosen on the left.

    Attributes:
        request: the analysis.
        layer: of it.
        known_only: only the facts that the model answers.
    """

    request: Request
    layer: int
    known_only: bool


@dataclass(frozen=True, eq=False)
class ResultView(View):
    """A result as a page looks at it; a `FigureView`.

    Attributes:
        result: of the facts looked at.
    """

    result: Result

    npz_help = "P and both cosines of every layer, and the layer numbers"

    @property
    def p(self) -> np.ndarray:
        """P of the layer, (m, m)."""
        return np.asarray(self.result.p[self.result.at(self.layer)])

    @property
    def subjects(self) -> list[str]:
        """The m subjects of the facts."""
        return [fact.subject for fact in self.result.facts.facts]

    @property
    def tagged_subjects(self) -> list[str]:
        """The m subjects, each with the tags of its whole row at the layer."""
        tags = self.result.tags(self.layer)
        return [" · ".join([subject, *tags.of_fact(k)]) for k, subject in enumerate(self.subjects)]

    @property
    def signs(self) -> list[str]:
        """(m,) signs of the same tags, for an axis."""
        return self.result.tags(self.layer).signs

    @property
    def legend(self) -> str:
        """What the signs of these facts stand for, as a sentence; empty where there are none."""
        signs = "".join(self.signs)
        there = [f"{sign} {tag}" for tag, sign in SIGNS.items() if sign in signs]
        return f"Beside rows: {', '.join(there)}." if there else ""

    def origin(self, *, all_layers: bool = False) -> str:
        """Where its numbers come from, in one line."""
        return origin(self.result, None if all_layers else self.layer)

    def npz(self) -> bytes:
        """Its matrices as a file."""
        return export.npz(self.result)

    def preamble(self, narrow: str = "", *, all_layers: bool = False) -> str:
        """Python lines that get `result`, and `p` of the layer, as the page shows them.

        Args:
            narrow: the lines that keep the facts looked at, where those are not all of them.
            all_layers: of which no single `p` is wanted.
        """
        lines = [
            "from kis_core import charts, superposition",
            "from kis_core.analysis.pipeline import Request, run",
            "from kis_core.results import pairs",
            "from kis_core.store.store import Store",
            "",
            f"result = run({python_request(self.request)}, Store())",
        ]
        lines += [narrow or KEEP_KNOWN] if self.known_only else []
        lines += [] if all_layers else [f"p = result.p[result.at({self.layer})]"]
        return "\n".join(lines)


def python_request(request: Request) -> str:
    """A request in Python, with the fields that differ from the default."""
    named = ((name, getattr(request, name)) for name in ("model", "facts", *C_SETTINGS))
    unusual = ((name, value) for name, value in named if value != getattr(Request(), name))
    fields = (f"{name}={(last_part(value) if isinstance(value, str) else value)!r}" for name, value in unusual)
    return f"Request({', '.join(fields)})"
