"""A script of any shell: which one it is for is told by how it is written, then it is followed.

Also whole pages are taken, such as model cards: of a text with code in ``` fences, only the code is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.scripts.call import Dialect, Script
from quantrecipe.exchange.scripts.cmd import read_cmd
from quantrecipe.exchange.scripts.powershell import read_powershell
from quantrecipe.exchange.scripts.sh import read_sh

__all__ = ["SHELLS", "calls_quantize", "decoded", "dialect_of", "read_script"]

MAX_SCRIPT = 1 << 20
"""Characters; lists that name every tensor of the largest models have 200,000."""

SHELLS: dict[Dialect, str] = {"sh": "a POSIX shell", "cmd": "Windows' cmd", "powershell": "PowerShell"}

# Space at the beginning of a line is [^\S\n]*: from each of many blank lines on, \s* would read all that follow.
_EVIDENCE: tuple[tuple[Dialect, int, str, str], ...] = (
    ("sh", 9, r"\A#!", "its first line"),
    ("sh", 4, r"\\\n", "\\ at the end of a line"),
    ("sh", 3, r"(?m)^[^\S\n]*(?:export\s+)?[A-Za-z_]\w*\+?=", "name=value"),
    ("sh", 3, r"(?m)^[^\S\n]*(?:done|fi|then|esac)\b|\bdo\s*$", "done or fi"),
    ("sh", 2, r"\$\{?[a-z_]\w*\}?|\$\(", "$name"),
    ("sh", 1, r"'", "single quotes"),
    ("cmd", 9, r"(?mi)^[^\S\n]*@?(?:echo\s+off|setlocal|rem\s)|^[^\S\n]*::", "echo off, setlocal or rem"),
    ("cmd", 6, r"\^[ \t]*\n", "^ at the end of a line"),
    (
        *("cmd", 5),
        r"(?mi)^[^\S\n]*@?set\s+\"?\w+=|%%?~?\w+%|\bin\s*\((?:[^()\n]|\([^()\n]*\))*\)\s*do\b",
        "set, %name% or for … in ( )",
    ),
    ("powershell", 6, r"`[ \t]*\n", "` at the end of a line"),
    ("powershell", 9, r"(?mi)^[^\S\n]*\$[\w:]+\s*\+?=|\$env:\w|\bforeach\s*\(", "$name = or foreach"),
    ("powershell", 9, r"(?i)\bstart-process\b|-argumentlist\b", "Start-Process"),
    ("powershell", 5, r"(?m)^[^\S\n]*&\s+[\"'$.]|@[\"']\n", "& before the program"),
    ("cmd", 3, r"(?m)(?:^|[\s\"'=])(?:[A-Za-z]:\\|\\\\\w|\.{1,2}\\)", "paths with backslashes"),
    ("cmd", 2, r"\.exe\b", ".exe"),
)
"""What speaks for a dialect, and how loud. Paths with backslashes stand in both of Windows' shells; `cmd` is taken for
what is the same in both."""

_WINDOWS = ("paths with backslashes", ".exe")

_ENDINGS: tuple[tuple[str, Dialect], ...] = (
    (".sh", "sh"), (".bash", "sh"), (".zsh", "sh"), (".bat", "cmd"), (".cmd", "cmd"), (".ps1", "powershell"),
)  # fmt: skip
_CALL = re.compile(r"(?mi)^(?![^\S\n]*#)(?:.*[\s\"'/\\&])?(?:llama-)?quantize(?:\.exe)?[\"']?(?:\s|$)")
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_PROMPT = re.compile(
    r"(?m)^([^\S\n]*)(?:\$|>|PS [^>\n]*>|[A-Za-z]:\\[^>\n]*>|!)[ \t]*"
    r"(?=\S*(?:llama-)?quantize\b|[^\s=]+=\S* \S*llama-quantize)"
)
"""What a terminal or a notebook prints before a command, copied with it."""


def decoded(data: bytes) -> str:
    """Decode a file: UTF-8, or UTF-16 with its mark, as Windows PowerShell's `>` writes it. Else UnicodeDecodeError."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def calls_quantize(text: str) -> bool:
    """Say whether a line looks like a call of llama-quantize, so that the text is more than a list of types."""
    return _CALL.search(text) is not None


def read_script(text: str, file: str, read_file: Callable[[str], str | None] = lambda path: None) -> Script:
    """Follow a script without running it. RecipeError if a quote or bracket isn't closed, or if it doesn't end.

    read_file: what is in a file beside the script; None where that isn't known
    """
    if len(text) > MAX_SCRIPT:
        raise RecipeError(
            f"a script of {len(text):,} characters (at most {MAX_SCRIPT:,})",
            "cut what isn't about llama-quantize",
            file=file,
        )
    text = _code(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    text = _PROMPT.sub(lambda match: match[1] + " " * (len(match[0]) - len(match[1])), text)
    dialect, evidence = dialect_of(text, file)
    if dialect == "cmd":
        script = read_cmd(text, file)
    elif dialect == "powershell":
        script = read_powershell(text, file)
    else:
        script = read_sh(text, file, read_file)
    return replace(script, dialect=dialect, evidence=evidence)


def dialect_of(text: str, file: str) -> tuple[Dialect, str]:
    """Return the shell that the text is for, and what shows it; a POSIX shell and "" if nothing does."""
    for ending, dialect in _ENDINGS:
        if file.lower().endswith(ending):
            return dialect, f"the name {ending}"
    scores: dict[Dialect, int] = {"sh": 0, "cmd": 0, "powershell": 0}
    shown: dict[Dialect, str] = {"sh": "", "cmd": "", "powershell": ""}
    bare = re.sub(r"(?m)^[^\S\n]*#(?!!).*", "", text)  # a comment may say anything
    for kind, weight, pattern, name in _EVIDENCE:
        if re.search(pattern, bare):
            scores[kind] += weight
            shown[kind] = shown[kind] or name
    if scores["powershell"]:  # what shows Windows speaks for both of its shells
        scores["powershell"] += sum(
            weight
            for kind, weight, pattern, name in _EVIDENCE
            if name in _WINDOWS and re.search(pattern, bare)
        )
    best = max(scores, key=lambda kind: (scores[kind], kind == "sh"))
    return best, shown[best]


def _code(text: str) -> str:
    """Return what stands in fences, if any of them has a command; the other lines become empty."""
    lines, inside, kept = text.split("\n"), False, list[str]()
    for line in lines:
        fence = _FENCE.match(line) is not None
        inside ^= fence
        kept.append(line if inside and not fence else "")
    code = "\n".join(kept)
    return code if re.search(r"quantize|=", code) else text
