"""What the usual filters of a shell make of a text: echo, tr, paste, xargs and the like; grep and sed have a file.

Scripts clean their lists with these before they hand them on. Only what is certain is computed: an option that isn't
known gives None, and the import says so. Origin of the rules: POSIX.1-2017, Utilities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from quantrecipe.exchange.scripts.grep_sed import ESCAPES, MAX_TEXT, grep, sed

__all__ = ["FILTERS"]


def _echo(args: Sequence[str], given: str) -> str | None:
    end, escapes, words = "\n", False, list(args)
    while words and re.fullmatch("-[neE]+", words[0]):
        end = "" if "n" in words[0] else end
        escapes = "e" in words[0] or escapes
        words = words[1:]
    text = " ".join(words)
    return (_unescaped(text) if escapes else text) + end


def _printf(args: Sequence[str], given: str) -> str | None:
    if not args:
        return None
    form, values = args[0], list(args[1:])
    parts = re.split(r"(%[sbdi%])", form)
    if any("%" in part for part in parts[::2]):
        return None  # widths and the like
    wants = sum(part[1] in "sbdi" for part in parts[1::2])
    made = ""
    while True:
        for place, part in enumerate(parts):
            if place % 2 == 0:
                made += _unescaped(part)
            elif part == "%%":
                made += "%"
            else:
                value = values.pop(0) if values else ""
                made += _unescaped(value) if part == "%b" else value
        if not values or not wants or len(made) > MAX_TEXT:
            return made


def _cat(args: Sequence[str], given: str) -> str | None:
    return given if not [it for it in args if it != "-"] else None


def _egrep(args: Sequence[str], given: str) -> str | None:
    return grep(args, given, extended=True)


def _tr(args: Sequence[str], given: str) -> str | None:
    words = list(args)
    delete = squeeze = False
    while words and re.fullmatch("-[ds]+", words[0]):
        letters = words.pop(0)
        delete |= "d" in letters
        squeeze |= "s" in letters
    sets = [_tr_set(word) for word in words]
    if any(it is None for it in sets) or not sets or len(sets) > 2:
        return None
    first, second = sets[0] or "", (sets[1] or "") if len(sets) == 2 else ""
    if delete:
        if squeeze or second:
            return None
        return "".join(char for char in given if char not in first)
    if second:
        longer = second.ljust(len(first), second[-1])[: len(first)]
        pairs = dict(zip(reversed(first), reversed(longer), strict=True))
        given = "".join(pairs.get(char, char) for char in given)
    elif not squeeze:
        return None
    if squeeze:
        of = second or first
        given = "".join(c for n, c in enumerate(given) if not (n and c == given[n - 1] and c in of))
    return given


def _tr_set(text: str) -> str | None:
    made, at = "", 0
    while at < len(text):
        if match := re.compile(r"\[:(\w+):\]").match(text, at):
            if match[1] == "space":
                made += " \t\n\r\f\v"
            elif match[1] == "blank":
                made += " \t"
            elif match[1] in ("upper", "lower"):
                letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                made += letters if match[1] == "upper" else letters.lower()
            else:
                return None
            at = match.end()
        elif text[at] == "\\":
            if text[at + 1 : at + 2].isdigit():
                return None
            made += ESCAPES.get(text[at + 1 : at + 2], text[at + 1 : at + 2])
            at += 2
        elif text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            made += "".join(map(chr, range(ord(text[at]), ord(text[at + 2]) + 1)))[:1000]
            at += 3
        else:
            made += text[at]
            at += 1
    return made or None


def _paste(args: Sequence[str], given: str) -> str | None:
    sign, serial, words = "\t", False, list(args)
    while words:
        word = words.pop(0)
        if word == "-":
            continue
        match = re.fullmatch(r"-(s?)(d?)(.*)", word, re.DOTALL)
        if match is None or (not match[2] and match[3]) or not (match[1] or match[2]):
            return None
        serial |= bool(match[1])
        if match[2]:
            sign = match[3] or (words.pop(0) if words else "")
    sign = _unescaped(sign)
    if not serial or len(sign) > 1:
        return None
    return sign.join(given.removesuffix("\n").split("\n")) + "\n"


def _xargs(args: Sequence[str], given: str) -> str | None:
    if args not in ([], ["echo"]):
        return None
    found = re.findall(r"""(?:\\.|"[^"\n]*"|'[^'\n]*'|[^\s\\"'])+""", given, re.DOTALL)
    words = [
        re.sub(
            r"""\\(.)|"([^"]*)"|'([^']*)'""", lambda m: next(it for it in m.groups() if it is not None), it
        )
        for it in found
    ]
    return " ".join(words) + "\n"


def _cut(args: Sequence[str], given: str) -> str | None:
    match = re.fullmatch(r"-d\x00?(.)\x00-f\x00?1", "\0".join(args)) or re.fullmatch(
        r"-f\x00?1\x00-d\x00?(.)", "\0".join(args)
    )
    if match is None:
        return None
    return "".join(f"{line.split(match[1])[0]}\n" for line in given.removesuffix("\n").split("\n"))


def _same(args: Sequence[str], given: str) -> str | None:
    return given


def _dos2unix(args: Sequence[str], given: str) -> str | None:
    return given.replace("\r\n", "\n")


def _unescaped(text: str) -> str:
    return re.sub(r"\\([ntr\\fvab])", lambda match: ESCAPES[match[1]], text)


FILTERS: Mapping[str, Callable[[Sequence[str], str], str | None]] = MappingProxyType(
    {
        "cat": _cat, "cut": _cut, "dos2unix": _dos2unix, "echo": _echo, "egrep": _egrep, "grep": grep, "paste": _paste,
        "printf": _printf, "sed": sed, "tee": _same, "tr": _tr, "xargs": _xargs,
    }
)  # fmt: skip
"""By name: arguments and standard input → standard output; None where it isn't known."""
