"""What grep and sed make of a text. Only what is certain is computed: else the answer is None, and the import says so.

    grep -v '^#' | sed -Ez 's:\\n+:,:g;s:,$::;s:^,::'     lines → a list with commas

Origin of the rules: POSIX.1-2017, Utilities; `sed -z`, `\\s` and `grep -P` are GNU's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType

__all__ = ["ESCAPES", "MAX_TEXT", "grep", "sed"]

MAX_TEXT = 100_000
"""Characters that an expression is searched in; a list of a model card has 5,000."""
_MAX_LOOPS = 2
"""`*` and `+` in one expression: each may cost the length of the text once more."""
_CLASSES = {
    "space": r" \t\n\r\f\v", "blank": r" \t", "digit": "0-9", "alpha": "A-Za-z", "alnum": "A-Za-z0-9",
    "upper": "A-Z", "lower": "a-z", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "f": "\f", "v": "\v", "a": "\a", "b": "\b"}


def grep(args: Sequence[str], given: str, *, extended: bool = False) -> str | None:
    """Return the lines that grep prints. `extended`: as egrep, whose expressions are extended ones."""
    options = _options(args, "vEPiGsah")
    if options is None:
        return None
    letters, patterns = options
    extended = extended or "E" in letters or "P" in letters
    regexes = [_regex(it, extended=extended, same_case="i" in letters) for it in patterns]
    lines = given.removesuffix("\n").split("\n") if given else []
    if any(regex is None for regex in regexes):
        return None
    invert = "v" in letters
    kept = [it for it in lines if any(regex.search(it) for regex in regexes if regex) is not invert]
    return "".join(f"{it}\n" for it in kept)


def sed(args: Sequence[str], given: str) -> str | None:
    """Return what sed prints; of its commands, `s` and `d` are known, and the usual way to join lines."""
    options = _options(args, "Erzsu", {"--null-data": "z", "--regexp-extended": "E", "--expression": "e"})
    if options is None:
        return None
    letters, scripts = options
    extended = "E" in letters or "r" in letters
    script = "\n".join(scripts)
    joined = re.match(r"\s*:(\w+)\s*[;\n]\s*N\s*[;\n]\s*\$!\s*b\s*\1\s*[;\n]?", script)
    commands = _sed_commands(script[joined.end() :] if joined else script, extended=extended)
    if commands is None or len(given) > MAX_TEXT:
        return None
    if "z" in letters:
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
            flags = "".join(takewhile("gI".__contains__, script[at:]))
            at += len(flags)
            regex = _regex(pattern.replace(f"\\{sign}", sign), extended=extended, same_case="I" in flags)
            new = _replacement(by.replace(f"\\{sign}", sign))
            if regex is None or new is None or "\\" in sign:
                return None
            commands.append((address, turned, regex, new, 0 if "g" in flags else 1))
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
                made += ESCAPES.get(following, following).replace("\\", r"\\")
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
                made += re.escape(ESCAPES.get(following, following) if following in "ntrf" else following)
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


def _options(
    args: Sequence[str], known: str, long: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, list[str]] | None:
    """Return the letters of all options, and the values of `-e`, or else the first word.

    None if there is an option that isn't known, or a file: grep and sed read from the pipe.
    """
    said, values, words = "", list[str](), list(args)
    while words and words[0].startswith("-") and len(words[0]) > 1:
        option = words.pop(0)
        letters = long.get(option, option[1:])
        if letters.rstrip("e").strip(known):
            return None
        said += letters
        if letters.endswith("e"):
            if not words:
                return None
            values.append(words.pop(0))
    if not values and words:
        values.append(words.pop(0))
    return (said, values) if words in ([], ["-"]) and values else None
