"""The pieces of a line of PowerShell: words and strings with the values of their variables, signs, and groups.

Origin of the rules: Microsoft's about_Parsing and about_Quoting_Rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from quantrecipe.exchange.scripts.call import Cursor, Word, unclosed

__all__ = ["VARIABLE", "Token", "tokens_of"]

VARIABLE = re.compile(r"\$(?:\{([^}]+)\}|((?:env:|script:|global:)?\w+))", re.IGNORECASE)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
_SIGNS = ("&&", "||", "+=", "\n", ";", "|", ",", "&")
_REDIRECT = re.compile(r"\d?>>?(?:&\d|\s*[^\s;|]+)")
_END = " \t\n;|&(){},"
"""What ends a word."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a line.

    kind: word, sign, string, or group: what stands in brackets, of which `text` is the opening and the inside
    """

    kind: str
    text: str
    line: int
    word: Word | None = None


def tokens_of(text: str, line: int, file: str, fill: Callable[[str, int], Word]) -> Iterator[Token]:
    """Yield the tokens of a text. RecipeError if a quote or bracket isn't closed.

    A statement may set what the next one uses, so each token is read when it is asked for.

    fill: returns a text with the values of its variables, by the text and its line
    """
    return _Lexer(text, line, file, fill).tokens()


class _Lexer(Cursor):
    def __init__(self, text: str, line: int, file: str, fill: Callable[[str, int], Word]) -> None:
        super().__init__(text, line)
        self._file = file
        self._fill = fill

    def tokens(self) -> Iterator[Token]:
        before: Token | None = None
        while self._at < len(self._text):
            if (token := self._next(before)) is not None:
                yield token
                before = token

    def _next(self, before: Token | None) -> Token | None:
        """Read what stands here; return None for what is no token, such as a comment."""
        text, char, line = self._text, self._text[self._at], self._line
        if char in " \t\r)}":
            self._move(self._at + 1)
        elif text.startswith("`\n", self._at):
            self._move(self._at + 2)
        elif text.startswith("<#", self._at):
            self._to("#>", behind=2)
        elif char == "#":
            self._to("\n")
        elif match := _REDIRECT.match(text, self._at):
            self._move(match.end())
        elif text.startswith(("@'\n", '@"\n'), self._at):
            return self._here(line)
        elif char in "'\"":
            begin = self._at
            word = self._string(line)
            return Token("string", self._text[begin : self._at], line, word)
        elif char in "({" or text.startswith(("@(", "$(", "@{"), self._at):
            return self._group(line)
        elif sign := next((it for it in _SIGNS if text.startswith(it, self._at)), ""):
            self._move(self._at + len(sign))
            return Token("sign", sign, line)
        elif char == "=" and (text[self._at - 1] in " \t" or (before and before.text[:1] in "$[")):
            self._move(self._at + 1)
            return Token("sign", "=", line)
        else:
            return self._bare(line, first=before is None or before.kind == "sign")
        return None

    def _bare(self, line: int, *, first: bool) -> Token:
        """Read a word that doesn't begin with a quote; it may have quotes within."""
        begin, made = self._at, list[str]()
        missing: list[str] = []
        text = self._text
        variable = re.compile(r"(?:\[[^]\s]*\])?\$[\w:]+").match(text, begin)
        if first and variable and re.match(r"\s*\+?=", text[variable.end() : variable.end() + 20]):
            self._move(variable.end())
            return Token("word", variable[0], line, Word(text=variable[0], line=line))
        while self._at < len(text) and text[self._at] not in _END:
            char = text[self._at]
            if text.startswith("`\n", self._at):
                break
            if char == "`":
                made.append(text[self._at + 1 : self._at + 2])
                self._at += 2
            elif char in "'\"" and self._at > begin:
                word = self._string(line)
                made.append(word.text)
                missing += word.missing
            elif match := VARIABLE.match(text, self._at):
                word = self._fill(match[0], line)
                made.append(word.text)
                missing += word.missing
                self._at = match.end()
            else:
                made.append(char)
                self._at += 1
        return Token(
            "word", text[begin : self._at], line, Word(text="".join(made), line=line, missing=tuple(missing))
        )

    def _string(self, line: int) -> Word:
        sign, text = self._text[self._at], self._text
        at, made = self._at + 1, list[str]()
        hidden = False
        while at < len(text):
            char = text[at]
            if char == sign and text[at + 1 : at + 2] == sign:
                made.append(sign)
                at += 2
            elif char == sign:
                self._move(at + 1)
                content = "".join(made)
                word = Word(text=content, line=line) if sign == "'" else self._fill(content, line)
                if hidden:
                    word = replace(word, text=word.text.replace("\ue024", "$"))
                return word
            elif char == "`" and sign == '"':
                following = text[at + 1 : at + 2]
                hidden |= following == "$"
                made.append("\ue024" if following == "$" else _ESCAPES.get(following, following))
                at += 2
            else:
                made.append(char)
                at += 1
        raise unclosed(f"the quotation {sign}", line, self._file)

    def _here(self, line: int) -> Token:
        sign = self._text[self._at + 1]
        end = self._text.find(f"\n{sign}@", self._at + 2)
        if end < 0:
            raise unclosed(f"the text @{sign}", line, self._file)
        content = self._text[self._at + 3 : end]
        self._move(end + 3)
        word = Word(text=content, line=line + 1) if sign == "'" else self._fill(content, line + 1)
        return Token("string", "@", line, word)

    def _group(self, line: int) -> Token:
        start = self._text[self._at : self._at + 2] if self._text[self._at] in "@$" else self._text[self._at]
        at, depth, quote = self._at + len(start), 1, ""
        opening = start[-1]
        closing = ")" if opening == "(" else "}"
        begin = at
        while at < len(self._text):
            char = self._text[at]
            if quote:
                if char == "`" and quote == '"':
                    at += 1
                elif char == quote:
                    quote = ""
            elif char in "'\"":
                quote = char
            elif char == "#" and self._text[at - 1] in " \t\n":
                end = self._text.find("\n", at)
                at = len(self._text) if end < 0 else end
                continue
            elif char == "`":
                at += 1
            elif char in (opening, closing):
                depth += 1 if char == opening else -1
                if not depth:
                    inside = self._text[begin:at]
                    self._move(at + 1)
                    return Token("group", ("{" if closing == "}" else start) + inside, line)
            at += 1
        raise unclosed(f"the bracket {start}", line, self._file)
