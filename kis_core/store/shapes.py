"""The words in which `schema` says what a stored value must be: checks of JSON, and of arrays by names of their axes.

A check of JSON takes what was found and where, and raises `Misfit`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kis_core.store.array_files import Damaged

MOST = 1 << 53  # whole numbers above are not exact where JSON is read as floats, and no count of ours comes near
SHOWN = 40  # characters of what was found, in a message
NOT_FINITE = ("nan", "inf", "-inf")  # as `LayerReport.to_json` writes them

Check = Callable[[Any, str], None]


class Misfit(Damaged):
    """A value is whole and not what a value of its kind must be."""


def wrong(where: str, found: Any, expected: str) -> Misfit:
    """The error, in words."""
    told = repr(found)
    return Misfit(f"{where} is {told if len(told) <= SHOWN else told[:SHOWN] + '…'}; {expected} was expected")


def text(found: Any, where: str) -> None:
    """Any text."""
    if not isinstance(found, str):
        raise wrong(where, found, "text")


def words(found: Any, where: str) -> None:
    """Text that says something."""
    text(found, where)
    if not found.strip():
        raise wrong(where, found, "text")


def flag(found: Any, where: str) -> None:
    """True or false."""
    if not isinstance(found, bool):
        raise wrong(where, found, "true or false")


def anything(found: Any, where: str) -> None:
    """Whatever JSON holds."""


def digits(found: Any, where: str) -> None:
    """A SHA-256 in hexadecimal."""
    if not isinstance(found, str) or not re.fullmatch(r"[0-9a-f]{64}", found):
        raise wrong(where, found, "a SHA-256")


def whole(least: int = 0) -> Check:
    """A whole number from `least` on."""

    def check(found: Any, where: str) -> None:
        if type(found) is not int or not least <= found <= MOST:
            raise wrong(where, found, f"a whole number of {least} or more")

    return check


def number(least: float = -math.inf, most: float = math.inf) -> Check:
    """A finite number."""

    def check(found: Any, where: str) -> None:
        if isinstance(found, bool) or not isinstance(found, int | float) or not _finite(found):
            raise wrong(where, found, "a number")
        if not least <= found <= most:
            raise wrong(where, found, f"a number from {least:g} to {most:g}")

    return check


def any_number(found: Any, where: str) -> None:
    """A number, or one that JSON does not know as text."""
    if found not in NOT_FINITE:
        number()(found, where)


def positive_or_none(found: Any, where: str) -> None:
    """A number of 0 or more, infinity included; NaN where there is nothing to tell."""
    any_number(found, where)
    if found == "-inf" or (not isinstance(found, str) and found < 0):
        raise wrong(where, found, "a number of 0 or more")


def maybe(check: Check) -> Check:
    """That, or nothing."""

    def checked(found: Any, where: str) -> None:
        if found is not None:
            check(found, where)

    return checked


def each(check: Check, *, least: int = 0) -> Check:
    """A list of such things."""

    def checked(found: Any, where: str) -> None:
        if not isinstance(found, list) or len(found) < least:
            raise wrong(where, found, f"a list of {least} or more")
        for number, one in enumerate(found):
            check(one, f"{where}[{number}]")

    return checked


def row(*checks: Check) -> Check:
    """A list of so many things, each of its own kind."""

    def checked(found: Any, where: str) -> None:
        if not isinstance(found, list) or len(found) != len(checks):
            raise wrong(where, found, f"a list of {len(checks)}")
        for number, (check, one) in enumerate(zip(checks, found, strict=True)):
            check(one, f"{where}[{number}]")

    return checked


def by_name(check: Check) -> Check:
    """An object with such things under any names."""

    def checked(found: Any, where: str) -> None:
        if not isinstance(found, dict):
            raise wrong(where, found, "an object")
        for name, one in found.items():
            check(one, f"{where}.{name}")

    return checked


def table(needed: Mapping[str, Check], possible: Mapping[str, Check] | None = None, *, more: bool = False) -> Check:
    """An object with these fields, perhaps those, and none else unless there may be `more`."""
    known = {**needed, **(possible or {})}

    def checked(found: Any, where: str) -> None:
        if not isinstance(found, dict):
            raise wrong(where or "its metadata", found, "an object")
        at = f"{where}." if where else ""
        for name in needed:
            if name not in found:
                raise Misfit(f"{at}{name} is missing")
        for name, one in found.items():
            if name in known:
                known[name](one, f"{at}{name}")
            elif not more:
                raise Misfit(f"{at}{str(name)[:SHOWN]} is not known")

    return checked


@dataclass(frozen=True, slots=True)
class Array:
    """What an array must be.

    Attributes:
        axes: names of its axes, such as "m d_m"; axes of one name are of one length in all arrays of a value, and
            "m+1" is one longer than "m".
        kinds: of numbers it may hold, as numpy's `dtype.kind`: f floats, i integers, u unsigned ones, b booleans.
        finite: whether all of them must be.
        least: the smallest of them may be this.
    """

    axes: str
    kinds: str = "f"
    finite: bool = True
    least: float = -math.inf

    def check(self, name: str, array: np.ndarray, sizes: dict[str, int]) -> None:
        """Hold an array against it; lengths of axes not met before are added to `sizes`."""
        axes = self.axes.split()
        if array.dtype.kind not in self.kinds:
            raise Misfit(f"{name} holds {array.dtype}; numbers of kind {' or '.join(self.kinds)} were expected")
        if array.ndim != len(axes):
            raise Misfit(f"{name} has shape {array.shape}; {len(axes)} axes ({self.axes}) were expected")
        for axis, length in zip(axes, array.shape, strict=True):
            of, _, extra = axis.partition("+")
            more = int(extra or 0)
            expected = sizes.setdefault(of, length - more) + more
            if length != expected or sizes[of] < 0:
                raise Misfit(f"{name} has shape {array.shape}; {axis} = {expected} was expected (axes {self.axes})")
        if self.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Misfit(f"{name} holds a NaN or an infinity")
        if self.least > -math.inf and (array < self.least).any():
            raise Misfit(f"{name} holds numbers below {self.least:g}, which was the least expected")


def check_arrays(
    expected: Mapping[str, Array], found: Iterable[tuple[str, np.ndarray]], sizes: dict[str, int], kept: Iterable[str]
) -> dict[str, np.ndarray]:
    """Hold arrays against what they must be, one after the other, so that no more than one need lie in memory.

    Args:
        expected: by name.
        found: name and array.
        sizes: lengths of axes that are known; those found are added.
        kept: names of arrays that are to be looked at together afterwards.

    Returns:
        these.
    """
    seen, together, kept = set(), {}, set(kept)
    for name, array in found:
        if name not in expected:
            raise Misfit(f"an array {name[:SHOWN]} is not known")
        expected[name].check(name, array, sizes)
        seen.add(name)
        if name in kept:
            together[name] = array
    if missing := expected.keys() - seen:
        raise Misfit(f"the array {min(missing)} is missing")
    return together


def _finite(found: float) -> bool:
    try:
        return math.isfinite(found)
    except OverflowError:  # a whole number beyond all floats
        return False
