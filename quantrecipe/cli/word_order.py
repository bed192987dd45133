"""Command lines in another order: llama-quantize's (`in.gguf out.gguf Q4_K_M`), MODEL before RECIPE, or MODEL as a word
where it is an option.

Who writes one has made up their mind; the answer is the command that does it, ready to be copied.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

__all__ = ["is_model", "refuse_llama_quantize", "refuse_model_as_word", "refuse_model_first"]

# What llama-quantize is called, or was.
_PROGRAMS = ("quantize", "llama-quantize")
# Commands of RECIPE and MODEL that might be called as llama-quantize is; all else is called as `apply`.
_OURS = ("apply", "plan", "lock")

# Options of llama-quantize that `apply` has, too, with a value behind them.
_SHARED_WITH_VALUE = ("--imatrix",)
# Options of llama-quantize that `apply` has, too.
_SHARED_ALONE = ("--allow-requantize", "--keep-split", "--dry-run")
_IMPORTED_WITH_VALUE = (
    "--tensor-type", "--tensor-type-file", "--output-tensor-type", "--token-embedding-type", "--prune-layers",
    "--override-kv", "--include-weights", "--exclude-weights", "--max-buffer-size",
)  # fmt: skip
# Those that a recipe says, or that have no counterpart: `quantrecipe import` reads them.
_IMPORTED_ALONE = ("--pure", "--leave-output-tensor")
_GLOBAL_ALONE, _GLOBAL_WITH_VALUE = ("--no-plugins", "-v", "--verbose"), ("--color",)


@dataclass(slots=True)
class _Call:
    """A command line as llama-quantize takes it apart. `others` are options of nobody's, and their values."""

    paths: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def refuse_llama_quantize(args: Sequence[str], commands: Collection[str]) -> None:
    """UsageError, with the command to write instead, where the words are llama-quantize's.

    commands: the names of those that there are
    """
    rest = _without_globals(args)
    if not rest or rest[0] in ("-h", "--help") or (rest[0] in commands and rest[0] not in _OURS):
        return
    name = rest[0] if rest[0] in _OURS else "apply"
    named = rest[0] in (*_OURS, *_PROGRAMS)
    call = _read(rest[1:] if named else rest)
    if not call.paths or not (_is_model_name(call.paths[0]) or rest[0] in _PROGRAMS):
        return
    type_ = _type(call.paths)
    if type_ is None:
        if rest[0] not in _OURS:
            line = _line(["quantrecipe", "apply", "RECIPE", call.paths[0]])
            _refuse("the command comes first, then the recipe, then the model", [line])
        return
    model, *between = call.paths[: call.paths.index(type_[0], 1)]
    output = ["-o", between[0]] if between and name != "plan" else []
    lines = []
    recipe = f"llama.cpp/{type_[1]}"
    if call.imported:
        recipe = "mix.yaml"
        # The matrix goes into the recipe, as all else that llama-quantize was told.
        said = [*call.imported, *_imatrix(call.shared), model, *between, type_[0]]
        lines.append(f"echo {_line([_line(['llama-quantize', *said])])} |")
        lines.append(f"  quantrecipe import - --from llama-quantize -o {recipe}")
    shared = [it for it in call.shared if not call.imported or it not in _imatrix(call.shared)]
    lines.append(_line(["quantrecipe", name, recipe, model, *output, *shared, *call.others]))
    _refuse("these are llama-quantize's arguments; here the recipe stands first", lines)


def refuse_model_first(name: str, command: click.Command, args: Sequence[str]) -> None:
    """UsageError, with the command to write instead, where a model stands before the recipe that it is for."""
    places = [it.name for it in command.params if isinstance(it, click.Argument)]
    if "model" not in places or not {"recipe", "recipes"} & set(places):
        return
    words = _arguments(command, args)
    if len(words) < 2:
        return
    recipes, model = (words[:-1], words[-1]) if "recipes" in places else (words[:1], words[1])
    models = [it for it in recipes if is_model(it)]
    if len(models) != 1 or is_model(model) or not _is_recipe_name(model):
        return
    others = [it for it in recipes if it != models[0]]
    left = list(args)  # tensors and options, as they were
    for word in (*recipes, model):
        left.remove(word)
    fixed = ["quantrecipe", name, *others, model, models[0], *left]
    _refuse(f"{models[0]} is a model, and {model} is a recipe: the recipe stands first", [_line(fixed)])


def refuse_model_as_word(name: str, command: click.Command, args: Sequence[str]) -> None:
    """UsageError, with the command to write instead, where words are left over for a command that has --model."""
    if not any("--model" in it.opts for it in command.params):
        return
    _, left_over = _parsed(command, args)
    if not left_over or not all(map(is_model, left_over)):
        return
    kept = list(args)
    for word in left_over:
        kept.remove(word)
    options = [part for word in left_over for part in ("--model", word)]
    is_or_are = "is a model" if len(left_over) == 1 else "are models"
    _refuse(
        f"{' and '.join(left_over)} {is_or_are}, which `{name}` is told with --model",
        [_line(["quantrecipe", name, *kept, *options])],
    )


def _refuse(what: str, lines: Sequence[str]) -> None:
    shown = "\n".join(f"  {line}" for line in lines)
    raise click.UsageError(f"{what}. Write:\n\n{shown}\n")


def _without_globals(args: Sequence[str]) -> list[str]:
    """The words behind the options of `quantrecipe` itself."""
    at = 0
    while at < len(args) and (args[at] in _GLOBAL_ALONE or args[at].partition("=")[0] in _GLOBAL_WITH_VALUE):
        at += 2 if args[at] in _GLOBAL_WITH_VALUE else 1
    return list(args[at:])


def _read(words: Sequence[str]) -> _Call:
    """The words by what they are; options may stand anywhere, though llama-quantize wants them first."""
    call = _Call()
    at = 0
    while at < len(words):
        word, name = words[at], words[at].partition("=")[0]
        takes = "=" not in word and (
            name in (*_SHARED_WITH_VALUE, *_IMPORTED_WITH_VALUE)
            or (word.startswith("-") and _takes_value(name))
        )
        option = list(words[at : at + 1 + takes])
        if name in (*_SHARED_WITH_VALUE, *_SHARED_ALONE):
            call.shared += option
        elif name in (*_IMPORTED_WITH_VALUE, *_IMPORTED_ALONE):
            call.imported += option
        elif word.startswith("-"):
            call.others += option
        else:
            call.paths.append(word)
        at += len(option)
    return call


def _takes_value(option: str) -> bool:
    """True for an option of `apply` that has a value behind it."""
    from quantrecipe.cli.apply import command

    return any(option in it.opts and not it.is_flag for it in command.params if isinstance(it, click.Option))


def _type(paths: Sequence[str]) -> tuple[str, str] | None:
    """The type as it was said, and the preset that it is, where it stands as llama-quantize has it: behind one path or
    two, with a number of threads behind it.
    """
    from quantrecipe.exchange.from_commands.command import MIXTURES
    from quantrecipe.gguf.file_types import file_type_name
    from quantrecipe.units import whole_number

    for word in paths[1:3]:
        if word.endswith((".yaml", ".yml")):
            return None
        name = word.upper()
        if (number := whole_number(word, 3)) is not None:
            name = file_type_name(number) or ""
        if name in MIXTURES and not os.path.lexists(word):
            return word, name
    return None


def _imatrix(shared: Sequence[str]) -> list[str]:
    for at, word in enumerate(shared):
        if word.startswith("--imatrix="):
            return [word]
        if word == "--imatrix":
            return list(shared[at : at + 2])
    return []


def _arguments(command: click.Command, args: Sequence[str]) -> list[str]:
    """The words that aren't options or their values; none where the command wouldn't take the line at all."""
    values, _ = _parsed(command, args)
    found: list[str] = []
    for it in command.params:
        value = values.get(it.name) if isinstance(it, click.Argument) else None
        found += value if isinstance(value, tuple) else [value] if isinstance(value, str) else []
    return found


def _parsed(command: click.Command, args: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """The values by their names, and the words that are left over; nothing where the line can't be read at all."""
    # With the command's own settings: click keeps the help option that it makes of the first ones it sees.
    context = click.Context(command, resilient_parsing=True, **command.context_settings)
    try:
        values, left_over, _ = command.make_parser(context).parse_args(list(args))
    except click.UsageError:
        return {}, []
    return values, left_over


def _is_model_name(word: str) -> bool:
    return word.endswith((".gguf", ".safetensors")) or is_model(word)


def is_model(word: str) -> bool:
    """True for a word that names a model: a file or a folder that is one, shapes/NAME, or a GGUF that isn't there."""
    from quantrecipe.misplaced import kind_of

    if word.startswith("shapes/") and not os.path.lexists(word):
        return True
    kind = kind_of(word)
    if kind is None:
        return word.endswith(".gguf")  # wherever it is
    return kind.role == "model" or kind.what == "a folder of GGUF files"


def _is_recipe_name(word: str) -> bool:
    """True for a recipe's file, and for what might be the name of a shipped one."""
    from quantrecipe.misplaced import kind_of

    if word.endswith((".yaml", ".yml")):
        return True
    kind = kind_of(word)
    return kind.role == "recipe" if os.path.lexists(word) and kind is not None else not os.path.lexists(word)


def _line(words: Sequence[str]) -> str:
    import shlex  # only to say what is wrong: the usual command line doesn't wait for it

    return shlex.join(words)
