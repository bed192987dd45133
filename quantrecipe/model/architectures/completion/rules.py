"""Rules by which hyper-parameters follow from others, and what rules are made of.

A rule fills a key that is missing or null, or, with `always`, replaces what config.json says. FILLS has the rules that
many classes share. `derived.py` has those of single classes, made with the functions below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = [
    "FILLS",
    "MAX_LAYERS",
    "Rule",
    "Values",
    "all_layers",
    "always",
    "auto",
    "dense_first",
    "derive",
    "every",
    "fill",
    "kinds",
    "layers",
    "mamba_heads",
    "period",
    "rank",
]

Values: TypeAlias = Mapping[str, Any]

MAX_LAYERS = 10_000
"""More layers than this are an error of config.json. No list is made for them."""

_MALFORMED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How one hyper-parameter follows from others.

    key:    its name in config.json
    value:  makes it; what it raises for values of a wrong kind means that nothing follows
    takes:  the names that it needs
    always: True where it replaces what config.json says
    """

    key: str
    value: Callable[[Values], Any]
    takes: frozenset[str] = frozenset()
    always: bool = False


def derive(values: dict[str, Any], rules: Iterable[Rule]) -> None:
    """Apply the rules to `values`, in their order.

    A value of a wrong kind makes no rule fail: whoever asks for that value refuses it, with its name.
    """
    for rule in rules:
        if rule.always or values.get(rule.key) is None:
            try:
                values[rule.key] = rule.value(values)
            except _MALFORMED:
                continue


_EVEN = frozenset({"hidden_size", "num_attention_heads"})
_LATENT = frozenset({"qk_nope_head_dim", "qk_rope_head_dim"})


def _even(v: Values) -> Any:
    """The heads share the hidden size."""
    return v["hidden_size"] // v["num_attention_heads"]


def _rotary_part(v: Values) -> Any:
    """Classes with latent attention call the rotary part of a head its length."""
    return v["qk_rope_head_dim"]


FILLS: Mapping[str, Rule] = {
    "head_dim": Rule(key="head_dim", value=_even, takes=_EVEN),
    "head_dim, always": Rule(key="head_dim", value=_even, takes=_EVEN, always=True),
    "rotary head_dim": Rule(key="head_dim", value=_rotary_part, takes=_LATENT),
    "rotary head_dim, always": Rule(key="head_dim", value=_rotary_part, takes=_LATENT, always=True),
    "qk_head_dim": Rule(
        key="qk_head_dim", value=lambda v: v["qk_nope_head_dim"] + v["qk_rope_head_dim"], takes=_LATENT
    ),
    "num_key_value_heads": Rule(
        key="num_key_value_heads",
        value=lambda v: v["num_attention_heads"],
        takes=frozenset({"num_attention_heads"}),
    ),
}
"""Rules by the names that defaults.json uses for them."""


def layers(v: Values) -> range:
    """The numbers of the layers. ValueError where no list of so many is made."""
    count = v["num_hidden_layers"]
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_LAYERS:
        raise ValueError(count)
    return range(count)


def kinds(
    full: Callable[[Values, int], Any],
    others: str = "sliding_attention",
    full_name: str = "full_attention",
    key: str = "layer_types",
) -> Rule:
    """The kind of each layer: `full_name` for those that `full` says, `others` for the rest."""
    return Rule(key=key, value=lambda v: [full_name if full(v, i) else others for i in layers(v)])


def period(name: str, default: int | None = None) -> Callable[[Values, int], bool]:
    """The last layer of each period. `name` is the key that says how long a period is."""

    def last(v: Values, layer: int) -> bool:
        period: int = v[name] if default is None else v.get(name, default)
        return (layer + 1) % period == 0

    return last


def every(period: int) -> Callable[[Values, int], bool]:
    return lambda v, layer: (layer + 1) % period == 0


def all_layers(kind: str, key: str = "layer_types") -> Rule:
    return Rule(key=key, value=lambda v: [kind for _ in layers(v)])


def dense_first(count: Callable[[Values], int]) -> Rule:
    """Which layers have experts ("sparse"): all but so many at the beginning."""
    return Rule(
        key="mlp_layer_types",
        value=lambda v: ["dense" if layer < count(v) else "sparse" for layer in layers(v)],
    )


def always(key: str, value: Callable[[Values], Any]) -> Rule:
    return Rule(key=key, value=value, always=True)


def fill(key: str, value: Callable[[Values], Any]) -> Rule:
    return Rule(key=key, value=value)


def auto(key: str, value: Callable[[Values], int]) -> Rule:
    """A length that config.json may leave open with the word "auto"."""
    return always(key, lambda v: value(v) if v[key] == "auto" else v[key])


def rank(key: str) -> Rule:
    """Mamba's rank of the time step."""
    return auto(key, lambda v: math.ceil(v["hidden_size"] / 16))


def mamba_heads(inner: Callable[[Values], int]) -> Rule:
    return auto("mamba_d_head", lambda v: inner(v) // v["mamba_n_heads"])
