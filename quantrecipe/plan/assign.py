"""From the type that a recipe names to the format that a tensor gets: sources, fallbacks, importance."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quantrecipe.api import QuantFormat
from quantrecipe.errors import PlanError, QuantrecipeError
from quantrecipe.model.model import Model
from quantrecipe.plan.resolution import Resolution
from quantrecipe.plan.trace import Decision
from quantrecipe.recipe.recipe import KEEP, Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import F32_ROLES, TensorInfo

__all__ = ["FLOATS", "Choice", "choose_format", "is_original", "kept_type"]

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types of numbers: nothing was quantized yet."""

_PUBLISHED = frozenset({"MXFP4", "NVFP4"})
"""Types of blocks in which models are published: on Hugging Face they are the original."""

_PUBLISHED_ARCHITECTURES = {"gpt-oss": "MXFP4", "deepseek4": "MXFP4"}
"""Architectures whose models have no other original. Of others, a GGUF can't tell who made blocks of its weights."""

_UNKNOWN_TYPE = re.compile(r"type \d")  # see gguf_file: type_name

_F32_ENDS = (".patch_embd", ".patch_merger", ".position_embd")
"""What is F32 of projectors: where pictures come in."""
_CLASSIFIERS = ("cls", "cls.output")
"""Roles of matrices that have a row for each label. To the converter one of a single row is still a matrix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The format of a tensor, and the fallback's story if there is one (see Assignment)."""

    format: QuantFormat
    because: str
    copied: bool
    wanted: str | None = None
    misfit: str = ""


def choose_format(decision: Decision, resolution: Resolution) -> Choice:
    """The format that the decision comes to. PlanError where the recipe's wish can't be had as declared."""
    tensor, rule = decision.tensor, decision.rule
    recipe, registry, settings = resolution.recipe, resolution.registry, resolution.settings
    if decision.type == KEEP:
        name = kept_type(tensor, resolution.model)
        _refuse_unknown(decision)
        because = decision.because if name == tensor.dtype else f"{decision.because}, F32 as in llama.cpp"
        return Choice(format=_by_name(registry, name, decision), because=because, copied=name == tensor.dtype)
    wanted = _by_name(registry, decision.type, decision)
    if rule is not None and rule.options:
        wanted = wanted.with_options(rule.options)
    # The source has the type already: its bytes are copied, so that nothing is lost twice.
    if decision.type == tensor.dtype and not wanted.options:
        return Choice(format=wanted, because=decision.because, copied=True)
    _refuse_unreadable(decision, resolution)
    if not wanted.spec.codec:
        raise _at(
            decision, f"{tensor.name}: {wanted.spec.name} can't be quantized to, it only passes through"
        )
    misfit = wanted.accepts(tensor)
    if misfit is None:
        return Choice(format=wanted, because=decision.because, copied=False)
    policy = (rule.fallback if rule else None) or recipe.fallback
    if settings.strict or policy == "error":
        why = (
            "fallbacks are refused by --strict"
            if settings.strict
            else "the recipe declares `fallback: error`"
        )
        raise _at(
            decision,
            f"{tensor.name} can't be {wanted.spec.name}: {misfit}; {why}",
            f"give it a rule of its own with a type that it can be, e.g. {_suggest(wanted, tensor, recipe, registry)}",
        )
    substitute = _fallback(wanted, policy, tensor, decision, registry)
    return Choice(
        format=substitute,
        because=decision.because,
        copied=substitute.spec.name == tensor.dtype,
        wanted=wanted.spec.name,
        misfit=misfit,
    )


def is_original(tensor: TensorInfo, model: Model) -> bool:
    """Whether the tensor's weights are those that were published, so that to quantize them loses for the first time.

    In a Hugging Face folder MXFP4 and NVFP4 are what the maker gave out. A GGUF in them may have been made of floats,
    unless its architecture is published in nothing else. See docs/decisions/0018-published-in-blocks.md.
    """
    if tensor.dtype in FLOATS:
        return True
    if model.container == "gguf":
        return _PUBLISHED_ARCHITECTURES.get(model.arch) == tensor.dtype
    return tensor.dtype in _PUBLISHED


def kept_type(tensor: TensorInfo, model: Model) -> str:
    """The type of a tensor that stays as it is: from Hugging Face what llama.cpp's converter makes of it."""
    if model.container not in ("huggingface", "safetensors") or tensor.dtype not in FLOATS:
        return tensor.dtype
    if tensor.role == "ffn_gate_inp" and _router_as_stored(tensor, model):
        return tensor.dtype
    vector = len(tensor.shape) <= 1 and tensor.role not in _CLASSIFIERS
    small = vector or not tensor.name.endswith(".weight") or tensor.role.endswith("_norm")
    where_images_enter = tensor.role.endswith(_F32_ENDS)
    small = small or where_images_enter or tensor.role in F32_ROLES
    return "F32" if small or tensor.dtype == "F64" else tensor.dtype


def _router_as_stored(tensor: TensorInfo, model: Model) -> bool:
    """Whether a router is one of the two kinds that the converter doesn't make F32.

    DBRX says so itself (conversion/dbrx.py, tensor_force_quant). Nemotron-H's draft head has another number in the
    GGUF than in its name in the checkpoint, by which the converter looks for routers.
    """
    if model.arch == "nemotron_h_moe" and tensor.layer is not None:
        found = (model.metadata.get(f"{model.arch}.{key}") for key in ("block_count", "nextn_predict_layers"))
        layers, drafts = (0 if it is None else it.decode() for it in found)
        return bool(drafts) and tensor.layer >= layers - drafts
    return model.arch == "dbrx"


def _refuse_unknown(decision: Decision) -> None:
    """PlanError for a type of a GGUF that no format has: its size isn't known, so it can't even be copied."""
    if _UNKNOWN_TYPE.match(decision.tensor.dtype):
        raise _at(
            decision,
            f"{decision.tensor.name} is stored as {decision.tensor.dtype} of ggml, which isn't known here; without its "
            "size it can't be kept either",
            "start from the BF16, F16 or F32 model; types of ik_llama.cpp come with the plugin quantrecipe-ik, and "
            "newer ones of llama.cpp with a newer quantrecipe",
        )


def _refuse_unreadable(decision: Decision, resolution: Resolution) -> None:
    """PlanError for a source that can't be turned into weights, or that was quantized already and needn't be again."""
    tensor = decision.tensor
    if tensor.dtype in FLOATS:
        return
    _refuse_unknown(decision)
    source = resolution.registry.formats.get(tensor.dtype)
    if source is None or not source.spec.codec:
        raise _at(
            decision,
            f"{tensor.name} is stored as {tensor.dtype}, which can't be turned into weights",
            "leave it alone (`type: keep`), or start from a BF16, F16 or F32 model",
        )
    if not resolution.settings.allow_requantize and not is_original(tensor, resolution.model):
        raise _at(
            decision,
            f"{tensor.name} is already quantized, as {tensor.dtype}; quantizing again loses twice",
            "start from the model as it was published, leave the tensor alone (`type: keep`), or say "
            "--allow-requantize if there is nothing else",
        )


def _fallback(
    wanted: QuantFormat, policy: str, tensor: TensorInfo, decision: Decision, registry: Registry
) -> QuantFormat:
    if policy != "chain":
        substitute = _by_name(registry, policy, decision)
        if reason := substitute.accepts(tensor):
            raise _at(
                decision, f"{tensor.name} can't be {wanted.spec.name}, nor its fallback {policy}: {reason}"
            )
        return substitute
    last = wanted
    for last in registry.chain(wanted.spec.name):
        if last.accepts(tensor) is None:
            return last
    if last.spec.fallback is not None:
        _by_name(registry, last.spec.fallback, decision)  # says where it is to be had, if it isn't installed
    raise _at(decision, f"{tensor.name} can't be {wanted.spec.name}, nor anything in its chain of fallbacks")


def _suggest(wanted: QuantFormat, tensor: TensorInfo, recipe: Recipe, registry: Registry) -> str:
    """The nearest type in bits per weight that accepts the tensor, runs where the file is for, and needs no matrix."""
    from quantrecipe.targets.runnable import nearest_types  # no plan that succeeds needs the table of targets

    near = nearest_types(wanted.spec.bits_per_weight, registry, recipe.target)
    fitting = [
        spec.name
        for spec in near
        if registry.formats[spec.name].accepts(tensor) is None and spec.importance in ("ignored", "optional")
    ]
    return fitting[0] if fitting else "keep"


def _by_name(registry: Registry, name: str, decision: Decision) -> QuantFormat:
    try:
        return registry.format(name)
    except QuantrecipeError as error:
        raise _at(decision, f"{decision.tensor.name}: {error}") from error


def _at(decision: Decision, what: str, remedy: str = "") -> PlanError:
    if decision.rule is None:
        return PlanError(what, remedy)
    origin = decision.rule.origin
    return PlanError(what, remedy, file=origin.file, line=origin.line)
