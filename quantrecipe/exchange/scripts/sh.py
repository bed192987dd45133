"""A script of sh or bash, followed as the shell would, without running anything.

Variables, lists, loops over words, functions and here-documents are filled in; substitutions where they are made of
`echo`, `cat` and filters. What isn't known stays as it is written and is noted in the word that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import translate

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.scripts.call import NOT_A_MIX, Call, Script, Word, program_at, program_name
from quantrecipe.exchange.scripts.filters import FILTERS
from quantrecipe.exchange.scripts.sh_words import ArrayValue, Piece, Redirect, ShWord, Sign, Token, tokens_of

__all__ = ["read_sh"]

_MOST_STEPS = 20_000
"""Commands that are followed, each round of a loop anew; scripts of releases have some hundred."""
_MOST_TEXT = 4 << 20
"""Characters of all values together: a script may double one in each round of a loop."""
_DEEPEST = 30
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[([^]]*)\])?(\+?)=")
_KEYED = re.compile(r"\[([^]]*)\]=(.*)", re.DOTALL)
_SKIPPED = frozenset(
    {"then", "else", "elif", "fi", "do", "done", "{", "}", "!", "esac", "if", "while", "until", "time"}
)
_OPENS, _CLOSES = frozenset({"for", "while", "until", "select"}), frozenset({"done"})
_ASSIGNING = frozenset({"export", "declare", "local", "readonly", "typeset"})
_RANGE = re.compile(r"(-?\d{1,6})\.\.(-?\d{1,6})")
_BRACES = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_MOST_WORDS = 1000
"""Words that braces make of one."""
_NAME = r"[A-Za-z_]\w*|\d+|[@*#?$!-]"
_VARIABLE = re.compile(rf"(?P<length>#?)(?P<name>{_NAME})(?:\[(?P<index>[^]]*)\])?(?P<rest>.*)", re.DOTALL)


def read_sh(text: str, file: str, read_file: Callable[[str], str | None]) -> Script:
    """The calls of a script.

    read_file: what is in a file beside the script; None where that isn't known
    """
    shell = _Shell(file, read_file)
    shell.run(tokens_of(text, file))
    shell.finish()
    return Script(
        calls=tuple(shell.calls),
        others=tuple(shell.others),
        texts={name: it.text for name, it in shell.values.items() if not it.missing},
        notes=tuple(shell.notes),
        files=shell.files,
    )


class _Shell:
    def __init__(self, file: str, read_file: Callable[[str], str | None]) -> None:
        self._file = file
        self._read_file = read_file
        self.values: dict[str, Word] = {}
        self._lists: dict[str, list[Word]] = {}
        self._maps: dict[str, dict[str, Word]] = {}  # `declare -A`, and lists with numbers that are given
        self._functions: dict[str, list[Token]] = {}
        self._called: set[str] = set()
        self._args: list[Word] | None = None
        self._steps = 0
        self._spent = 0
        self._depth = 0
        self._branches = 0  # how many `if`, `while` and `case` we are in: what is set there may not be set
        self._maybe = False  # behind `&&` or `||`, too
        self.calls: list[Call] = []
        self.others: list[tuple[str, int]] = []
        self.notes: list[tuple[int, str]] = []
        self.files: dict[str, str] = {}

    def finish(self) -> None:
        """Functions that are never called may be what a person calls by hand."""
        for name in [it for it in self._functions if it not in self._called]:
            self.run(self._functions[name])

    def run(self, tokens: Sequence[Token]) -> str | None:
        """Follow the commands; what they print, None where that isn't known."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise RecipeError(
                "functions or substitutions that go too deep", "write the command out", file=self._file
            )
        printed: str | None = ""
        place = 0
        while place < len(tokens):
            place, made = self._statement(tokens, place)
            printed = None if printed is None or made is None else printed + made
        self._depth -= 1
        return printed

    def _statement(self, tokens: Sequence[Token], place: int) -> tuple[int, str | None]:
        """Follow what begins here; where the next begins."""
        token = tokens[place]
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise RecipeError(
                "is too long to follow: its loops repeat too much", "write the command out", file=self._file
            )
        if isinstance(token, Sign):
            self._maybe = token.text in ("&&", "||")
            if token.text in (";;", ";&", ";;&"):
                return self._to_sign(tokens, place + 1, ")"), ""
            return place + 1, ""
        keyword = _plain(tokens, place)
        if keyword in ("for", "select"):
            return self._loop(tokens, place)
        if keyword == "case":
            self._branches += 1
            return self._to_sign(tokens, place, ")"), ""
        if keyword == "function" or _is_function(tokens, place):
            return self._define(tokens, place + (keyword == "function"))
        if keyword in _SKIPPED:
            self._branches += (keyword in ("if", "while", "until")) - (keyword in ("fi", "done", "esac"))
            self._branches = max(self._branches, 0)
            return place + 1, ""
        return self._pipeline(tokens, place)

    def _to_sign(self, tokens: Sequence[Token], place: int, sign: str) -> int:
        """Behind the next sign of this kind, or at `esac`."""
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
                values += self._expanded(item)
        elif name is not None:
            values = self._args
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
        """Commands joined by `|`."""
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
        """Follow one command; what it prints into a pipe, None where that isn't known."""
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
        words = tuple(it for part in parts if isinstance(part, ShWord) for it in self._expanded(part))
        if not words:
            return None
        for redirect in redirects:
            if redirect.sign in ("<<", "<<-", "<<<"):
                text = self._joined(redirect.word)
                given = None if text.missing else text.text + ("\n" if redirect.sign == "<<<" else "")
            elif redirect.sign == "<":
                given = self._content(self._joined(redirect.word))
        printed = self._run(words, None if first and not _feeds(redirects) else given, sign)
        for redirect in redirects:
            if redirect.sign in (">", ">>", ">|") and not self._joined(redirect.word).missing:
                target = self._joined(redirect.word).text
                before = self.files.get(target, "") if redirect.sign == ">>" else ""
                self.files.pop(target, None)
                if printed is not None:
                    self.files[target] = before + printed
                printed = ""
        return printed

    def _run(self, words: tuple[Word, ...], given: str | None, sign: Token | None) -> str | None:
        name, args = words[0].text, words[1:]
        if (at := program_at(words)) is not None:
            self.calls.append(Call(words=words[at + 1 :], line=words[at].line, cut=_cut_by(words, sign)))
            return None
        if name in self._functions:
            self._called.add(name)
            before, self._args = self._args, list(args)
            printed = self.run(self._functions[name])
            self._args = before
            return printed
        name = program_name(name)
        plain = [it.text for it in args]
        known = not any(it.missing for it in words)
        if name == "read" and given is not None and plain:
            self._set(plain[-1], replace(args[-1], text=given.rstrip("\n"), missing=()))
            return ""
        if name in ("mapfile", "readarray") and given is not None and plain:
            self._lists[plain[-1]] = [Word(text=it, line=args[-1].line) for it in given.splitlines()]
            return ""
        if name == "printf" and plain[:1] == ["-v"] and known and len(plain) > 2:
            if (text := FILTERS["printf"](plain[2:], "")) is not None:
                self._set(plain[1], Word(text=text, line=words[0].line))
            return ""
        if name == "set" and plain[:1] == ["--"]:
            self._args = list(args[1:])
            return ""
        if name == "unset":
            for it in plain:
                self.values.pop(it, None)
                self._lists.pop(it, None)
                self._maps.pop(it, None)
            return ""
        if name in ("eval", "bash", "sh") and known:
            text = (
                " ".join(plain) if name == "eval" else plain[1] if plain[:1] == ["-c"] and plain[1:] else None
            )
            if text is not None:
                return self.run(tokens_of(text, self._file, words[0].line))
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
            pairs = [_KEYED.fullmatch(self._joined(word).text) for word in part.words]
            if pairs and all(pairs):
                self._maps[part.name] = dict(self._maps.get(part.name, {}) if part.more else {})
                for pair, word in zip(pairs, part.words, strict=True):
                    if pair is not None:
                        self._maps[part.name][pair[1].strip("\"'")] = replace(
                            self._joined(word), text=pair[2]
                        )
                return
            words = [it for word in part.words for it in self._expanded(word)]
            self._lists[part.name] = [*(self._lists.get(part.name, []) if part.more else []), *words]
            self.values.pop(part.name, None)
            return
        start = _ASSIGNMENT.match(part.pieces[0].text)
        assert start is not None  # _assigns asked
        rest = part.pieces[0].text[start.end() :]
        pieces = (*((replace(part.pieces[0], text=rest),) if rest else ()), *part.pieces[1:])
        value = self._joined(ShWord(pieces, part.line))
        name, key = start[1], self._text_of(start[2], part.pieces[0]) if start[2] else None
        if "\n" in value.text and pieces:
            self.notes.append((pieces[0].line, value.text))
        if key is not None:
            if name in self._lists:
                self._maps[name] = {str(n): it for n, it in enumerate(self._lists.pop(name))}
            self._maps.setdefault(name, {})[key.text] = value
            return
        if start[3] and name in self._lists:
            self._lists[name][:1] = [value]
        elif start[3]:
            before = self.values.get(name, Word(text="", line=part.line))
            value = replace(value, text=before.text + value.text, missing=(*before.missing, *value.missing))
        self._spent += len(value.text)
        if self._spent > _MOST_TEXT:
            raise RecipeError("has values that grow too long", "write the command out", file=self._file)
        self._set(name, value)

    def _set(self, name: str, value: Word) -> None:
        before = self.values.get(name)
        if (
            (self._branches or self._maybe)
            and before is not None
            and before.text != value.text
            and not value.missing
        ):
            value = Word(
                text=f"${name}", line=value.line, missing=(f"${name} (which is set in several ways)",)
            )
        self.values[name] = value
        self._lists.pop(name, None)

    def _joined(self, word: ShWord) -> Word:
        """A word of which no spaces and braces are looked at."""
        parts = [self._piece(piece) for piece in word.pieces]
        return Word(
            text="".join(it.text for it in parts),
            line=word.line,
            missing=tuple(name for it in parts for name in it.missing),
        )

    def _expanded(self, word: ShWord) -> list[Word]:
        """The words that a word becomes: values without quotes are split at spaces, `{a,b}` is two words."""
        fields: list[list[tuple[Word, bool]]] = [[]]
        quotes = False
        for piece in word.pieces:
            quotes |= piece.quoted
            several = self._list_of(piece)
            if several is not None:
                for number, it in enumerate(several):
                    if number:
                        fields.append([])
                    fields[-1].append((it, True))
                quotes |= bool(several)
                continue
            value = self._piece(piece)
            if piece.quoted or piece.kind == "text" or value.missing:
                fields[-1].append((value, piece.quoted or piece.kind != "text"))
                continue
            for number, part in enumerate(re.split(r"[ \t\n]+", value.text)):
                if number:
                    fields.append([])
                if part:
                    fields[-1].append((replace(value, text=part), True))
        listed = any(self._list_of(piece) is not None for piece in word.pieces)
        words = []
        for field in fields:
            if not field and not (quotes and len(fields) == 1 and self._list_of(word.pieces[0]) is None):
                continue
            missing = tuple(name for it, _ in field for name in it.missing)
            line = field[0][0].line if listed and field else word.line
            for text in _braces([(it.text, quoted) for it, quoted in field]):
                words.append(Word(text=text, line=line, missing=missing))
        return words

    def _list_of(self, piece: Piece) -> list[Word] | None:
        """The values of `"$@"` and `"${list[@]}"`."""
        if piece.kind != "variable":
            return None
        if piece.text in ("@", "*") and self._args is not None:
            return self._args
        match = re.fullmatch(r"(!?)([A-Za-z_]\w*)\[([@*])\]", piece.text)
        if match is None or (match[3] == "*" and piece.quoted):
            return None
        if match[1]:
            keys = self._maps.get(match[2])
            return None if keys is None else [Word(text=key, line=piece.line) for key in keys]
        return self._items(match[2])

    def _items(self, name: str) -> list[Word] | None:
        """The values of a list, or of a map."""
        return list(self._maps[name].values()) if name in self._maps else self._lists.get(name)

    def _piece(self, piece: Piece) -> Word:
        if piece.kind == "text":
            return Word(text=piece.text, line=piece.line)
        if piece.kind == "variable":
            return self._variable(piece)
        if piece.kind == "sum":
            shown = f"$(({piece.text}))"
            return Word(text=shown, line=piece.line, missing=(shown,))
        return self._substituted(piece)

    def _substituted(self, piece: Piece) -> Word:
        inner = _Shell(self._file, self._read_file)
        inner.values, inner._lists = dict(self.values), {name: list(it) for name, it in self._lists.items()}
        inner._maps = {name: dict(it) for name, it in self._maps.items()}
        inner._functions, inner._args = self._functions, self._args
        inner.files = self.files
        inner._steps, inner._depth, inner._spent = self._steps, self._depth, self._spent
        tokens = tokens_of(piece.text, self._file, piece.line)
        if len(tokens) == 1 and isinstance(tokens[0], Redirect) and tokens[0].sign == "<":  # $(<file)
            printed = self._content(self._joined(tokens[0].word))
        else:
            printed = inner.run(tokens)
        self._steps, self._spent = inner._steps, inner._spent + len(printed or "")
        self._called |= inner._called
        self.calls += inner.calls
        if printed is None:
            shown = f"$({' '.join(piece.text.split())})"
            shown = shown if len(shown) <= 60 else f"{shown[:57]}…)"
            return Word(text=shown, line=piece.line, missing=(shown,))
        return Word(text=printed.rstrip("\n"), line=piece.line)

    def _variable(self, piece: Piece) -> Word:
        shown = f"${piece.text}" if re.fullmatch(_NAME, piece.text) else f"${{{piece.text}}}"
        unknown = Word(text=shown, line=piece.line, missing=(shown,))
        match = _VARIABLE.fullmatch(piece.text)
        if match is None:
            return unknown
        name, index, rest = match["name"], match["index"], match["rest"]
        value: Word | None
        if index in ("@", "*"):
            items = self._items(name)
            between = (self.values["IFS"].text[:1] if "IFS" in self.values else " ") if index == "*" else " "
            value = None if items is None else _joined_words(items, between, piece.line)
        elif index:
            key = self._text_of(index, piece)
            if key is None or key.missing or (name not in self._maps and not key.text.isdigit()):
                return unknown
            items = self._lists.get(name, [])
            known = self._maps.get(name, {str(number): it for number, it in enumerate(items)})
            value = known.get(key.text)
        elif name.isdigit() and self._args is not None and name != "0":
            number = int(name)
            value = self._args[number - 1] if number <= len(self._args) else Word(text="", line=piece.line)
        elif name in self._lists:
            value = self._lists[name][0] if self._lists[name] else Word(text="", line=piece.line)
        else:
            value = self.values.get(name)
        if match["length"] or (value is not None and value.missing and rest):
            return unknown
        if not rest:
            return unknown if value is None else replace(value, line=value.line)
        text = self._changed(value, rest, piece)
        return unknown if text is None else text

    def _changed(self, value: Word | None, rest: str, piece: Piece) -> Word | None:
        """`${name:-word}`, `${name%pattern}`, `${name//pattern/text}`, `${name^^}`; None where it isn't known."""
        start = re.match(r":?[-=+?]|##?|%%?|//?|\^\^|,,", rest)
        if start is None:
            return None
        sign, word = start[0], self._text_of(rest[start.end() :], piece)
        if word is None:
            return None
        if sign.lstrip(":") in ("-", "=", "?"):
            if value is not None and (value.text or not sign.startswith(":")):
                return value
            return None if sign.endswith("?") else word
        if sign.lstrip(":") == "+":
            return word if value is not None and value.text else Word(text="", line=piece.line)
        if value is None or word.missing:
            return None
        text = value.text
        if sign in ("^^", ",,"):
            return (
                replace(value, text=text.upper() if sign == "^^" else text.lower()) if not word.text else None
            )
        if len(text) * len(word.text) > 1 << 20:
            return None
        if sign in ("/", "//"):
            old, _, new = re.sub(r"\\/", "\0", word.text).partition("/")
            old, new = old.replace("\0", "/"), new.replace("\0", "/")
            if any(char in old for char in "*?[\\#%") or not old:
                return None
            return replace(value, text=text.replace(old, new, 1 if sign == "/" else -1))
        shorter = _without(text, sign, word.text)
        return replace(value, text=shorter)

    def _text_of(self, text: str, piece: Piece) -> Word | None:
        if self._depth >= _DEEPEST:
            return None
        tokens = tokens_of(
            f'"{text}"' if "'" not in text and '"' not in text else text, self._file, piece.line
        )
        if not text:
            return Word(text="", line=piece.line)
        if len(tokens) != 1 or not isinstance(tokens[0], ShWord):
            return None
        self._depth += 1
        word = self._joined(tokens[0])
        self._depth -= 1
        return word


def _without(text: str, sign: str, pattern: str) -> str:
    """The text without its beginning (`#`) or end (`%`) that a pattern matches; doubled signs: the longest."""
    regex = re.compile(translate(pattern))
    ends = range(len(text) + 1) if len(text) <= 4096 else ()
    if sign.startswith("#"):
        places = [at for at in ends if regex.match(text[:at])]
        return text[(places[-1] if sign == "##" else places[0]) :] if places else text
    places = [at for at in ends if regex.match(text[at:])]
    return text[: (places[0] if sign == "%%" else places[-1])] if places else text


def _joined_words(items: Sequence[Word], between: str, line: int) -> Word:
    missing = tuple(name for it in items for name in it.missing)
    return Word(text=between.join(it.text for it in items), line=line, missing=missing)


def _braces(parts: Sequence[tuple[str, bool]]) -> list[str]:
    """The texts that `{a,b}` and `{1..3}` stand for, outside of quotes."""
    whole = "".join(text for text, _ in parts)
    if not any("{" in text and not quoted for text, quoted in parts):
        return [whole]
    hidden = "".join(
        re.sub(r"[{},.]", lambda m: chr(0xE000 + ord(m[0])), text) if quoted else text
        for text, quoted in parts
    )
    return [re.sub("[\ue000-\ue0ff]", lambda m: chr(ord(m[0]) - 0xE000), it) for it in _opened(hidden)]


def _opened(text: str) -> list[str]:
    """Of `x{a,b}{1..2}` all four; of what would be a great many, the text itself."""
    made, at = [""], 0
    for match in _BRACES.finditer(text):
        choices = _choices(match[1])
        if len(choices) * len(made) > _MOST_WORDS:
            return [text]
        between = text[at : match.start()]
        made = [f"{before}{between}{choice}" for before in made for choice in choices]
        at = match.end()
    return [f"{before}{text[at:]}" for before in made]


def _choices(inside: str) -> list[str]:
    if numbers := _RANGE.fullmatch(inside):
        first, last = int(numbers[1]), int(numbers[2])
        step = 1 if last >= first else -1
        return [str(number) for number in range(first, last + step, step)]
    return inside.split(",") if "," in inside else [f"{{{inside}}}"]


def _assigns(part: ShWord | ArrayValue) -> bool:
    if isinstance(part, ArrayValue) or not part.pieces:
        return isinstance(part, ArrayValue)
    first = part.pieces[0]
    return first.kind == "text" and not first.quoted and _ASSIGNMENT.match(first.text) is not None


def _plain(tokens: Sequence[Token], place: int) -> str | None:
    """The word there, where it is one that may be a keyword."""
    token = tokens[place] if place < len(tokens) else None
    return token.plain if isinstance(token, ShWord) else None


def _is_function(tokens: Sequence[Token], place: int) -> bool:
    signs = [it.text if isinstance(it, Sign) else "" for it in tokens[place + 1 : place + 3]]
    return isinstance(tokens[place], ShWord) and signs == ["(", ")"]


def _commands(tokens: Sequence[Token], place: int) -> bool:
    """True where a command may begin, so that `for` and `done` are keywords."""
    before = tokens[place - 1]
    return isinstance(before, Sign) or (isinstance(before, ShWord) and before.plain in _SKIPPED)


def _feeds(redirects: Sequence[Redirect]) -> bool:
    return any(it.sign.startswith("<") for it in redirects)


def _cut_by(words: Sequence[Word], sign: Token | None) -> str:
    """Why a command ends where it ends, where that is hardly what was meant."""
    if not isinstance(sign, Sign) or sign.text != "\n":
        return ""
    if not words[-1].text.strip() and words[-1].text:
        return f"a space stands behind the \\ at the end of line {words[-1].line}, so the command ends there"
    if sign.comment and words[-1].line != sign.line:
        return f"the comment in line {sign.line} ends the command"
    return ""
