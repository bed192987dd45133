"""A script of sh or bash, followed as the shell would, without running anything.

Variables, lists, loops over words, functions and here-documents are filled in; substitutions where they are made of
`echo`, `cat` and filters. What isn't known stays as it is written and is noted in the word that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.scripts.call import NOT_A_MIX, Script, Word, program_name
from quantrecipe.exchange.scripts.filters import FILTERS
from quantrecipe.exchange.scripts.sh_expansion import Expander
from quantrecipe.exchange.scripts.sh_words import ArrayValue, Piece, Redirect, ShWord, Sign, Token, tokens_of
from quantrecipe.wording import shortened

__all__ = ["read_sh"]

_MOST_TEXT = 4 << 20
"""Characters of all values together: a script may double one in each round of a loop."""
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[([^]]*)\])?(\+?)=")
_KEYED = re.compile(r"\[([^]]*)\]=(.*)", re.DOTALL)
_SKIPPED = frozenset(
    {"then", "else", "elif", "fi", "do", "done", "{", "}", "!", "esac", "if", "while", "until", "time"}
)
_OPENS, _CLOSES = frozenset({"for", "while", "until", "select"}), frozenset({"done"})
_ASSIGNING = frozenset({"export", "declare", "local", "readonly", "typeset"})


def read_sh(text: str, file: str, read_file: Callable[[str], str | None]) -> Script:
    """Follow a script.

    read_file: what is in a file beside the script; None where that isn't known
    """
    shell = _Shell(file, read_file)
    shell.run(tokens_of(text, file))
    shell.finish()
    texts = {name: it.text for name, it in shell.values.items() if not it.missing}
    return shell.script("sh", texts, shell.files)


class _Shell(Expander):
    def __init__(self, file: str, read_file: Callable[[str], str | None]) -> None:
        super().__init__(file)
        self._read_file = read_file
        self._functions: dict[str, list[Token]] = {}
        self._called: set[str] = set()
        self._spent = 0
        self.files: dict[str, str] = {}

    def finish(self) -> None:
        """Follow the functions that were never called: a person may call them by hand."""
        for name in [it for it in self._functions if it not in self._called]:
            self.run(self._functions[name])

    def run(self, tokens: Sequence[Token]) -> str | None:
        """Follow the commands; return what they print, None if that isn't known."""
        printed: str | None = ""
        place = 0
        with self.deeper("functions or substitutions"):
            while place < len(tokens):
                place, made = self._statement(tokens, place)
                printed = None if printed is None or made is None else printed + made
        return printed

    def _statement(self, tokens: Sequence[Token], place: int) -> tuple[int, str | None]:
        """Follow what begins here; return where the next statement begins, and what this one prints."""
        token = tokens[place]
        self.step()
        if isinstance(token, Sign):
            self.maybe = token.text in ("&&", "||")
            if token.text in (";;", ";&", ";;&"):
                return self._to_sign(tokens, place + 1, ")"), ""
            return place + 1, ""
        keyword = _plain(tokens, place)
        if keyword in ("for", "select"):
            return self._loop(tokens, place)
        if keyword == "case":
            self.branches += 1
            return self._to_sign(tokens, place, ")"), ""
        if keyword == "function" or _is_function(tokens, place):
            return self._define(tokens, place + (keyword == "function"))
        if keyword in _SKIPPED:
            self.branches += (keyword in ("if", "while", "until")) - (keyword in ("fi", "done", "esac"))
            self.branches = max(self.branches, 0)
            return place + 1, ""
        return self._pipeline(tokens, place)

    def _to_sign(self, tokens: Sequence[Token], place: int, sign: str) -> int:
        """Return the place behind the next sign of this kind, or of the next `esac`."""
        while place < len(tokens):
            token = tokens[place]
            if isinstance(token, ShWord) and token.plain == "esac":
                return place
            place += 1
            if isinstance(token, Sign) and token.text == sign:
                return place
        return place

    def _loop(self, tokens: Sequence[Token], place: int) -> tuple[int, str | None]:
        name = _plain(tokens, place + 1)
        at = place + 2
        values: list[Word] | None = None
        if _plain(tokens, at) == "in":
            values = []
            while (at := at + 1) < len(tokens) and isinstance(item := tokens[at], ShWord):
                values += self.expanded(item)
        elif name is not None:
            values = self.args
        while at < len(tokens) and _plain(tokens, at) != "do":
            at += 1
        begin, depth = at + 1, 1
        while (at := at + 1) < len(tokens):
            word = _plain(tokens, at) if _commands(tokens, at) else None
            depth += (word in _OPENS) - (word in _CLOSES)
            if not depth:
                break
        body = tokens[begin:at]
        if name is None or values is None:
            if name is not None:
                self.values.pop(name, None)
            return at + 1, self.run(body) and None
        for value in values:
            self.values[name] = value
            self.run(body)
        return at + 1, None

    def _define(self, tokens: Sequence[Token], place: int) -> tuple[int, str | None]:
        name = _plain(tokens, place)
        at, depth = place + 1, 0
        begin = None
        while at < len(tokens):
            word = _plain(tokens, at)
            if word == "{":
                depth += 1
                begin = at + 1 if begin is None else begin
            elif word == "}":
                depth -= 1
                if not depth:
                    break
            at += 1
        if name and begin is not None:
            self._functions[name] = list(tokens[begin:at])
        return at + 1, ""

    def _pipeline(self, tokens: Sequence[Token], place: int) -> tuple[int, str | None]:
        """Follow commands that are joined by `|`."""
        printed: str | None = ""
        first = True
        while True:
            words: list[ShWord | ArrayValue] = []
            redirects: list[Redirect] = []
            while place < len(tokens) and not isinstance(tokens[place], Sign):
                token = tokens[place]
                if isinstance(token, Redirect):
                    redirects.append(token)
                elif isinstance(token, ShWord | ArrayValue):
                    words.append(token)
                place += 1
            sign = tokens[place] if place < len(tokens) else None
            printed = self._command(words, redirects, printed, first=first, sign=sign)
            first = False
            if not isinstance(sign, Sign) or sign.text not in ("|", "|&"):
                break
            place += 1
            while place < len(tokens) and isinstance(end := tokens[place], Sign) and end.text == "\n":
                place += 1
            if _plain(tokens, place) in ("while", "for", "if", "{"):
                return place, None
        return place, printed

    def _command(
        self,
        parts: Sequence[ShWord | ArrayValue],
        redirects: Sequence[Redirect],
        given: str | None,
        *,
        first: bool,
        sign: Token | None,
    ) -> str | None:
        """Follow one command; return what it prints into a pipe, None if that isn't known."""
        parts = list(parts)
        prefix: list[ShWord | ArrayValue] = []
        while parts and (isinstance(parts[0], ArrayValue) or _assigns(parts[0])):
            prefix.append(parts.pop(0))
        if not parts:
            for part in prefix:
                self._assign(part)
            return ""
        name = parts[0].plain if isinstance(parts[0], ShWord) else None
        if name in _ASSIGNING:
            for part in parts[1:]:
                if isinstance(part, ArrayValue) or _assigns(part):
                    self._assign(part)
            return ""
        self.step(max(1, len(parts)))
        words = tuple(it for part in parts if isinstance(part, ShWord) for it in self.expanded(part))
        if not words:
            return None
        for redirect in redirects:
            if redirect.sign in ("<<", "<<-", "<<<"):
                text = self.joined(redirect.word)
                given = None if text.missing else text.text + ("\n" if redirect.sign == "<<<" else "")
            elif redirect.sign == "<":
                given = self._content(self.joined(redirect.word))
        printed = self._run(words, None if first and not _feeds(redirects) else given, sign)
        for redirect in redirects:
            if redirect.sign in (">", ">>", ">|") and not self.joined(redirect.word).missing:
                target = self.joined(redirect.word).text
                before = self.files.get(target, "") if redirect.sign == ">>" else ""
                self.files.pop(target, None)
                if printed is not None:
                    self.files[target] = before + printed
                printed = ""
        return printed

    def _run(self, words: tuple[Word, ...], given: str | None, sign: Token | None) -> str | None:
        name, args = words[0].text, words[1:]
        if self.takes_call(words, _cut_by(words, sign)):
            return None
        if name in self._functions:
            self._called.add(name)
            before, self.args = self.args, list(args)
            printed = self.run(self._functions[name])
            self.args = before
            return printed
        name = program_name(name)
        plain = [it.text for it in args]
        known = not any(it.missing for it in words)
        if name == "read" and given is not None and plain:
            self.set(plain[-1], replace(args[-1], text=given.rstrip("\n"), missing=()))
            return ""
        if name in ("mapfile", "readarray") and given is not None and plain:
            self.lists[plain[-1]] = [Word(text=it, line=args[-1].line) for it in given.splitlines()]
            return ""
        if name == "printf" and plain[:1] == ["-v"] and known and len(plain) > 2:
            if (text := FILTERS["printf"](plain[2:], "")) is not None:
                self.set(plain[1], Word(text=text, line=words[0].line))
            return ""
        if name == "set" and plain[:1] == ["--"]:
            self.args = list(args[1:])
            return ""
        if name == "unset":
            for it in plain:
                self.values.pop(it, None)
                self.lists.pop(it, None)
                self.maps.pop(it, None)
            return ""
        if name in ("eval", "bash", "sh") and known:
            text = (
                " ".join(plain) if name == "eval" else plain[1] if plain[:1] == ["-c"] and plain[1:] else None
            )
            if text is not None:
                return self.run(tokens_of(text, self.file, words[0].line))
        if name == "xargs" and any(it.text.endswith("llama-quantize") for it in args):
            self.others.append(("xargs … llama-quantize", words[0].line))
        if name in FILTERS:
            return self._filtered(name, args, given) if known else None
        if name not in NOT_A_MIX:
            self.others.append((name, words[0].line))
        return None if name in ("pwd", "date", "nproc", "ls") or name not in NOT_A_MIX else ""

    def _filtered(self, name: str, args: Sequence[Word], given: str | None) -> str | None:
        plain = [it.text for it in args]
        if name == "tee" and given is not None:
            self.files.update({it: given for it in plain if not it.startswith("-")})
        if given is None and name not in ("echo", "printf"):
            content = self._content(args[-1]) if args else None  # `grep -v '^#' rules.txt`
            if content is None:
                return None
            plain, given = plain[:-1], content
        return FILTERS[name](plain, given or "")

    def _content(self, path: Word) -> str | None:
        if path.missing:
            return None
        return self.files.get(path.text) or self._read_file(path.text)

    def _assign(self, part: ShWord | ArrayValue) -> None:
        if isinstance(part, ArrayValue):
            pairs = [_KEYED.fullmatch(self.joined(word).text) for word in part.words]
            if pairs and all(pairs):
                self.maps[part.name] = dict(self.maps.get(part.name, {}) if part.more else {})
                for pair, word in zip(pairs, part.words, strict=True):
                    if pair is not None:
                        self.maps[part.name][pair[1].strip("\"'")] = replace(self.joined(word), text=pair[2])
                return
            words = [it for word in part.words for it in self.expanded(word)]
            self.lists[part.name] = [*(self.lists.get(part.name, []) if part.more else []), *words]
            self.values.pop(part.name, None)
            return
        start = _ASSIGNMENT.match(part.pieces[0].text)
        if start is None:
            return
        rest = part.pieces[0].text[start.end() :]
        pieces = (*((replace(part.pieces[0], text=rest),) if rest else ()), *part.pieces[1:])
        value = self.joined(ShWord(pieces, part.line))
        name, key = start[1], self.text_of(start[2], part.pieces[0]) if start[2] else None
        if "\n" in value.text and pieces:
            self.notes.append((pieces[0].line, value.text))
        if key is not None:
            if name in self.lists:
                self.maps[name] = {str(n): it for n, it in enumerate(self.lists.pop(name))}
            self.maps.setdefault(name, {})[key.text] = value
            return
        if start[3] and name in self.lists:
            self.lists[name][:1] = [value]
        elif start[3]:
            before = self.values.get(name, Word(text="", line=part.line))
            value = replace(value, text=before.text + value.text, missing=(*before.missing, *value.missing))
        self._spent += len(value.text)
        if self._spent > _MOST_TEXT:
            raise RecipeError("has values that grow too long", "write the command out", file=self.file)
        self.set(name, value)

    def substituted(self, piece: Piece) -> Word:
        inner = _Shell(self.file, self._read_file)
        inner.values, inner.lists = dict(self.values), {name: list(it) for name, it in self.lists.items()}
        inner.maps = {name: dict(it) for name, it in self.maps.items()}
        inner._functions, inner.args = self._functions, self.args
        inner.files = self.files
        inner.steps, inner.depth, inner._spent = self.steps, self.depth, self._spent
        inner.words = self.words
        tokens = tokens_of(piece.text, self.file, piece.line)
        if len(tokens) == 1 and isinstance(tokens[0], Redirect) and tokens[0].sign == "<":  # $(<file)
            printed = self._content(self.joined(tokens[0].word))
        else:
            printed = inner.run(tokens)
        self.words = inner.words
        self.steps, self._spent = inner.steps, inner._spent + len(printed or "")
        self._called |= inner._called
        self.calls += inner.calls
        if printed is None:
            shown = f"$({shortened(' '.join(piece.text.split()), 57)})"
            return Word(text=shown, line=piece.line, missing=(shown,))
        return Word(text=printed.rstrip("\n"), line=piece.line)


def _assigns(part: ShWord | ArrayValue) -> bool:
    if isinstance(part, ArrayValue) or not part.pieces:
        return isinstance(part, ArrayValue)
    first = part.pieces[0]
    return first.kind == "text" and not first.quoted and _ASSIGNMENT.match(first.text) is not None


def _plain(tokens: Sequence[Token], place: int) -> str | None:
    """Return the word at a place, if it may be a keyword."""
    token = tokens[place] if place < len(tokens) else None
    return token.plain if isinstance(token, ShWord) else None


def _is_function(tokens: Sequence[Token], place: int) -> bool:
    signs = [it.text if isinstance(it, Sign) else "" for it in tokens[place + 1 : place + 3]]
    return isinstance(tokens[place], ShWord) and signs == ["(", ")"]


def _commands(tokens: Sequence[Token], place: int) -> bool:
    """Say whether a command may begin at a place, so that `for` and `done` are keywords there."""
    before = tokens[place - 1]
    return isinstance(before, Sign) or (isinstance(before, ShWord) and before.plain in _SKIPPED)


def _feeds(redirects: Sequence[Redirect]) -> bool:
    return any(it.sign.startswith("<") for it in redirects)


def _cut_by(words: Sequence[Word], sign: Token | None) -> str:
    """Say why a command ends where it ends, if that is hardly what was meant."""
    if not isinstance(sign, Sign) or sign.text != "\n":
        return ""
    if not words[-1].text.strip() and words[-1].text:
        return f"a space stands behind the \\ at the end of line {words[-1].line}, so the command ends there"
    if sign.comment and words[-1].line != sign.line:
        return f"the comment in line {sign.line} ends the command"
    return ""
