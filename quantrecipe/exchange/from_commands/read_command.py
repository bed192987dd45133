"""Reads the command of a script that runs llama-quantize, and the files for its `--tensor-type-file`.

What a command means for a model is `simulate`'s to know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.exchange.from_commands.call_reader import CallReader, commented_lines, type_name, types_are
from quantrecipe.exchange.from_commands.command import Command
from quantrecipe.exchange.from_commands.overrides import read_list
from quantrecipe.exchange.scripts.call import Call, Script
from quantrecipe.exchange.scripts.script import decoded, read_script

__all__ = ["read_command", "read_list_for"]

_MOST_SHOWN = 12
"""Commands that a list of them names."""


def read_command(text: str, folder: Path, *, file: str, number: int | None = None) -> Command:
    """Read the command of a script, or of a line as one would type it.

    folder: what the paths of `--tensor-type-file` start from
    number: which one, from 1, where there are several
    RecipeError with a line for each word that isn't understood; where there are several commands, with their lines.
    """
    script = read_script(text, file, lambda path: _text_of(folder / path))
    calls = script.calls or _bare_call(text, file)
    if not calls:
        raise RecipeError(
            _none(script), "write it whole: llama-quantize [options] IN.gguf OUT.gguf Q4_K_M", file=file
        )
    if number is not None and number > len(calls):
        raise RecipeError(f"there is no command {number}: it has {len(calls)}", file=file)
    whys = commented_lines(script)
    readers = [CallReader(call, script, folder, file, whys) for call in calls]
    if number is None and len(calls) > 1:
        return _only(calls, readers, file)
    return readers[(number or 1) - 1].read()


def _only(calls: Sequence[Call], readers: Sequence[CallReader], file: str) -> Command:
    """Return the command that all of them are, if they differ in their paths alone."""
    try:
        commands = [reader.read() for reader in readers]
    except RecipeError:
        commands = []
    if commands and all(it == commands[0] for it in commands):
        return commands[0]
    problems = [
        Problem(what=f"command {number}: llama-quantize {_shown(call)}", file=file, line=call.line)
        for number, call in enumerate(calls[:_MOST_SHOWN], start=1)
    ]
    more = f" ({len(calls) - _MOST_SHOWN} more than are shown here)" if len(calls) > _MOST_SHOWN else ""
    what = f"has {len(calls)} commands of llama-quantize{more}, and a recipe is one mix"
    first = Problem(what=what, remedy="choose one with --command N", file=file)
    raise RecipeError([first, *problems])


def _shown(call: Call) -> str:
    text = " ".join(word.text for word in call.words)
    return text if len(text) <= 100 else f"{text[:40]} … {text[-56:]}"


def _none(script: Script) -> str:
    names = ", ".join(f"{name} (line {line})" for name, line in script.others[:6])
    return "there is no command of llama-quantize in it" + (f", only of {names}" if names else "")


def _bare_call(text: str, file: str) -> tuple[Call, ...]:
    """Read a line that has only the arguments."""
    if not re.match(r"\s*--[a-z]|\s*\S+\.gguf\s", text):
        return ()
    calls = read_script(f"llama-quantize {text.lstrip()}", file).calls
    return calls[:1]


def read_list_for(text: str, mixture: str, *, pure: bool = False, file: str) -> Command:
    """Read a `--tensor-type-file` for this type. It may have comments, though llama-quantize doesn't know them."""
    overrides = tuple(read_list(text, file, words=True))
    name = type_name(mixture, ik=False)
    if not name:
        raise RecipeError(
            f"--base {mixture}: llama-quantize knows no such type", types_are(mixture), file=file
        )
    return Command(mixture=name, overrides=overrides, pure=pure)


def _text_of(path: Path) -> str | None:
    """Return what is in a file that a script reads; None if that can't be known."""
    try:
        if not path.is_file() or path.stat().st_size > 1 << 20:
            return None
        return decoded(path.read_bytes())
    except (OSError, ValueError):
        return None
