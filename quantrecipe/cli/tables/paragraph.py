"""Paragraph: text in lines that end between words, whole in a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

__all__ = ["Paragraph"]

# What words are made of: characters; commands, which are copied as a whole; an option and its number or
# type, as in `--kv q8_0`.
_WORD = r"`[^`]*`|\bpip install (?:'[^']*'|\S+)|(?<!\S)\(?--?[a-z][a-z-]* (?=\S*\d)\S+|\S"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text that rich prints as lines that end between words: the first indented by `start`, the others by `indent`.

    Commands, and `whole`, which may be a path with spaces, are never broken: where one is longer than a line, it is
    left to the terminal, which lets it be copied as it is.
    """

    text: Text | str
    style: str = ""
    indent: int = 2
    whole: str = ""
    start: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        text = Text(self.text, self.style) if isinstance(self.text, str) else self.text
        pattern = f"(?:{re.escape(self.whole)}|{_WORD})" if self.whole else f"(?:{_WORD})"
        ends, used = [], self.start
        for word in re.finditer(rf"{pattern}+\s*", text.plain):
            length = cell_len(word[0].rstrip())
            # What is longer than a line gains nothing by one of its own.
            if used + length > options.max_width >= self.indent + length:
                ends.append(word.start())
                used = self.indent
            used += cell_len(word[0])
        for number, line in enumerate(text.divide(ends)):
            line.rstrip()
            margin = self.indent if number else self.start
            yield Text(" " * margin, no_wrap=True, overflow="ignore").append_text(line)
