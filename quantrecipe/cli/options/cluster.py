"""--cluster: machines that may share the work, as one text: nodes=10,threads=16,read=2GB/s,price=1.2/h."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.errors import RecipeError
from quantrecipe.units import parse_file_size

if TYPE_CHECKING:
    pass

__all__ = ["ClusterText", "cluster_option"]

_SECONDS = {"": 1, "s": 1, "min": 60, "h": 3600}
_THOUSANDS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}
_SHOWN = "nodes=10,threads=16,read=2GB/s"


class _WrongError(ValueError):
    """What a value should have been."""


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) < 1:
        raise _WrongError("a whole number of at least 1, and below 100,000")
    return int(text)


def _bandwidth(text: str) -> float:
    if not text.endswith("/s"):
        raise _WrongError("bytes per second, such as 2GB/s")
    try:
        return float(parse_file_size(text.removesuffix("/s")))
    except RecipeError as error:
        raise _WrongError("bytes per second, such as 2GB/s") from error


def _rate(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMG]?)(?:/s)?", text, re.ASCII)
    if found is None or not 0 < float(found[1]) < math.inf:
        raise _WrongError("weights per second of one thread, such as 12M")
    return float(found[1]) * _THOUSANDS[found[2]]


def _per_hour(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(?:/h)?", text, re.ASCII)
    if found is None:
        raise _WrongError("a number for an hour, such as 1.2/h")
    return float(found[1])


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|min|h|)", text, re.ASCII)
    if found is None:
        raise _WrongError("a time, such as 30s, 10min or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _seconds_or_never(text: str) -> float | None:
    return None if text == "never" else _seconds(text)


_READERS: Mapping[str, Callable[[str], Any]] = {
    "nodes": _count,
    "threads": _count,
    "read": _bandwidth,
    "write": _bandwidth,
    "network": _bandwidth,
    "rate": _rate,
    "lost": _per_hour,
    "back": _seconds_or_never,
    "start": _seconds,
    "price": _per_hour,
}


class ClusterText(click.ParamType["dict[str, Any]"]):
    """NAME=VALUE,…: fields of `Cluster`, and `rate`."""

    name = "cluster"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        found: dict[str, Any] = {}
        for pair in str(value).split(","):
            name, sign, text = (it.strip() for it in pair.partition("="))
            if not sign or name not in _READERS:
                names = ", ".join(_READERS)
                self.fail(f"{pair.strip()!r} is none of {names}, such as {_SHOWN}", param, ctx)
            if name in found:
                self.fail(f"{name} is given twice", param, ctx)
            try:
                found[name] = _READERS[name](text)
            except _WrongError as error:
                self.fail(f"{name}={text} (expected: {error})", param, ctx)
        if "nodes" not in found:
            self.fail(f"it doesn't say how many nodes there are, such as {_SHOWN}", param, ctx)
        return found


cluster_option = click.option(
    "--cluster",
    type=ClusterText(),
    metavar="NAME=VALUE,…",
    help="Say how long this cluster takes, what it reads and what it costs: nodes=10,threads=16,read=2GB/s,price=1.2/h "
    "(quantrecipe help cluster).",
)
"""Gives the command `cluster`: what was said, by name, or None."""
