"""A batch file, or lines of Windows' command prompt, followed without running anything.

    set QUANT=Q4_K_M
    for %%q in (%QUANT% Q5_K_M) do llama-quantize.exe ^
      --tensor-type attn_v=q8_0 ^
      C:\\models\\in.gguf "C:\\my models\\%%q.gguf" %%q

A backslash is a backslash here, `'` isn't a quote, and `^` stands before what shall mean nothing special. Arguments are
split as Microsoft's C runtime does. Origin of the rules: Microsoft's "Parsing C command-line arguments", `help for`,
`help set`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from quantrecipe.exchange.scripts.call import NOT_A_MIX, Follower, Script, Word, program_name, unclosed

__all__ = ["read_cmd"]

_FOR = re.compile(r"for\s+%%?([A-Za-z])\s+in\s*\(([^)]*)\)\s*do\b\s*", re.IGNORECASE)
_VALUE = r'(?:"[^"]*"|[^\s()]+)'
_IF = re.compile(
    rf"(?:else\s+)?if\s+(?:/i\s+)?(?:not\s+)?(?:exist\s+{_VALUE}|errorlevel\s+\S+|defined\s+\S+"
    rf"|{_VALUE}\s*==\s*{_VALUE}|{_VALUE}\s+(?:equ|neq|lss|leq|gtr|geq)\s+{_VALUE})\s*",
    re.IGNORECASE,
)
_ELSE = re.compile(r"else\b\s*", re.IGNORECASE)
_SET = re.compile(r'set\s+(?:"([^"=/]+)=([^"]*)"|([^"=/\s][^"=]*)=(.*))', re.IGNORECASE | re.DOTALL)
_BLOCK = re.compile(r"[\s@]*(?:for|if|else|\)\s*else)\b", re.IGNORECASE)
_REDIRECT = re.compile(r'\d?(?:>>?|<)\s*(?:&\d|"[^"]*"|[^\s&|<>]+)')
_UNKNOWN = re.compile(r"%[^%\s=:]+(?::[^%]*)?%|%~?[a-z]*\d|%\*|%%?~?[A-Za-z]\b|![A-Za-z_]\w*!")


def read_cmd(text: str, file: str) -> Script:
    """Follow a batch file. RecipeError if a quote isn't closed within a command."""
    batch = _Batch(file)
    batch.run(text, 1)
    return batch.script("cmd", batch.values)


class _Batch(Follower):
    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.values: dict[str, str] = {}
        self.unclear: set[str] = set()

    def run(self, text: str, line: int) -> None:
        for begin, whole in _lines(text, line):
            self._line(whole, begin)

    def _line(self, text: str, line: int) -> None:
        self.step()
        self.step(max(1, len(text) // 8))
        rest = text.lstrip(" \t\n@(")
        line += text[: len(text) - len(rest)].count("\n")
        lowered = rest.lower()
        if not rest or lowered.startswith(("::", ":")) or re.match(r"rem\b", lowered):
            return
        if match := _FOR.match(rest):
            for value in _words(self._filled(match[2].replace(",", " "))):
                body = _with(rest[match.end() :], match[1], value)
                self._block(body, line + match[0].count("\n"))
            return
        if match := _IF.match(rest) or _ELSE.match(rest):
            self.branches += 1
            self._block(rest[match.end() :], line + match[0].count("\n"))
            self.branches -= 1
            return
        self._simple(rest, line)

    def _block(self, text: str, line: int) -> None:
        """Follow what stands behind `do` or a condition: a command, or several in parentheses, and `else`."""
        with self.deeper():
            if not text.startswith("("):
                self._line(text, line)
                return
            end = _closing(text)
            self.run(text[1:end], line)
            rest = text[end + 1 :]
            if rest.strip():
                self._line(rest, line + text[: end + 1].count("\n"))

    def _simple(self, text: str, line: int) -> None:
        if match := _SET.match(text.strip()):
            self._set(
                (match[1] or match[3]).strip().lower(), self._filled(match[2] or match[4] or "").rstrip()
            )
            return
        filled = self._filled(text)
        quotes = re.sub(r'\\\\|\\"', "", filled).count('"')
        if quotes % 2:
            raise unclosed('the quotation "', line, self.file)
        for part, begin in _parts(filled):
            words = tuple(_numbered(part, line + begin))
            if not words or self.takes_call(words, _cut_by(text, line)):
                continue
            if (name := program_name(words[0].text)) not in NOT_A_MIX:
                self.others.append((name, words[0].line))

    def _set(self, name: str, value: str) -> None:
        if self.branches and self.values.get(name, value) != value:
            self.unclear.add(name)
            del self.values[name]
        elif name not in self.unclear:
            self.values[name] = value

    def _filled(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            return self.values.get((match[1] or match[2]).lower(), match[0])

        return re.sub(r"(?<!%)%([^%\s=:]+)%|!([A-Za-z_]\w*)!", value, text)


def _with(body: str, name: str, value: str) -> str:
    """Fill the value of its variable into a loop's body; `%%~nq`, a part of the value, is taken for all of it."""
    return re.sub(rf"%%?(?:~[a-z]+)?{name}\b(?!%)", lambda _: value, body)


def _lines(text: str, line: int) -> Iterator[tuple[int, str]]:
    """Yield commands with the lines in which they begin. `^` joins lines, and so do open parentheses of for and if."""
    whole, begin, brackets = "", line, _Brackets()
    for number, part in enumerate(text.split("\n"), start=line):
        if not whole:
            begin, brackets = number, _Brackets()
        whole += part
        brackets.read(part)
        if brackets.open and _BLOCK.match(whole):
            whole += "\n"  # what is within is read when the block is
        elif part.endswith("^") and not part.endswith("^^"):
            whole = whole[:-1] + "\n"
        else:
            yield begin, whole.lstrip(" \t)") if re.match(r"\s*\)", whole) else whole
            whole = ""
    if whole:
        yield begin, whole


class _Brackets:
    """How many parentheses are open outside of quotes, in a text that comes in parts."""

    def __init__(self) -> None:
        self._depth, self._quoted = 0, False

    @property
    def open(self) -> bool:
        return self._depth > 0

    def read(self, part: str) -> None:
        """Take the next part into account."""
        for place, piece in enumerate(part.split('"')):
            self._quoted ^= place > 0
            if not self._quoted:
                self._depth += piece.count("(") - piece.count(")")


def _closing(text: str) -> int:
    depth, quoted = 0, False
    for place, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif not quoted and char in "()":
            depth += 1 if char == "(" else -1
            if not depth:
                return place
    return len(text)


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """Yield the commands that `&` and `|` join, without redirections, and how many newlines stand before each."""
    made, at, quoted, begin = "", 0, False, 0
    while at < len(text):
        char = text[at]
        quoted ^= char == '"' and not _escaped(text, at)
        if not quoted and char == "^" and at + 1 < len(text):
            at += 1
            made += text[at]
        elif not quoted and char in "&|":
            yield made, begin
            made, begin = "", text.count("\n", 0, at)
        elif (
            not quoted
            and char in "<>0123456789"
            and (match := _REDIRECT.match(text, at))
            and _alone(text, at)
        ):
            at = match.end() - 1
        else:
            made += char
        at += 1
    yield made, begin


def _escaped(text: str, at: int) -> bool:
    """Say whether an odd number of backslashes stands before a quote."""
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _alone(text: str, at: int) -> bool:
    """Say whether a sign begins a redirection: a digit belongs to one only if it stands alone."""
    return text[at] in "<>" or at == 0 or text[at - 1] in " \t\n"


def _numbered(text: str, line: int) -> Iterator[Word]:
    for match in re.finditer(r'(?:[^\s"]|"(?:\\\\|\\"|[^"])*"?)+', text):
        word = _argument(match[0])
        missing = tuple(dict.fromkeys(_UNKNOWN.findall(word)))
        yield Word(
            text=word.replace("%%", "%"), line=line + text.count("\n", 0, match.start()), missing=missing
        )


def _words(text: str) -> list[str]:
    return [_argument(match[0]) for match in re.finditer(r'(?:[^\s"]|"[^"]*"?)+', text)]


def _argument(text: str) -> str:
    """Remove quotes. Backslashes mean something only before a quote."""
    made = re.sub(r'(\\*)"', lambda m: "\\" * (len(m[1]) // 2) + ("\0" if len(m[1]) % 2 else ""), text)
    return made.replace("\0", '"')


def _cut_by(text: str, line: int) -> str:
    if not re.search(r"\^[ \t]+$", text):
        return ""
    number = line + text.rstrip().count("\n")
    return f"a space stands behind the ^ at the end of line {number}, so the command ends there"
