"""The types that only ik_llama.cpp has: their ids in files, and which package brings them.

Origin: ik_llama.cpp, ggml/include/ggml.h, `enum ggml_type`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantrecipe.errors import ModelError, Problem
from quantrecipe.missing_formats import package_of
from quantrecipe.model.model import Model
from quantrecipe.registry import Registry
from quantrecipe.units import whole_number

__all__ = ["IK_TYPES", "explain_unknown_types"]

IK_TYPES: Mapping[int, str] = MappingProxyType(
    {
        133: "Q6_0", 134: "IQ1_BN", 135: "IQ2_BN", 137: "IQ2_K", 138: "IQ3_K", 139: "IQ4_K", 140: "IQ5_K",
        141: "IQ6_K", 144: "IQ4_KS", 145: "IQ2_KS", 146: "IQ4_KSS", 151: "Q8_KV", 152: "IQ5_KS", 153: "IQ2_KT",
        154: "IQ3_KT", 155: "IQ4_KT", 156: "IQ3_KS", 157: "IQ2_KL", 158: "IQ1_KT", 202: "Q4_0_R8", 206: "Q5_0_R4",
        208: "Q8_0_R8", 210: "Q2_K_R4", 211: "Q3_K_R4", 212: "Q4_K_R4", 213: "Q5_K_R4", 214: "Q6_K_R4",
        216: "IQ2_XXS_R4", 217: "IQ2_XS_R4", 218: "IQ3_XXS_R4", 219: "IQ1_S_R4", 220: "IQ4_NL_R4", 221: "IQ3_S_R4",
        222: "IQ2_S_R4", 223: "IQ4_XS_R8", 229: "IQ1_M_R4", 230: "BF16_R16", 233: "Q6_0_R4", 335: "IQ2_BN_R4",
        337: "IQ2_K_R4", 338: "IQ3_K_R4", 339: "IQ4_K_R4", 340: "IQ5_K_R4", 344: "IQ4_KS_R4", 352: "IQ5_KS_R4",
        353: "MXFP4_R8", 397: "Q8_K_R16", 398: "Q8_KV_R8", 399: "Q8_K_R8",
    }
)  # fmt: skip


def explain_unknown_types(model: Model, registry: Registry) -> None:
    """Raise ModelError, with a line for each type, if tensors have types that no installed format is."""
    counts: dict[str, int] = {}
    for tensor in model.tensors:
        if tensor.dtype not in registry.formats:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + 1
    problems = []
    for type_, count in sorted(counts.items()):
        number = whole_number(type_.removeprefix("type "))
        known = type_ if number is None and package_of(type_) else None
        if number is not None:
            known = IK_TYPES.get(number)
        missing = registry.missing_format(known) if known else None
        what = f"{count} of its tensors are stored as {known or type_}"
        if missing is None:
            problem = Problem(
                what=f"{what}, which isn't known", remedy="a newer quantrecipe, or a plugin, may know it"
            )
        else:
            problem = Problem(what=f"{what}: {missing.what}", remedy=missing.remedy)
        problems.append(Problem(what=problem.what, remedy=problem.remedy, file=model.path))
    if problems:
        raise ModelError(problems)
