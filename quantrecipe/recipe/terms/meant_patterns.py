"""What a pattern that names no tensor may have meant: Hugging Face's names, other tools' words, a slip.

    v_proj                                   attn_v
    model.layers.3.self_attn.q_proj          blk.3.attn_q
    block_sparse_moe.experts                 ffn_{gate,up,down}_exps
    lm_head                                  head
    experts, mlp, attn                       ffn_*_exps, ffn_*, attn_*

Hugging Face's names are those of gguf's tensor name map, by which llama.cpp converts models. It is read only here,
where something has gone wrong already.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.globs import written_out
from quantrecipe.recipe.terms.pattern import HEAD, Pattern
from quantrecipe.recipe.writing.braces import braced
from quantrecipe.tensor import TensorInfo, split_name

__all__ = ["is_llama_cpp_s", "meant", "meant_in_any_model"]

_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attention": ("attn_*",),
        "attn": ("attn_*",),
        "self_attn": ("attn_*",),
        "qkv": ("attn_qkv", "attn_{q,k,v}"),
        "kv": ("attn_{k,v}", "attn_kv_*"),
        "mlp": ("ffn_*",),
        "ffn": ("ffn_*",),
        "feed_forward": ("ffn_*",),
        "expert": ("ffn_*_exps",),
        "experts": ("ffn_*_exps",),
        "exps": ("ffn_*_exps",),
        "moe": ("ffn_*_exps",),
        "shared_expert": ("ffn_*_shexp",),
        "shared_experts": ("ffn_*_shexp",),
        "shexp": ("ffn_*_shexp",),
        "router": ("ffn_gate_inp",),
        "embed": ("token_embd",),
        "embedding": ("token_embd",),
        "embeddings": ("token_embd",),
        "embd": ("token_embd",),
        "output_head": (HEAD,),
        "logits": (HEAD,),
        "norm": ("*_norm",),
        "norms": ("*_norm",),
        "layernorm": ("*_norm",),
        "all": ("*",),
        "q": ("attn_q",),
        "k": ("attn_k",),
        "v": ("attn_v",),
        "o": ("attn_output",),
        "gate": ("ffn_gate", "ffn_gate_exps", "ffn_gate_inp"),
        "up": ("ffn_up", "ffn_up_exps"),
        "down": ("ffn_down", "ffn_down_exps"),
    }
)
"""What people and other tools call tensors by, and the patterns that stand for it, of which a model has some."""

_OUTPUT = "output"
_FRAMES = frozenset(
    {"model", "layers", "layer", "blk", "language_model", "transformer", "weight", "base_model"}
)
"""Parts of names that lead to a tensor, and say nothing of which it is."""
_UNUSUAL = "time_mix"
"""RWKV's, whose names are those of everybody's attention."""
_MOST = 3
"""Alternatives, and reasons, that a hint looks at: more is no hint."""
_USUAL = 5
"""Names that end in `down_proj`, for one role: enough to doubt a role for which there is one."""
_LONGEST = 200
"""Characters of a pattern that are compared with names: get_close_matches is quadratic."""


def meant(text: str, roles: Collection[str]) -> str:
    """Say in one or two sentences what a pattern may have meant that fits no tensor; "" if nobody knows.

    roles: of the tensors that there are; only these are proposed
    """
    found: dict[str, str] = {}
    try:
        globs = _globs(text)
    except RecipeError:  # no pattern: whoever reads it says why
        return ""
    for glob in globs:
        for proposal, reason in _proposals(glob, roles):
            found.setdefault(proposal, reason)
    reasons = "; ".join(list(dict.fromkeys(filter(None, found.values())))[:_MOST])
    proposals = [repr(it) for it in found if it][: 2 * _MOST]
    if not proposals:
        return reasons
    return " ".join(filter(None, (f"did you mean {' or '.join(proposals)}?", reasons)))


def meant_in_any_model(text: str) -> str:
    """Say the same where no model is known; "" if it isn't Hugging Face's name of a tensor."""
    hint = meant(text, {tensor.role for tensor in _llama_cpp_s()})
    return hint if "GGUF" in hint else ""


def is_llama_cpp_s(pattern: Pattern) -> bool:
    """Say whether llama.cpp has a tensor that the pattern names, in any architecture."""
    return any(pattern.matches(tensor, None) for tensor in _llama_cpp_s())


@cache
def _llama_cpp_s() -> tuple[TensorInfo, ...]:
    """Return a tensor of every name that llama.cpp has; of those in blocks, the one of block 0."""
    from gguf.constants import TENSOR_NAMES

    names = {name.format(bid=0, xid=0) for name in TENSOR_NAMES.values()}
    return tuple(TensorInfo.from_name(f"{name}.weight", (1, 1), "F32") for name in sorted(names))


def _globs(text: str) -> list[str]:
    """Return the pattern's alternatives; of a regular expression, the names in it."""
    text = text[:_LONGEST]
    if text.startswith("regex:"):
        plain = text.removeprefix("regex:").replace("\\.", ".").replace("\\d", "")
        return [it.strip("._") for it in re.findall(r"[A-Za-z][\w.]*", plain) if len(it) > 2][:_MOST]
    return written_out(text)[:_MOST]


def _proposals(glob: str, roles: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield patterns, or "" if the model has none, each with the reason, "" if it is plain."""
    layer = next((part for part in glob.split(".") if part.isdigit()), None)
    words = tuple(part for part in glob.lower().split(".") if not _says_nothing(part))
    name = ".".join(words)
    known = _WORDS.get(name, ()) or _WORDS.get(words[-1] if words else "", ())
    whole = tuple(part for part in glob.lower().removesuffix(".weight").split(".") if not part.isdigit())
    hugging = list(dict.fromkeys(role for parts, role in _names() if parts == whole and len(whole) > 1))
    if hugging:
        name = ".".join(whole)
    elif words and (len(words) > 1 or not known):
        hugging = _roles_of(words)
    if hugging == [_OUTPUT]:
        yield (
            HEAD,
            f"Hugging Face's {name} is output in GGUF, token_embd where they are tied, and head either way",
        )
    elif hugging:
        there = [role for role in hugging if role in roles]
        if any(not role.startswith(_UNUSUAL) for role in there):
            there = [role for role in there if not role.startswith(_UNUSUAL) and ".blk." not in role]
        elsewhere = [role for role in hugging if not role.startswith(_UNUSUAL) and ".blk." not in role]
        shown = braced(there or (elsewhere or hugging)[:_MOST])
        said = f"Hugging Face's {name} is {' or '.join(shown)} in GGUF"
        for role in shown if there else ():
            yield (f"blk.{layer}.{role}" if layer is not None else role), said
        if not there:
            yield "", f"{said}, and the model has none"
    elif known:
        there = [pattern for pattern in known if pattern == HEAD or _fits(pattern, roles)]
        yield from ((pattern, "") for pattern in there)
        if not there:
            yield "", f"{name} would be {' or '.join(known)} in GGUF, and the model has none"
    else:
        yield from _close(glob, roles)


def _close(glob: str, roles: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the role that looks most like it; the role itself if only the layer is wrong."""
    block, role = split_name(glob)
    if block is not None and role in roles:
        yield role, "the model has no such layer"
        return
    candidates = {it.lower(): it for it in roles}
    for close in get_close_matches(role.lower()[:_LONGEST], candidates, n=1, cutoff=0.7):
        yield candidates[close], ""


def _says_nothing(part: str) -> bool:
    return part.isdigit() or part in _FRAMES or not re.search(r"[a-z]", re.sub(r"\[[^]]*\]", "", part))


def _fits(pattern: str, roles: Iterable[str]) -> bool:
    parsed = Pattern.parse(pattern)
    return any(
        parsed.matches(TensorInfo(name=role, shape=(1, 1), dtype="F32", layer=None, role=role), None)
        for role in roles
    )


def _roles_of(words: tuple[str, ...]) -> list[str]:
    """Return the roles of the tensors that Hugging Face calls so, the most usual first.

    Names that end in these words come before those that have them elsewhere: `mlp.gate` is a router, and no expert's
    gate. What one model alone calls so, where it is something else for all others, is left out.
    """
    n = len(words)
    found: list[dict[str, int]] = [{}, {}]
    for name, role in _names():
        parts = tuple(part for part in name if part not in _FRAMES)
        if parts[-n:] == words:
            kind = found[0]
        elif any(parts[i : i + n] == words for i in range(len(parts) - n)):
            kind = found[1]
        else:
            continue
        kind[role] = kind.get(role, 0) + 1
    counts = next(filter(None, found), {})
    usual = max(counts.values(), default=0) >= _USUAL
    kept = [role for role, count in counts.items() if count > 1 or not usual]
    return sorted(kept, key=lambda role: -counts[role])


@cache
def _names() -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return every name of Hugging Face's in parts, without numbers, with the role in GGUF."""
    from gguf.constants import TENSOR_NAMES
    from gguf.tensor_mapping import TensorNameMap

    tables = [TensorNameMap.mappings_cfg, TensorNameMap.block_mappings_cfg]
    tables += TensorNameMap.arch_block_mappings_cfg.values()
    found: dict[tuple[tuple[str, ...], str], None] = {}
    for table in tables:
        for tensor, names in table.items():
            _, role = split_name(TENSOR_NAMES[tensor].format(bid=0, xid=0))
            for name in names:
                parts = tuple(part for part in name.lower().split(".") if "{" not in part)
                found[parts, role] = None
    return tuple(found)
