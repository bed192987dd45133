"""Measurement: what is to be measured, and how; and of what: the types, and the tensors of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from quantrecipe.api import ModelAnalysis, QuantFormat, TensorAnalysis
from quantrecipe.errors import ModelError, SensitivityError
from quantrecipe.importance.matrix import Importance
from quantrecipe.measure.encoded import Encoding
from quantrecipe.measure.passes import Passes
from quantrecipe.measure.prober import BASE_RECIPE
from quantrecipe.model.model import Model
from quantrecipe.model.not_a_model import require_model
from quantrecipe.plan.assign import FLOATS, is_original
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.trace import trace
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["DEFAULT_SAMPLE", "Measurement", "Scope", "Subject", "choose_types", "quantizable", "scope_of"]

DEFAULT_SAMPLE = 1 << 20
"""Weights of each tensor: four seconds of each thread for a thousand million weights in all types."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What to measure, and how.

    types:    names of formats
    analysis: of losses
    weighing: of the model; None leaves alphas to the prior
    file:     for the weighing, if it reads one
    sample:   weights of each tensor; None for all rows
    probes:   at most
    passes:   how the model is run; None where it isn't
    predict:  most losses from a few of each tensor, where all types of a few layers are measured: see `predicted`
    encoding: the encoder that makes the bytes, with what it knows of inputs; None for each format by itself
    work:     folder for temporary files
    """

    types: tuple[str, ...]
    analysis: TensorAnalysis
    weighing: ModelAnalysis | None = None
    file: Path | None = None
    sample: int | None = DEFAULT_SAMPLE
    probes: int = 0
    predict: bool = True
    passes: Passes | None = None
    encoding: Encoding | None = None
    work: Path = Path()
    threads: int | None = None

    @property
    def key(self) -> dict[str, str]:
        """What losses depend on, besides tensors, formats and importance."""
        sampling = "all rows" if self.sample is None else f"{self.sample} weights of each tensor"
        analysis = f"{self.analysis.name} {self.analysis.version}"
        if self.encoding is not None:
            analysis += f", encoded by {self.encoding.text}"
        return {"analysis": analysis, "sampling": sampling}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is measured: a model, with its importance matrix if there is one, in the formats of a registry.

    another_model: the matrix may say that it is another model's
    """

    model: Model
    registry: Registry
    importance: Importance | None
    another_model: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What is measured of a model: known from its headers, before any weight is read.

    tensors:   in the order layer, name
    formats:   by the name of the tensor: the types in which it is measured, at least one
    instead:   (type, the fallback that is measured in its place) → the tensors that don't take the type
    left_out:  by the name of a tensor that can't be measured, why
    quantized: types in which the model stores tensors that are measured and that aren't floats → how many
    """

    tensors: tuple[TensorInfo, ...]
    formats: Mapping[str, tuple[QuantFormat, ...]]
    instead: Mapping[tuple[str, str], tuple[TensorInfo, ...]]
    left_out: Mapping[str, str]
    quantized: Mapping[str, int]


def scope_of(subject: Subject, types: Sequence[str], *, allow_requantize: bool = False) -> Scope:
    """What can be measured of the model's quantizable matrices in these types.

    A tensor that doesn't take a type is measured in that type's fallback, which is what a plan would give it.
    ModelError where the file is no model, or is quantized already and `allow_requantize` is False; SensitivityError
    where nothing is left to measure.
    """
    model, registry = subject.model, subject.registry
    require_model(model)
    wanted = quantizable(model, registry)
    if not wanted:
        raise _nothing(model, f"none of its {len(model.tensors):,} tensors is a matrix that recipes quantize")
    formats: dict[str, tuple[QuantFormat, ...]] = {}
    instead: dict[tuple[str, str], list[TensorInfo]] = {}
    left_out: dict[str, str] = {}
    for tensor in wanted:
        if why := _unreadable(tensor, model, registry):
            left_out[tensor.name] = why
            continue
        found: dict[str, QuantFormat] = {}
        for name in types:
            fmt = _taken(name, tensor, registry)
            if fmt is None:
                continue
            found[fmt.spec.name] = fmt
            if fmt.spec.name != name:
                instead.setdefault((name, fmt.spec.name), []).append(tensor)
        if found:
            formats[tensor.name] = tuple(found.values())
        else:
            said = ", ".join(types)
            left_out[tensor.name] = f"rows of {tensor.cols:,} weights can be neither {said} nor a fallback"
    tensors = tuple(tensor for tensor in wanted if tensor.name in formats)
    if not tensors:
        name, why = next(iter(left_out.items()))
        more = f" (and so on for all {len(left_out):,})" if len(left_out) > 1 else ""
        raise _nothing(model, f"{name}: {why}{more}")
    quantized = Counter(tensor.dtype for tensor in tensors if not is_original(tensor, model))
    if quantized and not allow_requantize:
        raise ModelError(
            f"{quantized.total():,} of its {len(tensors):,} matrices are already quantized "
            f"({', '.join(quantized)}): errors would be measured against what is left of the weights",
            "start from the BF16, F16 or F32 model, or say --allow-requantize if there is none",
            file=model.path,
        )
    return Scope(
        tensors=tensors,
        formats=formats,
        instead={pair: tuple(members) for pair, members in instead.items()},
        left_out=left_out,
        quantized=dict(quantized),
    )


def _taken(name: str, tensor: TensorInfo, registry: Registry) -> QuantFormat | None:
    """The format, or the first of its fallbacks that takes the tensor; None where none does."""
    fitting = (fmt for fmt in registry.chain(name) if fmt.spec.codec and fmt.accepts(tensor) is None)
    return next(fitting, None)


def _unreadable(tensor: TensorInfo, model: Model, registry: Registry) -> str:
    """Why the tensor's weights can't be had, "" where they can; what apply says of it, too."""
    source = registry.formats.get(tensor.dtype)
    if tensor.dtype in FLOATS:
        return ""
    if source is None or not source.spec.codec:
        return f"stored as {tensor.dtype}, which can't be decoded"
    if source.spec.companion and companion_name(tensor, source.spec.companion) in model.sources:
        return f"stored as {tensor.dtype} with factors of its own, which aren't measured"
    return ""


def _nothing(model: Model, why: str) -> SensitivityError:
    return SensitivityError(f"there is nothing to measure: {why}", file=model.path)


def choose_types(registry: Registry, patterns: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of formats, the smallest first. `patterns`: names or globs; without any, all of mainline's.

    SensitivityError for a pattern that finds nothing.
    """
    codecs = {name: fmt for name, fmt in registry.formats.items() if fmt.spec.codec}
    found: dict[str, QuantFormat] = {}
    if patterns:
        for pattern in patterns:
            here = [name for name in codecs if fnmatchcase(name.upper(), pattern.upper())]
            if not here:
                problem = registry.missing_format(pattern)
                raise SensitivityError(problem.what, problem.remedy)
            found |= {name: codecs[name] for name in here}
    else:
        found = {name: fmt for name, fmt in codecs.items() if fmt.spec.dialect == "ggml"}
    return tuple(sorted(found, key=lambda name: (found[name].spec.bits_per_weight, name)))


def quantizable(model: Model, registry: Registry) -> list[TensorInfo]:
    """The matrices that a recipe's default is about, in the order layer, name."""
    recipe = load_recipe(BASE_RECIPE, registry=registry)
    return [decision.tensor for decision in trace(recipe, model).decisions if decision.type != KEEP]
