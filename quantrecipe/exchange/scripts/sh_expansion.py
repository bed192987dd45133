"""What the words of a shell become: variables, lists, `${name%pattern}` and braces are filled in.

    --tensor-type "$rule" {a,b}.gguf      →  the value of `rule` as one word, a.gguf, b.gguf

What isn't known stays as it is written, and is noted in the word that it stands in (`Word.missing`).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import translate

from quantrecipe.exchange.scripts.call import DEEPEST, Follower, Word
from quantrecipe.exchange.scripts.sh_words import Piece, ShWord, tokens_of
from quantrecipe.units import whole_number

__all__ = ["Expander"]

_RANGE = re.compile(r"(-?\d{1,6})\.\.(-?\d{1,6})")
_BRACES = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_MOST_WORDS = 1000
"""Words that braces make of one."""
_NAME = r"[A-Za-z_]\w*|\d+|[@*#?$!-]"
_VARIABLE = re.compile(rf"(?P<length>#?)(?P<name>{_NAME})(?:\[(?P<index>[^]]*)\])?(?P<rest>.*)", re.DOTALL)


class Expander(Follower, ABC):
    """The values that a script has set, and the words that are made of them.

    values: variables; lists: arrays; maps: of `declare -A`, and lists with numbers that are given
    args:   `$1`, `$2` …, None outside of functions
    """

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.values: dict[str, Word] = {}
        self.lists: dict[str, list[Word]] = {}
        self.maps: dict[str, dict[str, Word]] = {}
        self.args: list[Word] | None = None
        self.maybe = False  # behind `&&` or `||`: what is set there may not be set

    @abstractmethod
    def substituted(self, piece: Piece) -> Word:
        """Return what the commands in `$(…)` print; only who follows commands knows."""

    def set(self, name: str, value: Word) -> None:
        before = self.values.get(name)
        if (
            (self.branches or self.maybe)
            and before is not None
            and before.text != value.text
            and not value.missing
        ):
            value = Word(
                text=f"${name}", line=value.line, missing=(f"${name} (which is set in several ways)",)
            )
        self.values[name] = value
        self.lists.pop(name, None)

    def joined(self, word: ShWord) -> Word:
        """Fill in a word that isn't split at spaces, and whose braces mean nothing."""
        parts = [self._piece(piece) for piece in word.pieces]
        return Word(
            text="".join(it.text for it in parts),
            line=word.line,
            missing=tuple(name for it in parts for name in it.missing),
        )

    def expanded(self, word: ShWord) -> list[Word]:
        """Return the words that a word becomes: values without quotes are split at spaces, and `{a,b}` is two words."""
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
        """Return the values of `"$@"` and `"${list[@]}"`; None for any other piece."""
        if piece.kind != "variable":
            return None
        if piece.text in ("@", "*") and self.args is not None:
            return self.args
        match = re.fullmatch(r"(!?)([A-Za-z_]\w*)\[([@*])\]", piece.text)
        if match is None or (match[3] == "*" and piece.quoted):
            return None
        if match[1]:
            keys = self.maps.get(match[2])
            return None if keys is None else [Word(text=key, line=piece.line) for key in keys]
        return self._items(match[2])

    def _items(self, name: str) -> list[Word] | None:
        """Return the values of a list, or of a map."""
        return list(self.maps[name].values()) if name in self.maps else self.lists.get(name)

    def _piece(self, piece: Piece) -> Word:
        if piece.kind == "text":
            return Word(text=piece.text, line=piece.line)
        if piece.kind == "variable":
            return self._variable(piece)
        if piece.kind == "sum":
            shown = f"$(({piece.text}))"
            return Word(text=shown, line=piece.line, missing=(shown,))
        return self.substituted(piece)

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
            key = self.text_of(index, piece)
            if key is None or key.missing or (name not in self.maps and not key.text.isdigit()):
                return unknown
            items = self.lists.get(name, [])
            known = self.maps.get(name, {str(number): it for number, it in enumerate(items)})
            value = known.get(key.text)
        elif name.isdigit() and self.args is not None and name.strip("0"):
            number = whole_number(name)
            value = (
                self.args[number - 1]
                if number is not None and number <= len(self.args)
                else Word(text="", line=piece.line)
            )
        elif name in self.lists:
            value = self.lists[name][0] if self.lists[name] else Word(text="", line=piece.line)
        else:
            value = self.values.get(name)
        if match["length"] or (value is not None and value.missing and rest):
            return unknown
        if not rest:
            return unknown if value is None else replace(value, line=value.line)
        text = self._changed(value, rest, piece)
        return unknown if text is None else text

    def _changed(self, value: Word | None, rest: str, piece: Piece) -> Word | None:
        """Fill in `${name:-word}`, `${name%pattern}`, `${name//pattern/text}`, `${name^^}`; None if it isn't known."""
        start = re.match(r":?[-=+?]|##?|%%?|//?|\^\^|,,", rest)
        if start is None:
            return None
        sign, word = start[0], self.text_of(rest[start.end() :], piece)
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

    def text_of(self, text: str, piece: Piece) -> Word | None:
        if self.depth >= DEEPEST:
            return None
        tokens = tokens_of(
            f'"{text}"' if "'" not in text and '"' not in text else text, self.file, piece.line
        )
        if not text:
            return Word(text="", line=piece.line)
        if len(tokens) != 1 or not isinstance(tokens[0], ShWord):
            return None
        self.depth += 1
        word = self.joined(tokens[0])
        self.depth -= 1
        return word


def _without(text: str, sign: str, pattern: str) -> str:
    """Cut off the beginning (`#`) or the end (`%`) that a pattern matches; doubled signs mean the longest."""
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
    """Return the texts that `{a,b}` and `{1..3}` stand for, outside of quotes."""
    whole = "".join(text for text, _ in parts)
    if not any("{" in text and not quoted for text, quoted in parts):
        return [whole]
    hidden = "".join(
        re.sub(r"[{},.]", lambda m: chr(0xE000 + ord(m[0])), text) if quoted else text
        for text, quoted in parts
    )
    return [re.sub("[\ue000-\ue0ff]", lambda m: chr(ord(m[0]) - 0xE000), it) for it in _opened(hidden)]


def _opened(text: str) -> list[str]:
    """Return all four of `x{a,b}{1..2}`; of what would be a great many, the text itself."""
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
