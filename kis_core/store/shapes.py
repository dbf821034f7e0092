"""The terms in which `schema` says what a stored value must be: checks of JSON, and of arrays by names of their axes.

A check of JSON takes a value and the place where it stands in the metadata, and raises `Misfit`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kis_core.store.array_files import Damaged

MOST = 1 << 53  # whole numbers above are not exact where JSON is read as floats, and no count of ours comes near
LARGEST = sys.float_info.max
SHOWN = 40  # characters of a wrong value, in a message
NOT_FINITE = ("nan", "inf", "-inf")  # as `LayerReport.to_json` writes them

Check = Callable[[Any, str], None]
Arrays = Mapping[str, np.ndarray]


class Misfit(Damaged):
    """A value is whole and not what a value of its kind must be."""


def wrong(where: str, value: Any, expected: str) -> Misfit:
    """The error, in words."""
    written = repr(value)
    return Misfit(f"{where} is {written if len(written) <= SHOWN else written[:SHOWN] + '…'}; {expected} was expected")


def text(value: Any, where: str) -> None:
    """Any text."""
    if not isinstance(value, str):
        raise wrong(where, value, "text")


def some_text(value: Any, where: str) -> None:
    """Text that is not blank."""
    text(value, where)
    if not value.strip():
        raise wrong(where, value, "text")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise wrong(where, value, "true or false")


def anything(value: Any, where: str) -> None:
    """Whatever JSON holds."""


def sha256(value: Any, where: str) -> None:
    """A SHA-256 in hexadecimal."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise wrong(where, value, "a SHA-256")


def whole(least: int = 0) -> Check:
    """A whole number from `least` on."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not least <= value <= MOST:
            raise wrong(where, value, f"a whole number of {least} or more")

    return check


def number(least: float = -math.inf, most: float = math.inf) -> Check:
    """A finite number."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise wrong(where, value, "a number")
        if not least <= value <= most:
            raise wrong(where, value, f"a number from {least:g} to {most:g}")

    return check


def any_number(value: Any, where: str) -> None:
    """A number; NaN and the infinities, which JSON does not know, as text."""
    if value not in NOT_FINITE:
        number()(value, where)


def positive_or_none(value: Any, where: str) -> None:
    """A number of 0 or more, infinity included; NaN where there is none."""
    any_number(value, where)
    if value == "-inf" or (not isinstance(value, str) and value < 0):
        raise wrong(where, value, "a number of 0 or more")


def optional(check: Check) -> Check:
    """What the check takes, or null."""

    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def list_of(check: Check, *, least: int = 0) -> Check:
    """A list of at least so many things of a kind."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise wrong(where, value, f"a list of {least} or more")
        for place, item in enumerate(value):
            check(item, f"{where}[{place}]")

    return checked


def tuple_of(*checks: Check) -> Check:
    """A list of exactly so many things, each of its own kind."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) != len(checks):
            raise wrong(where, value, f"a list of {len(checks)}")
        for place, (check, item) in enumerate(zip(checks, value, strict=True)):
            check(item, f"{where}[{place}]")

    return checked


def dict_of(check: Check) -> Check:
    """An object with things of a kind under any names."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise wrong(where, value, "an object")
        for name, item in value.items():
            check(item, f"{where}.{name}")

    return checked


def table(needed: Mapping[str, Check], possible: Mapping[str, Check] | None = None, *, more: bool = False) -> Check:
    """An object that has all needed fields, may have the possible ones, and others only where there may be `more`."""
    known = {**needed, **(possible or {})}

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise wrong(where or "its metadata", value, "an object")
        at = f"{where}." if where else ""
        for name in needed:
            if name not in value:
                raise Misfit(f"{at}{name} is missing")
        for name, item in value.items():
            if name in known:
                known[name](item, f"{at}{name}")
            elif not more:
                raise Misfit(f"{at}{str(name)[:SHOWN]} is not known")

    return checked


def fields(check: Check, names: str) -> dict[str, Check]:
    """The same check for several fields of a `table`; their names stand in one text with blanks between."""
    return dict.fromkeys(names.split(), check)


@dataclass(frozen=True, slots=True)
class Array:
    """What an array must be.

    Attributes:
        axes: names of its axes, such as "m d_m"; axes of one name are of one length in all arrays of a value, and
            "m+1" is one longer than "m".
        kinds: of numbers it may hold, as numpy's `dtype.kind`: f floats, i integers, u unsigned ones, b booleans.
        finite: whether all of them must be.
        least, most: no number may be smaller or larger.
    """

    axes: str
    kinds: str = "f"
    finite: bool = True
    least: float = -math.inf
    most: float = math.inf

    def check(self, name: str, array: np.ndarray, sizes: dict[str, int]) -> None:
        """Hold an array against it; lengths of axes not met before are added to `sizes`."""
        axes = self.axes.split()
        if array.dtype.kind not in self.kinds:
            raise Misfit(f"{name} holds {array.dtype}; numbers of kind {' or '.join(self.kinds)} were expected")
        if array.ndim != len(axes):
            raise Misfit(f"{name} has shape {array.shape}; {len(axes)} axes ({self.axes}) were expected")
        for axis, length in zip(axes, array.shape, strict=True):
            base, _, extra = axis.partition("+")
            more = int(extra or 0)
            expected = sizes.setdefault(base, length - more) + more
            if length != expected or sizes[base] < 0:
                raise Misfit(f"{name} has shape {array.shape}; {axis} = {expected} was expected (axes {self.axes})")
        if self.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Misfit(f"{name} holds a NaN or an infinity")
        if self.least > -math.inf and (array < self.least).any():
            raise Misfit(f"{name} holds numbers below {self.least:g}, which was the least expected")
        if self.most < math.inf and (array > self.most).any():
            raise Misfit(f"{name} holds numbers above {self.most:g}, which was the most expected")


def arrays(array: Array, names: str) -> dict[str, Array]:
    """The same array under several names, which stand in one text with blanks between."""
    return dict.fromkeys(names.split(), array)


@dataclass(frozen=True, slots=True)
class Kind:
    """What values of a kind must be.

    Attributes:
        meta: check of the metadata.
        arrays: by name; None where they may be any.
        sizes: lengths of axes that the metadata determines.
        together: names of the arrays that `more` looks at.
        more: check of their contents, once each is of the right shape; takes metadata, arrays and all sizes.
        format: that this version reads, where the metadata has one.
        optional: how the names of arrays begin that may be left out.
    """

    meta: Check
    arrays: Mapping[str, Array] | None = field(default_factory=dict)
    sizes: Callable[[Mapping[str, Any]], dict[str, int]] = lambda meta: {}
    together: tuple[str, ...] = ()
    more: Callable[[Mapping[str, Any], Arrays, Mapping[str, int]], None] = lambda meta, arrays, sizes: None
    format: int | None = None
    optional: str | None = None


def check_arrays(kind: Kind, arrays: Iterable[tuple[str, np.ndarray]], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Hold arrays against their kind, one after the other, so that no more than one need lie in memory.

    Args:
        kind: of the value, with arrays.
        arrays: name and array.
        sizes: lengths of axes that are known; the others are added.

    Returns:
        the arrays that `kind.more` looks at.
    """
    expected = kind.arrays or {}
    seen, together = set(), {}
    for name, array in arrays:
        if name not in expected:
            raise Misfit(f"an array {name[:SHOWN]} is not known")
        expected[name].check(name, array, sizes)
        seen.add(name)
        if name in kind.together:
            together[name] = array
    needed = {name for name in expected if kind.optional is None or not name.startswith(kind.optional)}
    if missing := needed - seen:
        raise Misfit(f"the array {min(missing)} is missing")
    return together
