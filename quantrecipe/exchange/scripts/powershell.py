"""Lines of PowerShell, followed without running anything.

    $quants = 'Q4_K_M', 'Q5_K_M'
    foreach ($q in $quants) {
      & "C:\\llama.cpp\\llama-quantize.exe" `
        --tensor-type attn_v=q8_0 `
        "$models\\in.gguf" "$models\\$q.gguf" $q
    }

A backslash is a backslash; the backtick escapes. Origin of the rules: Microsoft's about_Parsing, about_Quoting_Rules,
about_Arrays and about_Splatting.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantrecipe.exchange.scripts.call import (
    DEEPEST,
    NOT_A_MIX,
    Cursor,
    Follower,
    Script,
    Word,
    program_name,
    unclosed,
)

__all__ = ["read_powershell"]

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
_VARIABLE = re.compile(r"\$(?:\{([^}]+)\}|((?:env:|script:|global:)?\w+))", re.IGNORECASE)
_SIGNS = ("&&", "||", "+=", "\n", ";", "|", ",", "&")
_END = " \t\n;|&(){},"


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a line.

    kind: word, sign, string, or group: what stands in brackets, of which `text` is the opening and the inside
    """

    kind: str
    text: str
    line: int
    word: Word | None = None


def read_powershell(text: str, file: str) -> Script:
    """Follow a script. RecipeError if a quote or bracket isn't closed."""
    shell = _PowerShell(file)
    shell.run(text, 1)
    texts = {name: it[0].text for name, it in shell.values.items() if len(it) == 1 and not it[0].missing}
    return shell.script("powershell", texts)


class _PowerShell(Follower):
    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.values: dict[str, list[Word]] = {}

    def run(self, text: str, line: int) -> None:
        with self.deeper():
            statement: list[_Token] = []
            for token in _Lexer(text, line, self).tokens():
                if token.kind == "sign" and token.text in ("\n", ";", "&&", "||"):
                    if token.text == "\n" and statement and statement[-1].text in ("|", ",", "=", "+="):
                        continue
                    self._statement(statement, token)
                    statement = []
                else:
                    statement.append(token)
            self._statement(statement, None)

    def _statement(self, tokens: Sequence[_Token], end: _Token | None) -> None:
        self.step()
        if not tokens:
            return
        first = tokens[0]
        lowered = first.text.lower() if first.kind == "word" else ""
        blocks = [token for token in tokens if token.kind == "group" and token.text.startswith("{")]
        if lowered == "foreach" and len(tokens) > 1 and blocks:
            self._loop(tokens[1], blocks[0])
        elif lowered in ("if", "elseif", "else", "switch", "while", "for", "do", "try", "catch", "finally"):
            self.branches += 1
            for block in blocks:
                self.run(block.text[1:], block.line)
            self.branches -= 1
        elif lowered in ("function", "filter") and blocks:
            self.run(blocks[0].text[1:], blocks[0].line)
        elif len(tokens) > 1 and tokens[1].kind == "sign" and tokens[1].text in ("=", "+="):
            self._assign(first, tokens[2:], more=tokens[1].text == "+=")
        else:
            self._pipeline(tokens, blocks, end)

    def _loop(self, head: _Token, body: _Token) -> None:
        match = re.fullmatch(r"\(\s*\$(\w+)\s+in\s+(.*)", head.text, re.IGNORECASE | re.DOTALL)
        values = self._value(_Lexer(match[2], head.line, self).tokens()) if match else None
        name = match[1].lower() if match else ""
        if values is None:
            self.values.pop(name, None)
            self.run(body.text[1:], body.line)
            return
        for value in values:
            self.values[name] = [value]
            self.run(body.text[1:], body.line)

    def _pipeline(self, tokens: Sequence[_Token], blocks: Sequence[_Token], end: _Token | None) -> None:
        pipes = [place for place, token in enumerate(tokens) if token.kind == "sign" and token.text == "|"]
        if pipes and blocks and tokens[pipes[0] + 1].text.lower() in ("foreach-object", "%", "foreach"):
            values = self._value(tokens[: pipes[0]])
            if values is None:
                self.values.pop("_", None)
                self.run(blocks[-1].text[1:], blocks[-1].line)
            for value in values or ():
                self.values["_"] = [value]
                self.run(blocks[-1].text[1:], blocks[-1].line)
            return
        command = list(tokens[: pipes[0]] if pipes else tokens)
        if command and command[0].kind == "sign" and command[0].text in ("&", "."):
            command = command[1:]
        words = self._words(command)
        if not words:
            return
        name = program_name(words[0].text)
        if name in ("start-process", "saps", "start"):
            words = _started(words)
            name = program_name(words[0].text) if words else ""
        cut = ""
        if words and end is not None and words[-1].text == " ":
            cut = (
                f"a space stands behind the ` at the end of line {words[-1].line}, so the command ends there"
            )
        if self.takes_call(words, cut):
            return
        if name not in NOT_A_MIX and not name.startswith("$") and command[0].kind == "word":
            self.others.append((name, words[0].line))

    def _words(self, tokens: Sequence[_Token]) -> list[Word]:
        """Return the arguments; of lists the items one by one, as programs get them."""
        words: list[Word] = []
        for token in tokens:
            if token.kind == "group" and token.text[:1] in "(@$":
                shown = f"{token.text[:40]})"
                values = self._value([token])
                words += values or [Word(text=shown, line=token.line, missing=(shown,))]
            elif token.word is not None:
                text = token.word.text
                splat = re.fullmatch(r"@(\w+)", text) if token.kind == "word" else None
                whole = re.fullmatch(r"\$(\w+)", token.text) if token.kind == "word" else None
                if (match := splat or whole) and match[1].lower() in self.values:
                    known = self.values[match[1].lower()]
                    words += known if len(known) > 1 else [replace(it, line=token.line) for it in known]
                elif splat:
                    words.append(replace(token.word, missing=(text,)))
                else:
                    words.append(token.word)
        return words

    def _assign(self, target: _Token, tokens: Sequence[_Token], *, more: bool) -> None:
        match = re.fullmatch(r"(?:\[[^]]*\])?\$((?:env:|script:|global:)?\w+)", target.text, re.IGNORECASE)
        if match is None:
            return
        name = match[1].lower()
        values = self._value(tokens)
        for token in tokens:
            if token.kind == "string" and token.word is not None and "\n" in token.word.text:
                self.notes.append((token.word.line, token.word.text))
        if values is None or (self.branches and self.values.get(name, values) != values and not more):
            shown = f"${match[1]}"
            values = [Word(text=shown, line=target.line, missing=(shown,))]
        if more and name in self.values:
            values = [*self.values[name], *values]
            if len(values) == 2 and all(token.kind == "string" for token in tokens):
                values = [replace(values[0], text=values[0].text + values[1].text)]
        self.values[name] = values

    def _value(self, tokens: Sequence[_Token]) -> list[Word] | None:
        """Return the values of an expression; None if it is more than lists and `-join`."""
        if self.depth >= DEEPEST:
            return None
        self.depth += 1
        found = self._values(tokens)
        self.depth -= 1
        return found

    def _values(self, tokens: Sequence[_Token]) -> list[Word] | None:
        found: list[Word] = []
        for place, token in enumerate(tokens):
            if token.kind == "sign" and token.text in (",", "\n", ";"):
                continue
            if token.kind == "group" and token.text.startswith(("(", "@(")):
                inner = self._value(_Lexer(token.text.lstrip("@")[1:], token.line, self).tokens())
                if inner is None:
                    return None
                found += inner
            elif token.kind == "word" and token.text.lower() == "-join" and place + 2 == len(tokens):
                by = tokens[place + 1].word
                if by is None:
                    return None
                missing = tuple(name for it in found for name in it.missing)
                return [Word(text=by.text.join(it.text for it in found), line=token.line, missing=missing)]
            elif token.kind == "string" or (
                token.kind == "word" and re.fullmatch(r"\$\w+|[\d.]+", token.text)
            ):
                found += self._words([token])
            else:
                return None
        return found

    def filled(self, text: str, line: int) -> Word:
        """Return the text with the values of its variables."""
        missing: list[str] = []

        def value(match: re.Match[str]) -> str:
            known = self.values.get((match[1] or match[2]).lower())
            if known is None or len(known) != 1 or known[0].missing:
                missing.append(match[0])
                return match[0]
            return known[0].text

        made = _VARIABLE.sub(value, text)
        missing += re.findall(r"\$\([^)]*\)?", made)
        return Word(text=made, line=line, missing=tuple(missing))


class _Lexer(Cursor):
    def __init__(self, text: str, line: int, shell: _PowerShell) -> None:
        super().__init__(text, line)
        self._shell = shell

    def tokens(self) -> list[_Token]:
        found: list[_Token] = []
        text = self._text
        while self._at < len(text):
            char, line = text[self._at], self._line
            if char in " \t\r":
                self._at += 1
            elif text.startswith("`\n", self._at):
                self._move(self._at + 2)
            elif text.startswith("<#", self._at):
                self._to("#>", behind=2)
            elif char == "#":
                self._to("\n")
            elif match := re.compile(r"\d?>>?(?:&\d|\s*[^\s;|]+)").match(text, self._at):
                self._move(match.end())  # a redirection
            elif text.startswith(("@'\n", '@"\n'), self._at):
                found.append(self._here(line))
            elif char in "'\"":
                found.append(self._string(line))
            elif char in "({" or text.startswith(("@(", "$(", "@{"), self._at):
                found.append(self._group(line))
            elif sign := next((it for it in _SIGNS if text.startswith(it, self._at)), ""):
                found.append(_Token("sign", sign, line))
                self._move(self._at + len(sign))
            elif char == "=" and (text[self._at - 1] in " \t" or (found and found[-1].text[:1] in "$[")):
                found.append(_Token("sign", "=", line))
                self._move(self._at + 1)
            elif char in ")}":
                self._move(self._at + 1)
            else:
                found.append(self._bare(line, first=not found or found[-1].kind == "sign"))
        return found

    def _bare(self, line: int, *, first: bool) -> _Token:
        """Read a word that doesn't begin with a quote; it may have quotes within."""
        begin, made = self._at, list[str]()
        missing: list[str] = []
        text = self._text
        variable = re.compile(r"(?:\[[^]\s]*\])?\$[\w:]+").match(text, begin)
        if first and variable and re.match(r"\s*\+?=", text[variable.end() : variable.end() + 20]):
            self._move(variable.end())
            return _Token("word", variable[0], line, Word(text=variable[0], line=line))
        while self._at < len(text) and text[self._at] not in _END:
            char = text[self._at]
            if text.startswith("`\n", self._at):
                break
            if char == "`":
                made.append(text[self._at + 1 : self._at + 2])
                self._at += 2
            elif char in "'\"" and self._at > begin:
                word = self._string(line).word
                assert word is not None  # strings have words
                made.append(word.text)
                missing += word.missing
            elif match := _VARIABLE.match(text, self._at):
                word = self._shell.filled(match[0], line)
                made.append(word.text)
                missing += word.missing
                self._at = match.end()
            else:
                made.append(char)
                self._at += 1
        return _Token(
            "word", text[begin : self._at], line, Word(text="".join(made), line=line, missing=tuple(missing))
        )

    def _string(self, line: int) -> _Token:
        sign, text = self._text[self._at], self._text
        begin = self._at
        at, made = begin + 1, list[str]()
        hidden = False
        while at < len(text):
            char = text[at]
            if char == sign and text[at + 1 : at + 2] == sign:
                made.append(sign)
                at += 2
            elif char == sign:
                self._move(at + 1)
                content = "".join(made)
                word = Word(text=content, line=line) if sign == "'" else self._shell.filled(content, line)
                if hidden:
                    word = replace(word, text=word.text.replace("\ue024", "$"))
                return _Token("string", text[begin : at + 1], line, word)
            elif char == "`" and sign == '"':
                following = text[at + 1 : at + 2]
                hidden |= following == "$"
                made.append("\ue024" if following == "$" else _ESCAPES.get(following, following))
                at += 2
            else:
                made.append(char)
                at += 1
        raise unclosed(f"the quotation {sign}", line, self._shell.file)

    def _here(self, line: int) -> _Token:
        sign = self._text[self._at + 1]
        end = self._text.find(f"\n{sign}@", self._at + 2)
        if end < 0:
            raise unclosed(f"the text @{sign}", line, self._shell.file)
        content = self._text[self._at + 3 : end]
        self._move(end + 3)
        word = Word(text=content, line=line + 1) if sign == "'" else self._shell.filled(content, line + 1)
        return _Token("string", "@", line, word)

    def _group(self, line: int) -> _Token:
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
                    return _Token("group", ("{" if closing == "}" else start) + inside, line)
            at += 1
        raise unclosed(f"the bracket {start}", line, self._shell.file)


def _started(words: Sequence[Word]) -> list[Word]:
    """Return what Start-Process starts: its program and its arguments."""
    program: list[Word] = []
    args: list[Word] = []
    target = program
    for word in words[1:]:
        lowered = word.text.lower()
        if lowered in ("-filepath", "-argumentlist", "-args"):
            target = program if lowered == "-filepath" else args
        elif lowered in ("-wait", "-nonewwindow", "-passthru", "-verb", "-workingdirectory"):
            target = []
        elif target is program and program:
            args.append(word)
        else:
            target.append(word)
    if len(args) == 1 and " " in args[0].text:  # one text with all arguments in it
        found = re.findall(r'"[^"]*"|\S+', args[0].text)
        args = [replace(args[0], text=it.strip('"')) for it in found]
    return [*program[:1], *args]
