"""Kinds of choices a link can carry: how each is read from text, and written as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from kis_core.corpora import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.errors import KisError
from kis_core.request import C_SETTINGS, Request

MOST_CHARACTERS = 2_000  # of a text in a link
COUNT = "[0-9]{1,12}"  # of tokens or documents
NUMBER = r"-?\d{1,6}(?:\.\d{1,6})?"


class Choice(Protocol):
    """One choice of a link."""

    @property
    def default(self) -> Any:
        """What is chosen where the link says nothing."""

    def read(self, text: str) -> Any:
        """The value a link asks for.

        Raises:
            ValueError: it makes no sense; the message says what does.
        """

    def write(self, value: Any) -> str:
        """The value as a link carries it."""


class Plain:
    """A choice that a link carries as it is."""

    def write(self, value: object) -> str:
        """The value."""
        return str(value)


def _parts(text: str) -> list[str]:
    """What stands between the tildes of a text."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"at most {MOST_CHARACTERS:,} characters")
    return text.split("~")


@dataclass(frozen=True)
class OneOf(Plain):
    """One of some names."""

    default: Any
    options: Callable[[], Iterable[str]]

    def read(self, text: str) -> str:
        """The name, if it is one of them."""
        known = tuple(self.options())
        if text not in known:
            raise ValueError(f"there are {', '.join(known)}")
        return text


@dataclass(frozen=True)
class Several:
    """Any of some names, or any names at all if no options are given."""

    options: tuple[str, ...] = ()
    default: tuple[str, ...] = ()

    def read(self, text: str) -> tuple[str, ...]:
        """The names, if there are such."""
        wanted = tuple(unquote(part) for part in _parts(text))
        if self.options and not set(wanted) <= set(self.options):
            raise ValueError(f"there are {', '.join(self.options)}")
        return wanted

    def write(self, value: Sequence[str]) -> str:
        """The names in a row."""
        return "~".join(name.replace("%", "%25").replace("~", "%7E") for name in value)


@dataclass(frozen=True)
class Edits:
    """Facts by number, each with its new object."""

    most: int
    longest: int
    default: tuple[tuple[int, str], ...] = ()

    def read(self, text: str) -> tuple[tuple[int, str], ...]:
        """The edits, if each fact is there once."""
        most = self.most * (3 * self.longest + 8)  # every character escaped, and the number
        if len(text) > most:
            raise ValueError(f"at most {most:,} characters")
        edits = []
        for part in text.split("~"):
            match = re.fullmatch(r"(\d{1,6}):(.+)", part, re.DOTALL)
            if not match or not unquote(match[2]).strip():
                raise ValueError("edits are written like 3:French~5:Spanish: a fact and its new object")
            edits.append((int(match[1]), unquote(match[2]).strip()[: self.longest]))
        if len(edits) > self.most or len(dict(edits)) < len(edits):
            raise ValueError(f"at most {self.most} edits, each of another fact")
        return tuple(edits)

    def write(self, value: Sequence[tuple[int, str]]) -> str:
        """The edits in a row."""
        return "~".join(f"{fact}:{target.replace('%', '%25').replace('~', '%7E')}" for fact, target in value)


@dataclass(frozen=True)
class Whole(Plain):
    """A whole number from `least` to `most`."""

    default: int | None
    least: int = 0
    most: int = 9999

    def read(self, text: str) -> int:
        """The number, if it lies in the range."""
        if not re.fullmatch(r"\d{1,4}", text) or not self.least <= int(text) <= self.most:
            raise ValueError(f"a number from {self.least} to {self.most}")
        return int(text)


@dataclass(frozen=True)
class Tuple:
    """Whole numbers in a row, such as the two facts of a pair."""

    count: int
    what: str
    default: tuple[int, ...] | None = None

    def read(self, text: str) -> tuple[int, ...]:
        """The numbers, if there are that many."""
        if not re.fullmatch(r"\d{1,6}" + r"-\d{1,6}" * (self.count - 1), text):
            raise ValueError(self.what)
        return tuple(int(part) for part in text.split("-"))

    def write(self, value: tuple[int, ...]) -> str:
        """The numbers with dashes between."""
        return "-".join(map(str, value))


@dataclass(frozen=True)
class Range:
    """From one number to another."""

    default: tuple[float, float] | None = None

    def read(self, text: str) -> tuple[float, float]:
        """The two ends in order."""
        ends = re.fullmatch(rf"({NUMBER})~({NUMBER})", text)
        if not ends or float(ends[1]) > float(ends[2]):
            raise ValueError("a range is written like 0.25~1")
        return float(ends[1]), float(ends[2])

    def write(self, value: tuple[float, float]) -> str:
        """The two ends."""
        return "~".join(f"{round(end, 6):f}".rstrip("0").rstrip(".") for end in value)


@dataclass(frozen=True)
class Words(Plain):
    """Free text, such as what is searched for."""

    default: str = ""
    most: int = 80

    def read(self, text: str) -> str:
        """The text, if it is of a sensible length."""
        if len(text) > self.most:
            raise ValueError(f"at most {self.most} characters")
        return text


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, with at most two decimals."""

    default: float | None
    least: float
    most: float

    def read(self, text: str) -> float:
        """The number, if it lies in the range."""
        if not re.fullmatch(r"\d{1,3}(\.\d{1,2})?", text) or not self.least <= float(text) <= self.most:
            raise ValueError(f"a number from {self.least:g} to {self.most:g}")
        return float(text)

    def write(self, value: float) -> str:
        """The number."""
        return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class SettingsChoice:
    """Named numbers and switches, such as hyper-parameters that are not the default."""

    names: tuple[str, ...]
    default: tuple[tuple[str, float], ...] = ()

    def read(self, text: str) -> tuple[tuple[str, float], ...]:
        """The names and numbers, if there are such."""
        settings = []
        for part in _parts(text):
            match = re.fullmatch(r"([a-z_]+):(\d{1,6}(?:\.\d{1,6})?)", part)
            if not match or match[1] not in self.names:
                raise ValueError(
                    f"settings are written like {self.names[0]}:20, with the names {', '.join(self.names)}"
                )
            settings.append((match[1], float(match[2])))
        return tuple(sorted(dict(settings).items()))

    def write(self, value: Sequence[tuple[str, float]]) -> str:
        """The names and numbers in a row."""
        return "~".join(f"{name}:{round(float(number), 6):f}".rstrip("0").rstrip(".") for name, number in value)


@dataclass(frozen=True)
class Behind:
    """How C of a model is taken: fields of a request with their values, or None for whatever there is."""

    corpora: Callable[[], Iterable[str]]
    default: dict[str, Any] | None = None

    def read(self, text: str) -> dict[str, Any]:
        """The fields, if they make a request, over a text that is known here."""
        fields: dict[str, Any] = {}
        for part in _parts(text):
            name, _, value = part.partition(":")
            if name not in C_SETTINGS:
                raise ValueError(f"there are {', '.join(C_SETTINGS)}")
            try:
                fields[name] = _field(name, unquote(value))
            except ValueError:
                raise ValueError("how C is taken is written like documents:1000~layers:0-3~dtype:bfloat16") from None
        if fields.get("corpus", BUILTIN_CORPUS) not in set(self.corpora()):
            raise ValueError("no such text is known on this machine")
        try:
            return Request(**fields).c_settings
        except (KisError, TypeError) as error:
            raise ValueError(str(error)) from error

    def write(self, value: dict[str, Any]) -> str:
        """The fields that differ from the usual ones."""
        usual = Request().c_settings
        unusual = {name: field for name, field in value.items() if field != usual[name]}
        return "~".join(f"{name}:{_text(field)}" for name, field in (unusual or {"corpus": value["corpus"]}).items())


def _field(name: str, text: str) -> Any:
    if name in ("tokens", "documents"):
        return None if text == "all" else _whole(text)
    if name == "settled":
        return float(text)
    return tuple(map(_whole, text.split("-"))) if name == "layers" else text


def _whole(text: str) -> int:
    if not re.fullmatch(COUNT, text):
        raise ValueError(text)
    return int(text)


def _text(value: Any) -> str:
    if value is None:
        return "all"
    text = "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text.replace("%", "%25").replace("~", "%7E")
