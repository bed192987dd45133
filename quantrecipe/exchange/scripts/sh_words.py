"""The words of a POSIX shell or bash, with what they are made of; nothing is filled in yet.

    custom="$custom,a=b" \\
      # a comment          →  Word(text "custom=", variable in quotes, quoted text ",a=b")  Sign("\\n")

Origin of the rules: POSIX.1-2017, Shell Command Language, 2.2 and 2.3; `$'…'`, arrays and `<<<` are bash's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from quantrecipe.exchange.scripts.call import Cursor, unclosed

__all__ = ["ArrayValue", "Piece", "Redirect", "ShWord", "Sign", "Token", "tokens_of"]

_MAX_DEPTH = 40  # of `$( )` within others: each is a call of this lexer
_SIGNS = ("&&", "||", ";;&", ";;", ";&", "|&", ";", "&", "|", "(", ")", "\n")
_REDIRECT = re.compile(r"\d*(?:<<<|<<-?|>>|>\||>&|<&|<>|>|<)|&>>?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_SPECIAL = "0123456789@*#?$!-"
_ARRAY = re.compile(r"[A-Za-z_]\w*\+?=")
_ANSI = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "a": "\a", "e": "\x1b"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a word.

    kind: text as it is; "variable", the inside of `${…}`; "command", the inside of `$(…)`; "sum", of `$((…))`
    """

    kind: Literal["text", "variable", "command", "sum"]
    text: str
    quoted: bool
    line: int


@dataclass(frozen=True, slots=True)
class ShWord:
    """A word, not filled in."""

    pieces: tuple[Piece, ...]
    line: int

    @property
    def plain(self) -> str | None:
        """The text, if nothing in the word is quoted or filled in: only such words are keywords."""
        if len(self.pieces) == 1 and self.pieces[0].kind == "text" and not self.pieces[0].quoted:
            return self.pieces[0].text
        return None


@dataclass(frozen=True, slots=True)
class ArrayValue:
    """`name=(…)` or `name+=(…)`."""

    name: str
    words: tuple[ShWord, ...]
    more: bool
    line: int


@dataclass(frozen=True, slots=True)
class Sign:
    """An operator, or the end of a line. `comment`: a comment stands before the end of the line."""

    text: str
    line: int
    comment: bool = False


@dataclass(slots=True)
class Redirect:
    """`> file`, `<<< word`; of a here-document the text is in `word`."""

    sign: str
    word: ShWord
    line: int


Token = ShWord | ArrayValue | Sign | Redirect


def tokens_of(text: str, file: str, line: int = 1) -> list[Token]:
    """Return the tokens of a script. RecipeError if a quote or bracket isn't closed."""
    return _Lexer(text, file, line, 0).all()


class _Lexer(Cursor):
    def __init__(self, text: str, file: str, line: int, depth: int, at: int = 0) -> None:
        super().__init__(text, line, at)
        self._file = file
        self._depth = depth
        self._start = at
        self._waiting: list[tuple[Redirect, str, bool, bool]] = []  # here-documents: end, with tabs, as it is
        if depth > _MAX_DEPTH:
            raise unclosed(f"a $( ) within more than {_MAX_DEPTH} others", line, file)

    def all(self) -> list[Token]:
        found: list[Token] = []
        comment = False
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t":
                self._at += 1
            elif self._text.startswith("\\\n", self._at):
                self._move(self._at + 2)
            elif char == "#":
                self._to("\n")
                comment = True
            elif match := _REDIRECT.match(self._text, self._at):
                found.append(self._redirect(match))
            elif sign := next((it for it in _SIGNS if self._text.startswith(it, self._at)), None):
                found.append(Sign(sign, self._line, comment))
                self._at += len(sign)
                comment = False
                if sign == "\n":
                    self._line += 1
                    self._documents()
            else:
                found.append(self._word())
        self._documents()
        return found

    def _redirect(self, match: re.Match[str]) -> Redirect:
        sign, line = match[0].lstrip("0123456789"), self._line
        self._at = match.end()
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1
        found = self._word()
        word = found if isinstance(found, ShWord) else ShWord((), line)
        redirect = Redirect(sign, word, line)
        if sign in ("<<", "<<-"):
            end = "".join(piece.text for piece in word.pieces)
            as_is = any(piece.quoted for piece in word.pieces)
            self._waiting.append((redirect, end, sign == "<<-", as_is))
        return redirect

    def _documents(self) -> None:
        """Read the here-documents that begin behind this line."""
        for redirect, end, tabs, as_is in self._waiting:
            line, body = self._line, []
            while self._at < len(self._text):
                stop = self._text.find("\n", self._at)
                content = self._text[self._at : stop if stop >= 0 else None]
                self._at = stop + 1 if stop >= 0 else len(self._text)
                self._line += 1
                if (content.lstrip("\t") if tabs else content) == end:
                    break
                body.append(content.lstrip("\t") if tabs else content)
            text = "".join(f"{it}\n" for it in body)
            if as_is:
                pieces: tuple[Piece, ...] = (Piece("text", text, True, line),)
            else:
                pieces = tuple(_Lexer(text, self._file, line, self._depth + 1).quoted())
            redirect.word = ShWord(pieces, line)
        self._waiting = []

    def _word(self) -> ShWord | ArrayValue:
        line, pieces = self._line, list[Piece]()
        plain: list[str] = []

        def close() -> None:
            if plain:
                pieces.append(Piece("text", "".join(plain), False, self._line))
                plain.clear()

        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t\n;&|()<>":
                if char == "(" and not pieces and _ARRAY.fullmatch("".join(plain)):
                    return self._array("".join(plain), line)
                break
            if char == "\\":
                following = self._text[self._at + 1 : self._at + 2]
                self._at += 2
                if following == "\n":
                    self._line += 1
                else:
                    close()
                    pieces.append(Piece("text", following, True, self._line))
            elif char == "'":
                close()
                pieces.append(self._single())
            elif char == '"':
                close()
                pieces += self._double()
            elif self._text.startswith("$'", self._at):
                close()
                pieces.append(self._ansi())
            elif self._text.startswith('$"', self._at):
                self._at += 1
            elif char in "$`" and (piece := self._filled(quoted=False)) is not None:
                close()
                pieces.append(piece)
            else:
                plain.append(char)
                self._at += 1
        close()
        return ShWord(tuple(pieces), line)

    def _array(self, start: str, line: int) -> ArrayValue:
        self._at += 1
        self._depth += 1  # a list within a list is none in a shell, and read as one here
        if self._depth > _MAX_DEPTH:
            raise unclosed(f"the list {start}( within more than {_MAX_DEPTH} others", line, self._file)
        words: list[ShWord] = []
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\n":
                self._line += self._text[self._at] == "\n"
                self._at += 1
            char = self._text[self._at : self._at + 1]
            if not char:
                raise unclosed(f"the list {start}(", line, self._file)
            if char == ")":
                self._at += 1
                self._depth -= 1
                name = start.removesuffix("=").removesuffix("+")
                return ArrayValue(name, tuple(words), start.endswith("+="), line)
            if char == "#":
                self._to("\n")
            elif self._text.startswith("\\\n", self._at):
                self._move(self._at + 2)
            else:
                before = self._at
                word = self._word()
                if isinstance(word, ShWord):
                    words.append(word)
                if self._at == before:  # a sign that can't stand in a list
                    raise unclosed(f"the list {start}(", line, self._file)

    def _single(self) -> Piece:
        line = self._line
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise unclosed("the quotation '", line, self._file)
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        self._line += text.count("\n")
        return Piece("text", text, True, line)

    def _ansi(self) -> Piece:
        line, parts = self._line, list[str]()
        self._at += 2
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "'":
                self._at += 1
                return Piece("text", "".join(parts), True, line)
            if char == "\\":
                following = self._text[self._at + 1 : self._at + 2]
                parts.append(_ANSI.get(following, f"\\{following}"))
                self._at += 2
            else:
                parts.append(char)
                self._line += char == "\n"
                self._at += 1
        raise unclosed("the quotation $'", line, self._file)

    def _double(self) -> list[Piece]:
        line = self._line
        self._at += 1
        pieces = self.quoted('"')
        if self._at >= len(self._text):
            raise unclosed('the quotation "', line, self._file)
        self._at += 1
        return pieces or [Piece("text", "", True, line)]

    def quoted(self, end: str = "") -> list[Piece]:
        """Read what stands in double quotes, up to `end`, or in a here-document."""
        pieces: list[Piece] = []
        parts: list[str] = []
        line = self._line
        while self._at < len(self._text) and (not end or self._text[self._at] != end):
            char = self._text[self._at]
            if char == "\\" and self._text[self._at + 1 : self._at + 2] in ("$", "`", '"', "\\", "\n"):
                following = self._text[self._at + 1]
                if following == "\n":
                    self._line += 1
                elif following == '"' and not end:
                    parts.append('\\"')
                else:
                    parts.append(following)
                self._at += 2
            elif char in "$`" and (piece := self._filled(quoted=True)) is not None:
                if parts:
                    pieces.append(Piece("text", "".join(parts), True, line))
                pieces.append(piece)
                parts, line = [], self._line
            else:
                parts.append(char)
                self._line += char == "\n"
                self._at += 1
        if parts:
            pieces.append(Piece("text", "".join(parts), True, line))
        return pieces

    def _filled(self, *, quoted: bool) -> Piece | None:
        """Read a variable or a substitution; return None if the `$` is only a `$`."""
        text, line = self._text, self._line
        if text[self._at] == "`":
            end = self._at + 1
            while end < len(text) and text[end] != "`":
                end += 2 if text[end] == "\\" else 1
            if end >= len(text):
                raise unclosed("the substitution `", line, self._file)
            inside = text[self._at + 1 : end].replace("\\`", "`").replace("\\\\", "\\")
            self._move(end + 1)
            return Piece("command", inside, quoted, line)
        if text.startswith("$((", self._at) and (end := text.find("))", self._at)) > 0:
            inside = text[self._at + 3 : end]
            self._move(end + 2)
            return Piece("sum", inside, quoted, line)
        if text.startswith("$(", self._at):
            inner = _Lexer(text, self._file, line, self._depth + 1, self._at + 2)
            end = inner.to_closing(line)
            inside = text[self._at + 2 : end]
            self._move(end + 1)
            return Piece("command", inside, quoted, line)
        if text.startswith("${", self._at):
            end = self._brace(self._at + 2, line)
            inside = text[self._at + 2 : end]
            self._move(end + 1)
            return Piece("variable", inside, quoted, line)
        if match := _NAME.match(text, self._at + 1):
            self._at = match.end()
            return Piece("variable", match[0], quoted, line)
        if text[self._at + 1 : self._at + 2] and text[self._at + 1] in _SPECIAL:
            self._at += 2
            return Piece("variable", text[self._at - 1], quoted, line)
        return None

    def to_closing(self, line: int) -> int:
        """Return the place of the `)` that closes the substitution in which this text begins."""
        depth = 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == ")" and not depth:
                return self._at
            if char in "()":
                depth += 1 if char == "(" else -1
                self._at += 1
            elif char == "\n":
                self._at += 1
                self._line += 1
                self._documents()
            elif char == "#" and (self._at == self._start or self._text[self._at - 1] in " \t\n;|&("):
                self._to("\n")
            elif match := _REDIRECT.match(self._text, self._at):
                self._redirect(match)
            else:
                before = self._at
                self._word()
                self._at += self._at == before
        raise unclosed("the substitution $(", line, self._file)

    def _brace(self, at: int, line: int) -> int:
        """Return the place of the `}` that closes `${`."""
        depth = 0
        while at < len(self._text):
            char = self._text[at]
            if char == "\\":
                at += 1
            elif char == "}" and not depth:
                return at
            elif char in "{}":
                depth += 1 if char == "{" else -1
            at += 1
        raise unclosed("the variable ${", line, self._file)
