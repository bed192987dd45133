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
from collections.abc import Iterator, Sequence
from dataclasses import replace

from quantrecipe.exchange.scripts.call import (
    DEEPEST,
    NOT_A_MIX,
    Follower,
    Script,
    Word,
    program_name,
)
from quantrecipe.exchange.scripts.powershell_words import VARIABLE, Token, tokens_of

__all__ = ["read_powershell"]


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
            statement: list[Token] = []
            for token in self._tokens(text, line):
                if token.kind == "sign" and token.text in ("\n", ";", "&&", "||"):
                    if token.text == "\n" and statement and statement[-1].text in ("|", ",", "=", "+="):
                        continue
                    self._statement(statement, token)
                    statement = []
                else:
                    statement.append(token)
            self._statement(statement, None)

    def _tokens(self, text: str, line: int) -> Iterator[Token]:
        return tokens_of(text, line, self.file, self.filled)

    def _statement(self, tokens: Sequence[Token], end: Token | None) -> None:
        self.step()
        if not tokens:
            return
        self.step(len(tokens))
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

    def _loop(self, head: Token, body: Token) -> None:
        match = re.fullmatch(r"\(\s*\$(\w+)\s+in\s+(.*)", head.text, re.IGNORECASE | re.DOTALL)
        values = self._value(list(self._tokens(match[2], head.line))) if match else None
        name = match[1].lower() if match else ""
        if values is None:
            self.values.pop(name, None)
            self.run(body.text[1:], body.line)
            return
        for value in values:
            self.values[name] = [value]
            self.run(body.text[1:], body.line)

    def _pipeline(self, tokens: Sequence[Token], blocks: Sequence[Token], end: Token | None) -> None:
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

    def _words(self, tokens: Sequence[Token]) -> list[Word]:
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

    def _assign(self, target: Token, tokens: Sequence[Token], *, more: bool) -> None:
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

    def _value(self, tokens: Sequence[Token]) -> list[Word] | None:
        """Return the values of an expression; None if it is more than lists and `-join`."""
        if self.depth >= DEEPEST:
            return None
        self.depth += 1
        found = self._values(tokens)
        self.depth -= 1
        return found

    def _values(self, tokens: Sequence[Token]) -> list[Word] | None:
        found: list[Word] = []
        for place, token in enumerate(tokens):
            if token.kind == "sign" and token.text in (",", "\n", ";"):
                continue
            if token.kind == "group" and token.text.startswith(("(", "@(")):
                inner = self._value(list(self._tokens(token.text.lstrip("@")[1:], token.line)))
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

        made = VARIABLE.sub(value, text)
        missing += re.findall(r"\$\([^)]*\)?", made)
        return Word(text=made, line=line, missing=tuple(missing))


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
