"""What the usual filters of a shell make of a text: echo, grep, sed, tr, paste, xargs and the like.

Scripts clean their lists with these before they hand them on. Only what is certain is computed: an option or an
expression that isn't known gives None, and the import says so.

    echo "$custom" | grep -v '^#' | sed -Ez 's:\\n+:,:g;s:,$::;s:^,::'     lines → a list with commas

Origin of the rules: POSIX.1-2017, Utilities; `sed -z`, `\\s` and `grep -P` are GNU's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

__all__ = ["FILTERS"]

_MAX_TEXT = 100_000
"""Characters that an expression is searched in; a list of a model card has 5,000."""
_MAX_LOOPS = 2
"""`*` and `+` in one expression: each may cost the length of the text once more."""
_CLASSES = {
    "space": r" \t\n\r\f\v", "blank": r" \t", "digit": "0-9", "alpha": "A-Za-z", "alnum": "A-Za-z0-9",
    "upper": "A-Z", "lower": "a-z", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "f": "\f", "v": "\v", "a": "\a", "b": "\b"}


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
        if not values or not wants or len(made) > _MAX_TEXT:
            return made


def _cat(args: Sequence[str], given: str) -> str | None:
    return given if not [it for it in args if it != "-"] else None


def _grep(args: Sequence[str], given: str, *, extended: bool = False) -> str | None:
    invert = same_case = False
    patterns: list[str] = []
    words = list(args)
    while words and words[0].startswith("-") and len(words[0]) > 1:
        letters = words.pop(0)[1:]
        if letters.rstrip("e").strip("vEPiGsah") or letters.startswith("-"):
            return None
        invert |= "v" in letters
        extended |= "E" in letters or "P" in letters
        same_case |= "i" in letters
        if letters.endswith("e"):
            if not words:
                return None
            patterns.append(words.pop(0))
    if not patterns and words:
        patterns.append(words.pop(0))
    if words not in ([], ["-"]) or not patterns:
        return None
    regexes = [_regex(it, extended=extended, same_case=same_case) for it in patterns]
    lines = given.removesuffix("\n").split("\n") if given else []
    if any(regex is None for regex in regexes):
        return None
    kept = [it for it in lines if any(regex.search(it) for regex in regexes if regex) is not invert]
    return "".join(f"{it}\n" for it in kept)


def _egrep(args: Sequence[str], given: str) -> str | None:
    return _grep(args, given, extended=True)


def _sed(args: Sequence[str], given: str) -> str | None:
    whole = extended = False
    scripts: list[str] = []
    words = list(args)
    while words and words[0].startswith("-") and len(words[0]) > 1:
        option = words.pop(0)
        letters = {"--null-data": "z", "--regexp-extended": "E", "--expression": "e"}.get(option, option[1:])
        if letters.rstrip("e").strip("Erzsu"):
            return None
        whole |= "z" in letters
        extended |= "E" in letters or "r" in letters
        if letters.endswith("e"):
            if not words:
                return None
            scripts.append(words.pop(0))
    if not scripts and words:
        scripts.append(words.pop(0))
    if words not in ([], ["-"]) or not scripts:
        return None
    script = "\n".join(scripts)
    joined = re.match(r"\s*:(\w+)\s*[;\n]\s*N\s*[;\n]\s*\$!\s*b\s*\1\s*[;\n]?", script)
    commands = _sed_commands(script[joined.end() :] if joined else script, extended=extended)
    if commands is None or len(given) > _MAX_TEXT:
        return None
    if whole:
        return _sed_line(commands, given)
    lines = given.removesuffix("\n").split("\n") if given else []
    if joined:
        lines = ["\n".join(lines)] if lines else []
    made = [_sed_line(commands, line) for line in lines]
    return "".join(f"{line}\n" for line in made if line is not None)


_SedCommand = tuple[re.Pattern[str] | None, bool, re.Pattern[str] | None, str, int]
"""Address, whether it is turned round, what is replaced (None: the line is deleted), by what, how often (0: always)."""


def _sed_line(commands: Sequence[_SedCommand], line: str) -> str | None:
    for address, turned, regex, by, count in commands:
        if address is not None and bool(address.search(line)) is turned:
            continue
        if regex is None:
            return None
        line = regex.sub(lambda match, by=by: match.expand(by), line, count=count)  # type: ignore[misc]
    return line


def _sed_commands(script: str, *, extended: bool) -> list[_SedCommand] | None:
    commands: list[_SedCommand] = []
    at = 0
    while at < len(script):
        if script[at] in "; \t\n":
            at += 1
            continue
        address, turned = None, False
        if script[at] == "/":
            pattern, at = _delimited(script, at)
            address = _regex(pattern, extended=extended)
            if address is None:
                return None
        while script[at : at + 1] in ("!", " ") and at < len(script):
            turned |= script[at] == "!"
            at += 1
        command = script[at : at + 1]
        if command == "d":
            at += 1
            commands.append((address, turned, None, "", 0))
        elif command == "s" and at + 1 < len(script):
            sign = script[at + 1]
            pattern, at = _delimited(script, at + 1)
            by, at = _delimited(script, at - 1)
            flags = re.compile("[gI]*").match(script, at)
            assert flags is not None  # it matches nothing, too
            at = flags.end()
            regex = _regex(pattern.replace(f"\\{sign}", sign), extended=extended, same_case="I" in flags[0])
            new = _replacement(by.replace(f"\\{sign}", sign))
            if regex is None or new is None or "\\" in sign:
                return None
            commands.append((address, turned, regex, new, 0 if "g" in flags[0] else 1))
        else:
            return None
        if script[at : at + 1] not in ("", ";", "\n", " ", "\t"):
            return None
    return commands


def _delimited(script: str, at: int) -> tuple[str, int]:
    """Return what stands between the sign at `at` and the next one that isn't escaped, and the place behind that."""
    sign, end = script[at], at + 1
    while end < len(script) and script[end] != sign:
        end += 2 if script[end] == "\\" else 1
    return script[at + 1 : end], min(end + 1, len(script))


def _replacement(text: str) -> str | None:
    """Return the replacement of sed's `s` as Python writes it; None if Python can't."""
    made, at = "", 0
    while at < len(text):
        char = text[at]
        if char == "&":
            made += r"\g<0>"
        elif char == "\\":
            at += 1
            following = text[at : at + 1]
            if following.isdigit():
                made += rf"\g<{following}>"
            elif following in "UuLlE" or not following:
                return None
            else:
                made += _ESCAPES.get(following, following).replace("\\", r"\\")
        else:
            made += char
        at += 1
    return made


def _regex(text: str, *, extended: bool, same_case: bool = False) -> re.Pattern[str] | None:
    """Return a POSIX expression as Python's; None if it has what isn't known here, or could take long."""
    made, at, loops = "", 0, 0
    while at < len(text):
        char = text[at]
        signs = "+?|(){}" if extended else ""
        if char == "\\":
            at += 1
            following = text[at : at + 1]
            if not following or following in "<>bB'`123456789":
                return None
            if following in "+?|(){}" and not extended:
                made += following
                loops += following == "+"
            elif following in "sSwWdD":
                made += f"\\{following}"
            else:
                made += re.escape(_ESCAPES.get(following, following) if following in "ntrf" else following)
        elif char == "[":
            part, at = _bracket(text, at)
            if part is None:
                return None
            made += part
            continue
        elif char == "^" and (extended or not made or made.endswith(("(", "|"))):
            made += r"\A"
        elif char == "$" and (extended or at == len(text) - 1):
            made += r"\Z"
        elif char == "*" and (not made or made.endswith(("(", "|", r"\A"))):
            made += r"\*"
        elif char == "*" or char in signs:
            made += char
            loops += char in "*+{"
        elif char == ".":
            made += "."
        else:
            made += re.escape(char)
        at += 1
    if loops > _MAX_LOOPS or re.search(r"[+*}]\)[+*{]", made):
        return None
    try:
        return re.compile(made, re.DOTALL | (re.IGNORECASE if same_case else 0))
    except re.error:
        return None


def _bracket(text: str, at: int) -> tuple[str | None, int]:
    """Return `[…]` as Python's, and the place behind it. A backslash is one, too; GNU knows `\\n` and `\\t`."""
    end = at + 1
    made = "["
    if text.startswith("^", end):
        made, end = "[^", end + 1
    first = True
    while end < len(text) and (text[end] != "]" or first):
        first = False
        if match := re.compile(r"\[:(\w+):\]").match(text, end):
            if match[1] not in _CLASSES:
                return None, end
            made += _CLASSES[match[1]]
            end = match.end()
        elif text[end] == "\\" and text[end + 1 : end + 2] in ("n", "t", "r"):
            made += text[end : end + 2]
            end += 2
        else:
            made += text[end] if text[end] == "-" else re.escape(text[end])
            end += 1
    return (made + "]" if end < len(text) else None), end + 1


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
            made += _ESCAPES.get(text[at + 1 : at + 2], text[at + 1 : at + 2])
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
    return re.sub(r"\\([ntr\\fvab])", lambda match: _ESCAPES[match[1]], text)


FILTERS: Mapping[str, Callable[[Sequence[str], str], str | None]] = MappingProxyType(
    {
        "cat": _cat, "cut": _cut, "dos2unix": _dos2unix, "echo": _echo, "egrep": _egrep, "grep": _grep, "paste": _paste,
        "printf": _printf, "sed": _sed, "tee": _same, "tr": _tr, "xargs": _xargs,
    }
)  # fmt: skip
"""By name: arguments and standard input → standard output; None where it isn't known."""
