"""prior_alphas: how much the output of a typical model moves per unit of loss in each tensor; nobody has measured
this one. `prior.toml` has it by role and depth, with its origin; `tools/make_prior.py` makes it.

    alpha of a tensor in a layer = scale / layers × its role's share × what its family has at that depth

so the numbers hold for any number of layers. Experts need no factor of their own: a token passes through some of
them, and loses the relative error that those have.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from quantrecipe.model.model import Model
from quantrecipe.packaged import packaged_table
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.nominal import nominal_error
from quantrecipe.sensitivity.sensitivity import Loss, Provenance, Sensitivity, TensorSensitivity, frozen
from quantrecipe.tensor import TensorInfo, tensor_order

__all__ = ["APART", "DEPTHS", "VERSION", "PriorAlpha", "estimate", "family_of", "prior_alphas"]

VERSION = 1
"""Of the data; raised whenever alphas change."""

DEPTHS = (0.0, 0.06, 0.19, 0.31, 0.44, 0.56, 0.69, 0.81, 0.94, 1.0)
"""Places between the first layer (0) and the last (1) at which curves are given."""


APART = 1.2
"""How far head and embeddings may be from where the prior has them beside the layers, in logarithms.

`prior.toml` has 0.59 for the scale of the layers, from models of one kind of measurement. On a small mixture of experts
that is none of them, the head's alpha was 1.9 times the prior's, and the layers' 0.08 to 0.5 times.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorAlpha:
    """The alpha that is usual for a tensor.

    doubt:  the standard deviation of its logarithm
    beside: the same beside other tensors of the model: what all layers share cancels there, and head and embeddings
            don't have it
    """

    alpha: float
    doubt: float
    beside: float


def prior_alphas(tensors: Iterable[TensorInfo], n_layers: int) -> Mapping[str, PriorAlpha]:
    """By tensor name. `tensors` should be all of the model: without an `output` the embedding makes the logits."""
    tensors = list(tensors)
    tied = not any(tensor.role == "output" for tensor in tensors)
    return {tensor.name: _prior(tensor, n_layers, tied=tied) for tensor in tensors}


def estimate(model: Model, registry: Registry, types: Collection[str] | None = None) -> Sensitivity:
    """What can be said without reading weights: typical losses, and the prior's alphas. Takes no time.

    Of all matrices of the model, in all types (of `types`, if given) that accept them.
    """
    n_layers = max(1, model.n_layers)  # what has no blocks counts as one layer
    alphas = prior_alphas(model.tensors, n_layers)
    formats = [fmt for name, fmt in registry.formats.items() if types is None or name in types]
    found = {}
    for tensor in sorted(model.tensors, key=tensor_order):
        if len(tensor.shape) < 2:
            continue
        losses = {
            fmt.spec.name: Loss(
                error=nominal_error(fmt.spec), standard_error=0.0, nbytes=fmt.spec.tensor_bytes(tensor.shape)
            )
            for fmt in formats
            if fmt.spec.codec and fmt.accepts(tensor) is None
        }
        found[tensor.name] = TensorSensitivity(
            name=tensor.name,
            digest="",
            weights=tensor.size,
            losses=losses,
            alpha=alphas[tensor.name].alpha,
        )
    provenance = Provenance(model=model.path.name, arch=model.arch, n_layers=n_layers, prior=VERSION)
    return Sensitivity(tensors=frozen(found), provenance=provenance)


def family_of(role: str) -> str:
    """Roles of one family change with depth alike: "experts", "shared", "ffn", "state" or "attention"."""
    if role.endswith(("_exps", "_chexps")):
        return "experts"
    if role.endswith("_shexp"):
        return "shared"
    if role.startswith("ffn"):
        return "ffn"
    return "state" if role.startswith("ssm") else "attention"


def _prior(tensor: TensorInfo, n_layers: int, *, tied: bool) -> PriorAlpha:
    table = packaged_table("sensitivity/prior.toml")
    outside, roles = table["outside"], table["roles"]
    if tensor.layer is None:
        role = "token_embd_tied" if tied and tensor.role == "token_embd" else tensor.role
        entry = outside.get(role, outside["token_embd"])
        doubt = entry["doubt"] if role in outside else 1.0
        return PriorAlpha(alpha=_trend(entry, n_layers), doubt=doubt, beside=math.hypot(doubt, APART))
    entry = roles.get(_alias(tensor.role, roles))
    if entry is None:  # a role that nobody measured: as its family's usual
        kin = [_trend(e, n_layers) for role, e in roles.items() if family_of(role) == family_of(tensor.role)]
        share, doubt = math.exp(sum(math.log(one) for one in kin) / len(kin)), 1.0
    else:
        share, doubt = _trend(entry, n_layers), entry["doubt"]
    place = min(1.0, tensor.layer / max(1, n_layers - 1))
    depth = _at(place, table["depth"][family_of(tensor.role)])
    scale = _trend(table["scale"], n_layers) / max(1, n_layers)
    doubt = math.hypot(doubt, table["doubt"]["layer"])
    return PriorAlpha(alpha=scale * share * depth, doubt=doubt, beside=doubt)


def _alias(role: str, roles: Mapping[str, Any]) -> str:
    """The role as the table calls it: fused and gated variants are what they are made of."""
    if role in roles:
        return role
    for old, new in (("gate_up", "up"), ("chexps", "exps"), ("kv_a", "kv_a_mqa"), ("ssm_in", "attn_qkv")):
        if old in role and role.replace(old, new) in roles:
            return role.replace(old, new)
    return role


def _at(place: float, curve: list[float]) -> float:
    """The value of a curve between its points, where logarithms are on a straight line."""
    above = min(max(bisect_right(DEPTHS, place), 1), len(DEPTHS) - 1)
    low, high = DEPTHS[above - 1], DEPTHS[above]
    share = (place - low) / (high - low)
    return float(math.exp((1 - share) * math.log(curve[above - 1]) + share * math.log(curve[above])))


def _trend(entry: Mapping[str, Any], n_layers: int) -> float:
    fewest, most = entry["layers"]  # beyond what was measured, a trend isn't followed
    layers = min(max(n_layers, fewest), most)
    return math.exp(entry["a"] + entry["b"] * math.log(layers / 32))
