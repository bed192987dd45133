"""first_recipe: what a person begins with who has a model and no recipe yet.

    # yaml-language-server: …
    # what the model is, and what each kind of tensor takes in the base
    quantrecipe: 1
    name: …
    extends: llama.cpp/Q4_K_M
    rules:
      - tensors: head            the one rule that isn't a comment
      # - tensors: attn_v        rules for what this model has, each with its cost in bytes

A proposal is made only where its type fits all tensors that it names, so that whoever removes the # gets what stands
there, and no fallback.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantrecipe.cli.output_files import model_stem
from quantrecipe.cli.units import bytes_text, count_text, counted, shape_text
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.wording import shortened

if TYPE_CHECKING:
    from quantrecipe.model.model import Model
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["first_recipe"]

_LADDER = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "BF16")
"""Types that need no importance matrix and run everywhere, by their bits."""

_ROLES = 14
"""Lines of the table: a mixture of experts with latent attention has as many kinds of matrices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Idea:
    """What may be worth another type.

    pattern: as a recipe says it
    roles:   a regular expression for the roles that it names
    up:      more bits than in the base, or fewer
    layers:  of the rule; "" for all
    """

    pattern: str
    roles: str
    why: str
    up: bool = True
    layers: str = ""


_IDEAS = (
    _Idea(
        pattern="attn_v",
        roles="attn_v",
        layers="first 2, last 2",
        why="what attention copies goes through these; under grouped queries they are small",
    ),
    _Idea(
        pattern='"attn_{k_b,v_b,kv_b,kv_a_mqa}"',
        roles="attn_(k_b|v_b|kv_b|kv_a_mqa)",
        why="in latent attention all keys and values are read from these, and they are small",
    ),
    _Idea(pattern="attn_qkv", roles="attn_qkv", why="queries, keys and values share this matrix"),
    _Idea(
        pattern="ffn_down", roles="ffn_down", layers="last 1/8", why="nothing mends what the last layers lose"
    ),
    _Idea(
        pattern='"ssm_{in,out}"',
        roles="ssm_(in|out)",
        why="errors in a recurrent state pile up over the tokens",
    ),
    _Idea(pattern='"*_shexp"', roles=".*_shexp", why="every token passes through the shared expert"),
    _Idea(
        pattern='"ffn_{gate,up}_exps"',
        roles="ffn_(gate|up|gate_up)_exps",
        up=False,
        why="most of the file; a token passes few of the experts",
    ),
    _Idea(
        pattern="token_embd",
        roles="token_embd",
        up=False,
        why="each token looks up one row, so errors don't add up",
    ),
)
"""In the order of the file. Sources: recipes/evidence/README.md."""


def first_recipe(
    model: Model, base: Recipe, registry: Registry, *, extends: str, schema: str | None = None
) -> str:
    """The YAML of a first recipe for the model.

    extends: how the recipe names its base; schema: path of the schema, for editors. PlanError where the base can't be
    planned on the model.
    """
    from quantrecipe.cli.planned.inputs import PlanInputs

    plan = PlanInputs(registry=registry, assume_imatrix=True, allow_requantize=True).plan(base, model)
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines += [f"# {it}" if it else "#" for it in _about(model, plan, base.name)]
    title = _title(model)
    lines += ["quantrecipe: 1", f"name: {_slug(title)}"]
    lines += [f"summary: {json.dumps(f'{title}: {base.name} with a more careful head', ensure_ascii=False)}"]
    lines += [f"extends: {json.dumps(extends, ensure_ascii=False) if _needs_quotes(extends) else extends}"]
    rules = list(_rules(plan, registry))
    if any(not line.startswith("  #") for line in rules):
        lines += ["rules:", *rules]
    elif rules:
        lines += ["# rules:", *rules]
    return "\n".join(lines) + "\n"


def _about(model: Model, plan: Plan, base: str) -> Iterator[str]:
    title = _title(model)
    yield (
        f"{title}: {model.arch}, {counted(model.n_layers, 'layer')}, "
        f"{count_text(plan.size)} weights. With {base}: {bytes_text(plan.nbytes)},"
    )
    yield f"{plan.bits_per_weight:.2f} bits per weight. What each kind of tensor takes there:"
    yield ""
    by_role: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        if a.format.spec.block > 1:
            by_role.setdefault(a.tensor.role, []).append(a)
    total = sum(a.nbytes for a in plan.assignments) or 1
    most = sorted(by_role.items(), key=lambda it: (-sum(a.nbytes for a in it[1]), it[0]))
    rows = [
        (
            _in_a_line(role),
            str(len(members)),
            shape_text(members[0].tensor.shape),
            ", ".join(dict.fromkeys(a.type for a in members)),
            f"{100 * sum(a.nbytes for a in members) / total:.1f} %",
        )
        for role, members in most[:_ROLES]
    ]
    rows.insert(0, ("role", "tensors", "shape", "type", "share of the bytes"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for role, count, *rest, share in rows:
        cells = (f"{it:{width}}" for it, width in zip(rest, widths[2:], strict=True))
        yield f"  {role:{widths[0]}}  {count:>{widths[1]}}  {'  '.join(cells)}  {share}"
    if len(most) > _ROLES:
        yield f"  and {counted(len(most) - _ROLES, 'more role', 'more roles')}: `quantrecipe inspect MODEL --roles`"
    yield ""
    yield "The first rule that matches a tensor decides; the rules of the base come after these."


def _rules(plan: Plan, registry: Registry) -> Iterator[str]:
    """Lines of the rules, the head's first; all others are comments."""
    head = [a for a in plan.assignments if a.tensor.name == plan.model.head and a.format.spec.block > 1]
    if to := _other(head, registry, up=True, least="Q8_0"):
        yield from _rule("head", to, "close calls between tokens are settled here", _cost(head, to, registry))
    for idea in _IDEAS:
        members = [
            a
            for a in plan.assignments
            if re.fullmatch(idea.roles, a.tensor.role)
            and a.format.spec.block > 1
            and a not in head
            and (not idea.layers or LayerSet.parse(idea.layers).contains(a.tensor.layer, plan.model.n_layers))
        ]
        if not (to := _other(members, registry, up=idea.up)):
            continue
        lines = _rule(idea.pattern, to, idea.why, _cost(members, to, registry), idea.layers)
        yield from (f"  # {line[2:]}" for line in lines)


def _rule(pattern: str, to: str, why: str, cost: str, layers: str = "") -> Iterator[str]:
    yield f"  - tensors: {pattern}"
    if layers:
        yield f"    layers: {layers}"
    yield f"    type: {to}  # {cost}"
    yield f"    why: {why}"


def _other(members: Sequence[Assignment], registry: Registry, *, up: bool, least: str = "") -> str | None:
    """The next type of the ladder that all members accept; None where there is none."""
    if not members:
        return None
    bits = [a.format.spec.bits_per_weight for a in members]
    steps = [registry.formats[name] for name in _LADDER if name in registry.formats]
    if least:
        steps = [
            it for it in steps if it.spec.bits_per_weight >= registry.formats[least].spec.bits_per_weight
        ]
    fitting = [it for it in steps if all(it.accepts(a.tensor) is None for a in members)]
    if up:
        found = [it for it in fitting if it.spec.block > 1 and it.spec.bits_per_weight > max(bits)]
        return found[0].spec.name if found else None
    found = [it for it in fitting if it.spec.bits_per_weight < min(bits)]
    return found[-1].spec.name if found else None


def _cost(members: Sequence[Assignment], to: str, registry: Registry) -> str:
    spec = registry.formats[to].spec
    more = sum(spec.tensor_bytes(a.tensor.shape) - a.nbytes for a in members)
    now = ", ".join(dict.fromkeys(a.type for a in members))
    return f"{now} in the base; {'+' if more >= 0 else '-'}{bytes_text(abs(more))}"


def _title(model: Model) -> str:
    value = model.metadata.get("general.name")
    name = value.decode() if value is not None else None
    return _in_a_line(name if isinstance(name, str) and name.strip() else model_stem(model.path))


def _in_a_line(text: str) -> str:
    """A text of the file, which may be a stranger's: nothing in it ends the line, or the comment that it stands in."""
    return shortened("".join(it if it.isprintable() else " " for it in text).strip())


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.") or "mine"


def _needs_quotes(text: str) -> bool:
    return not re.fullmatch(r"[A-Za-z0-9_./@-]+", text)
