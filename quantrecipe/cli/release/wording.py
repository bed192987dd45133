"""What goes wrong in a release, in the words of its file: messages of commands speak of options, which are keys here.

    give one with --imatrix FILE        →  give one with `imatrix:`
    release.yaml:6: --set deep: …       →  release.yaml:6: `set: deep`: …

The parts of the program that plan, fit and measure know nothing of releases. So their sentences are turned here; a
test holds the table against every sentence that they may say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from quantrecipe.cli.errors import worded
from quantrecipe.errors import Problem, QuantrecipeError
from quantrecipe.release.release import Release

__all__ = ["at_line", "in_file_words", "speaking_of_the_file"]

_WORDS = (
    # Sentences of which something is meant for the command line alone.
    (r", or insist with --imatrix-of-another-model \([^)]*\)", ""),
    (r"(^|, |; |\s)or say --raw, if [\w ]+$", ""),
    (r",? or say --raw to [\w ]+$", ""),
    (r"--raw reads the file as one plain text", "or make it a plain text, without .jsonl at its end"),
    (r"; --nan allow [^;]*$", ""),
    (r", or try no mixes: --evaluations 0", ""),
    (r"allow more with --evaluations, or a larger loss", "allow a larger loss"),
    (r"or say --bpw, --size, --vram or --kld", "or make the file by `fit:`"),
    (r"--statistics FOLDER makes it measure and choose with the encoder", ""),
    (
        r"give the text after --text, and the model as FILE or --reference",
        "give a text: `texts: calibration.txt`",
    ),
    (r", or --all-experts", ""),
    (r", or as --model\b", ""),
    (r"give it as --locked, or to\b", "give it to"),
    (r"to keep it, stop now, and name another file with -o", "to keep it, stop now, and copy it elsewhere"),
    # Options, and the keys that stand for them.
    (r"with --imatrix FILE", "with `imatrix:`"),
    (r"--text CALIBRATION", "`texts` of the entry"),
    (r"--text ([\w.+-]*(?:=|\.txt)[^\s;]*)", r"`texts: [\1]`"),
    (r"--text\b", "`texts`"),
    (r"--context ([\d,]+)", lambda it: f"`context: [{it[1].replace(',', ', ')}]`"),
    (r"--statistics FOLDER", "`statistics: FOLDER`"),
    (r"--kv (\w+)", r"`kv: \1`"),
    (r"--set (\S+?)(?=[:,;\s]|$)", r"`set: \1`"),
    (r"--split-max-size", "`split`"),
    (r"--(context|imatrix|sensitivity|types|mmproj|mtp|statistics)\b(?!-)", r"`\1`"),
)
_COMPILED = tuple(
    (re.compile(rf"(?<![\w`-])(?:{pattern})" if pattern.startswith("--") else pattern), words)
    for pattern, words in _WORDS
)
_COMMAND = re.compile(r"`[^`]*`")
"""What stands in backticks is to be typed as it is."""


def in_file_words(text: str) -> str:
    """The sentence, with keys where it spoke of options."""
    commands: list[str] = []

    def aside(match: re.Match[str]) -> str:
        commands.append(match[0])
        return f"`{len(commands) - 1}`"

    text = _COMMAND.sub(aside, text)
    for pattern, words in _COMPILED:
        text = pattern.sub(words, text)
    return re.sub(r"`(\d+)`", lambda it: commands[int(it[1])], text)


def at_line(error: QuantrecipeError, release: Release, line: int) -> list[Problem]:
    """The problems of an error at a line of the release; what else is at fault stands in the text."""
    return [_at(problem, release, line) for problem in error.problems]


def _at(problem: Problem, release: Release, line: int) -> Problem:
    where = "" if problem.file is None else f"{problem.file}:{f'{problem.line}:' if problem.line else ''} "
    said = _reworded(problem)
    return replace(said, what=f"{where}{said.what}", file=release.file, line=line)


def _reworded(problem: Problem) -> Problem:
    return replace(problem, what=in_file_words(problem.what), remedy=in_file_words(problem.remedy))


@contextmanager
def speaking_of_the_file() -> Iterator[None]:
    """Within it, warnings, notes and errors speak of keys."""
    with worded(_reworded):
        try:
            yield
        except QuantrecipeError as error:
            raise type(error)([_reworded(problem) for problem in error.problems]) from error
