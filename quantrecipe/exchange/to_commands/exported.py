"""Exported: a plan in another program's language; and what no other program can be told."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantrecipe.errors import PlanError, Problem
from quantrecipe.exchange.scripts.call import Dialect
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import kept_type
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.wording import some_of

__all__ = ["Exported", "command_text", "refuse", "requests", "stored_model", "wanted_types"]

_MOST_NAMES = 5
_LONGEST_TEXT = 127  # llama.cpp: val_str of llama_model_kv_override
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A plan in another program's language.

    text:  what to type, or to put into a file
    notes: what is left to the other program
    """

    text: str
    notes: tuple[str, ...] = ()


def stored_model(model: Model) -> Model:
    """Return the model as it is in a GGUF: of a Hugging Face folder, what llama.cpp's converter makes."""
    return replace(model, tensors=tuple(replace(t, dtype=kept_type(t, model)) for t in model.tensors))


def wanted_types(plan: Plan) -> dict[str, str]:
    """Return the type of each tensor, without companions."""
    return {a.tensor.name: a.type for a in plan.assignments if a.owner is None}


def refuse(
    plan: Plan,
    recipe: Recipe,
    source: Model,
    *,
    tool: str,
    reached: Collection[str],
    dialects: Collection[str],
) -> None:
    """Raise PlanError, with a line for each kind, if the plan has what the tool can't be told."""
    problems = []
    types = {tensor.name: tensor.dtype for tensor in source.tensors}
    if recipe.prune is not None:
        problems.append(
            Problem(
                what=f"{tool} can't be told to prune layers and to choose types by layer: their numbers change",
                remedy="prune first: apply a recipe that has nothing but `prune`, and export for its output",
                file=recipe.file,
            )
        )
    kinds: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        if a.owner is not None:
            continue
        if a.tensor.name not in reached and a.type != types[a.tensor.name]:
            kinds.setdefault(f"{tool} never quantizes {{}}, which the plan makes {a.type}", []).append(a)
        elif a.format.spec.companion and not a.copied:
            kinds.setdefault(f"{tool} keeps no factors beside {{}}, which {a.type} needs", []).append(a)
        elif a.format.spec.dialect not in dialects and a.format.spec.codec:
            kinds.setdefault(f"{tool} doesn't have {a.type}, the type of {{}}", []).append(a)
        elif dict(a.format.options) != dict(type(a.format)().options):
            kinds.setdefault(f"{tool} can't be told the options of {{}}", []).append(a)
    for what, members in kinds.items():
        problems.append(Problem(what=f"{what.format(_names(members))} ({members[0].because})"))
    if problems:
        raise PlanError(problems)


def requests(plan: Plan, recipe: Recipe) -> tuple[list[str], list[str]]:
    """Return options of llama-quantize for importance and metadata, and notes on what they can't say."""
    options: list[str] = []
    notes: list[str] = []
    if plan.importance is not None:
        options += ["--imatrix", str(recipe.importance.file or plan.importance.label or "imatrix.gguf")]
    if recipe.importance.include and recipe.importance.exclude:
        notes.append(
            "--include-weights and --exclude-weights can't be used together: only the first is exported"
        )
    for text in recipe.importance.include:
        options += ["--include-weights", text]
    for text in () if recipe.importance.include else recipe.importance.exclude:
        options += ["--exclude-weights", text]
    for key, value in recipe.metadata.items():
        said = _override(value)
        if said is None:
            notes.append(
                f"the metadata {key!r} can't be set by --override-kv: its type is {value.type.name.lower()}"
            )
        else:
            options += ["--override-kv", f"{key}={said}"]
    return options, notes


def command_text(
    program: str, options: Sequence[str], model: Model, name: str, mixture: str, *, shell: Dialect = "sh"
) -> str:
    """Write the command line, an option to a line. It writes beside the model, whose path has to be right.

    shell: whose quotes it has, and whose signs at the ends of lines
    """
    # Shapes stand for a file that is elsewhere; of a file in parts, llama-quantize wants the first.
    path = model.files[0] if model.container == "gguf" and model.files else model.path
    folder = Path() if model.container == "shapes" else path.parent
    stem = path.name.removesuffix(".gguf").removesuffix(".json").removesuffix(".safetensors") or "model"
    stem = _PART.sub("", stem)
    given = path if model.container == "gguf" else folder / f"{stem}-BF16.gguf"
    out = folder / (
        f"{stem.removesuffix('-BF16').removesuffix('-F16')}-{_UNSAFE.sub('-', name).strip('-') or 'mix'}.gguf"
    )
    quote = _QUOTES[shell]
    lines = [program]
    words = iter(options)
    for option in words:
        line = quote(option)
        if option in _WITH_VALUE:
            line += f" {quote(next(words))}"
        lines.append(line)
    lines.append(f"{quote(_no_option(given))} {quote(_no_option(out))} {mixture}")
    return f" {_JOINS[shell]}\n  ".join(lines) + "\n"


def _no_option(path: Path) -> str:
    """Write a path so that it isn't read as an option, which begins with a hyphen."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def _quote_cmd(text: str) -> str:
    """Quote for cmd, and for the C runtime, which takes a backslash before a quote for an escape."""
    if text and not re.search(r'[\s"^&|<>()%!=,;]', text):
        return text
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text) + '"'


def _quote_powershell(text: str) -> str:
    if re.fullmatch(r"[\w.:/\\=-]+", text, re.ASCII):
        return text
    return "'" + text.replace("'", "''") + "'"


_JOINS: Mapping[Dialect, str] = {"sh": "\\", "cmd": "^", "powershell": "`"}
_QUOTES: Mapping[Dialect, Callable[[str], str]] = {
    "sh": shlex.quote,
    "cmd": _quote_cmd,
    "powershell": _quote_powershell,
}
_PART = re.compile(r"-00001-of-\d{5}$")
_WITH_VALUE = (
    "--imatrix",
    "--include-weights",
    "--exclude-weights",
    "--override-kv",
    "--tensor-type",
    "--custom-q",
)


def _override(value: GGUFValue) -> str | None:
    content = value.decode()
    match value.type:
        case ValueType.UINT32:
            return f"int:{content}"
        case ValueType.FLOAT32:
            return f"float:{content!r}"
        case ValueType.BOOL:
            return f"bool:{str(content).lower()}"
        case ValueType.STRING if len(str(content).encode()) <= _LONGEST_TEXT:
            return f"str:{content}"
    return None


def _names(members: Sequence[Assignment]) -> str:
    return some_of([a.tensor.name for a in members], _MOST_NAMES)
