"""A plan for ik_llama.cpp (`--custom-q`) and for the GGUF-Tool-Suite (`.recipe`).

Every tensor that ik_llama.cpp quantizes is named, the most common type by a last rule for all that is left: which
types its own presets would choose then doesn't matter.

Facts from ik_llama.cpp (src/llama-quantize.cpp): names of types are lower case but for a trailing K (`q4_K`), and told
apart; norms, routers, positions, `ssm_conv1d`, `ssm_x`, `ssm_dt` and `attn_rel_b` are never quantized, other small
matrices are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from quantrecipe.errors import PlanError
from quantrecipe.exchange.ik_types import IK_TYPES
from quantrecipe.exchange.scripts.call import Dialect
from quantrecipe.exchange.to_commands.exported import (
    Exported,
    command_text,
    refuse,
    requests,
    stored_model,
    wanted_types,
)
from quantrecipe.exchange.to_commands.type_regexes import type_patterns
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.tensor import TensorInfo

__all__ = ["ik_name", "to_custom_q", "to_ik", "to_tool_suite"]

_TOOL = "ik_llama.cpp"
_SHARED = frozenset(
    {
        "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
        "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "IQ1_M", "MXFP4",
    }
)  # fmt: skip
"""Types of mainline ggml that ik_llama.cpp has, too. Origin: its ggml/include/ggml.h."""

_NEVER = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ssm_conv1d|ssm_x\.weight|ssm_dt\.weight|attn_rel_b\.weight"
)
_POSITIONS = ("position_embd.weight", "token_types.weight")
_BASES = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S", "MXFP4": "MXFP4"}
"""What to call a preset of mostly this type, where it isn't the type's own name."""


def ik_name(type_: str) -> str:
    """Write a type as ik_llama.cpp and the GGUF-Tool-Suite do: Q4_K → q4_K, IQ4_KS → iq4_ks."""
    name = type_.lower()
    return re.sub(r"^(q\d)_k$", r"\1_K", name).replace("q8_kv", "q8_KV")


def to_ik(plan: Plan, recipe: Recipe, *, shell: Dialect = "sh") -> Exported:
    """Write the command line of ik_llama.cpp's llama-quantize. PlanError has everything that it can't be told."""
    rules, base = _rules(plan, recipe)
    options, notes = requests(plan, recipe)
    options += ["--custom-q", ",".join(rules)]
    if recipe.importance.file is not None and recipe.importance.file.suffix == ".gguf":
        notes.append("ik_llama.cpp reads .dat alone: quantrecipe imatrix convert makes one")
    text = command_text("llama-quantize", options, plan.model, plan.recipe, base, shell=shell)
    return Exported(text=text, notes=tuple(notes))


def to_custom_q(plan: Plan, recipe: Recipe) -> Exported:
    """Write only the argument of `--custom-q`."""
    rules, base = _rules(plan, recipe)
    called = f"call ik_llama.cpp's llama-quantize with it as: --custom-q RULES IN.gguf OUT.gguf {base}"
    return Exported(text=",".join(rules) + "\n", notes=(called,))


def to_tool_suite(plan: Plan, recipe: Recipe) -> Exported:
    """Write a `.recipe`: a rule for every tensor, also for those that stay as they are."""
    source = stored_model(plan.model)
    reached = _refuse(plan, recipe, source)
    types = wanted_types(plan)
    found = type_patterns(types, source.tensors, reached)
    found += type_patterns(types, source.tensors, types.keys() - reached)
    head = [f"## {plan.recipe}: exported by quantrecipe", f"# Model name: {plan.model.path.name}", ""]
    lines = [f"{regex}={ik_name(type_)}" for regex, type_ in found]
    _prove(found, types, "", set(types))
    return Exported(text="\n".join([*head, *lines]) + "\n")


def _rules(plan: Plan, recipe: Recipe) -> tuple[list[str], str]:
    source = stored_model(plan.model)
    reached = _refuse(plan, recipe, source)
    types = {name: type_ for name, type_ in wanted_types(plan).items() if name in reached}
    weights: dict[str, int] = {}
    for tensor in source.tensors:
        if tensor.name in types:
            weights[types[tensor.name]] = weights.get(types[tensor.name], 0) + tensor.size
    rest = max(weights, key=lambda type_: (weights[type_], type_), default="")
    found = type_patterns(types, source.tensors, {name for name, type_ in types.items() if type_ != rest})
    _prove(found, types, rest, reached)
    rules = [f"{regex}={ik_name(type_)}" for regex, type_ in found] + ([f".={ik_name(rest)}"] if rest else [])
    quantized = [type_ for type_ in weights if type_ not in ("F32", "F16", "BF16")]
    main = (
        rest if rest in quantized else max(quantized, key=lambda type_: (weights[type_], type_), default="")
    )
    if not main:
        raise PlanError(
            f"{_TOOL} ignores --custom-q where no type is a quantized one", "use its type F16 or BF16"
        )
    return rules, _BASES.get(main, main)


def _refuse(plan: Plan, recipe: Recipe, source: Model) -> set[str]:
    """Return the tensors that ik_llama.cpp quantizes. PlanError has everything that it can't be told."""
    reached = {tensor.name for tensor in source.tensors if _quantizes(tensor)}
    refuse(plan, recipe, source, tool=_TOOL, reached=reached, dialects=("ggml", "ik"))
    known = _SHARED | set(IK_TYPES.values())
    if missing := sorted({type_ for name, type_ in wanted_types(plan).items() if name in reached} - known):
        raise PlanError(f"{_TOOL} doesn't have {', '.join(missing)}")
    return reached


def _quantizes(tensor: TensorInfo) -> bool:
    shape = tensor.shape
    while shape and shape[0] == 1:
        shape = shape[1:]
    small = _NEVER.search(tensor.name) or tensor.name in _POSITIONS
    return (
        len(shape) >= 2 and tensor.name.endswith("weight") and not small and not tensor.dtype.startswith("I")
    )


def _prove(found: list[tuple[str, str]], types: Mapping[str, str], rest: str, reached: set[str]) -> None:
    """Raise PlanError if the rules don't say what was meant, or if a comma would end one of them early."""
    rules = [(Regex.parse(regex), type_) for regex, type_ in found]
    wrong = [
        name
        for name in sorted(reached)
        if next((type_ for regex, type_ in rules if regex.search(name)), rest) != types[name]
    ]
    wrong += [regex for regex, _ in found if "," in regex or "=" in regex]
    if wrong:
        raise PlanError(f"{_TOOL} can't be told the type of {wrong[0]} ({len(wrong)} in all)")
