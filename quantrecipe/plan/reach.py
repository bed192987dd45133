"""reach: how much of a model a recipe that quantizes leaves as it is without meaning to.

    dbrx, converted long ago: blk.0.ffn_down_exps       no `.weight`: neither patterns nor defaults reach it
    rows of 260 weights                                 no block divides them, so every fallback ends at F16

The file is then nearly as large as the source, and says that it is a Q4_K_M. llama-quantize does the same, silently.
What a rule, a kept list or the lack of a default leaves alone is meant, and doesn't count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantrecipe.plan.assign import FLOATS
from quantrecipe.plan.trace import NOT_A_MATRIX, Decision
from quantrecipe.recipe.recipe import KEEP, Recipe
from quantrecipe.tensor import TensorInfo
from quantrecipe.wording import some_of

__all__ = ["Reach", "reach"]

_MOST = 0.1
"""Share of the weights in matrices above which it is worth a word. llama.cpp's mixes leave at most 0.03 % of any
reference model (biases of experts); a mix that misses a tenth of a model in 4 bits makes its file a third larger."""
_MOST_ROLES = 4  # a warning is a line


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """How many weights of a model's matrices a recipe reaches.

    total:    of all that are floats in the source, or in the output
    nameless: those that stay floats since patterns don't reach their names
    unfit:    those that stay floats since their rows divide into no block
    encoded:  True if any tensor gets a quantized type, or none has to
    """

    total: int
    nameless: tuple[TensorInfo, ...]
    unfit: tuple[TensorInfo, ...]
    encoded: bool

    @property
    def share(self) -> float:
        """The share of the weights that is left as it is."""
        return sum(tensor.size for tensor in (*self.nameless, *self.unfit)) / max(1, self.total)

    def problem(self) -> tuple[str, str] | None:
        """What to say of it, and what to do; None where it is as it should be."""
        if self.share >= _MOST:
            left = (*self.nameless, *self.unfit)
            what = f"{100 * self.share:.3g} % of the weights in matrices aren't quantized: {_roles(left)}; "
            if not self.unfit:
                return (
                    f"{what}their names don't end in .weight, so patterns and defaults pass them by",
                    _RENAME,
                )
            if not self.nameless:
                return f"{what}their rows divide into no block of the types asked for", _OTHER
            return f"{what}their names don't end in .weight, or their rows divide into no block", _RENAME
        if not self.encoded:
            return "no tensor of this model gets a quantized type from this recipe", _OTHER
        return None


_RENAME = (
    "convert the model again with a newer convert_hf_to_gguf.py, or give them a rule that names them outright "
    "(`tensors: ffn_down_exps`)"
)
_OTHER = "`quantrecipe plan` shows what each tensor gets, and why"


def reach(recipe: Recipe, outcomes: Iterable[tuple[Decision, str]]) -> Reach | None:
    """How much of a model a recipe reaches; None for one that quantizes nothing.

    outcomes: what was decided of each tensor, and the type that came of it
    A recipe without a quantized default is about some tensors alone, which a model needn't have.
    """
    types = {name for rule in recipe.rules for name in rule.choose or (rule.type,)}
    default = recipe.default or KEEP
    if not {*types, default} - FLOATS - {KEEP}:
        return None
    total = 0
    nameless: list[TensorInfo] = []
    unfit: list[TensorInfo] = []
    encoded = default in (*FLOATS, KEEP)
    for decision, type_ in outcomes:
        tensor = decision.tensor
        encoded = encoded or type_ not in FLOATS
        if sum(length > 1 for length in tensor.shape) < 2:
            continue
        total += tensor.size
        if type_ not in FLOATS:
            continue
        if decision.type == KEEP:
            if decision.because == NOT_A_MATRIX:
                nameless.append(tensor)
        elif decision.type not in FLOATS:
            unfit.append(tensor)
    return Reach(total=total, nameless=tuple(nameless), unfit=tuple(unfit), encoded=encoded)


def _roles(tensors: Sequence[TensorInfo]) -> str:
    """The roles of these tensors as text, those with the most weights first."""
    weights: dict[str, int] = {}
    counts: dict[str, int] = {}
    for tensor in tensors:
        weights[tensor.role] = weights.get(tensor.role, 0) + tensor.size
        counts[tensor.role] = counts.get(tensor.role, 0) + 1
    order = sorted(weights, key=lambda role: (-weights[role], role))
    said = [f"{role} ({counts[role]})" if counts[role] > 1 else role for role in order]
    return some_of(said, _MOST_ROLES)
