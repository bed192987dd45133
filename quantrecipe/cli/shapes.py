"""quantrecipe shapes: the reference models, which recipes can be tried on without any weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.model.model import Model

__all__ = ["command"]


@subcommand("shapes", "quantrecipe shapes", "quantrecipe plan llama.cpp/Q4_K_M shapes/qwen3-30b-a3b")
@json_option
@pass_context
def command(ctx: Context, as_json: bool) -> None:
    """List the reference models: well-known models without their weights.

    Their names stand wherever MODEL does. They are planned as the models themselves would be, without the tokenizer.
    """
    from quantrecipe.model.open_model import open_model
    from quantrecipe.model.reference_models import reference_models

    models = [_facts(open_model(name)) for name in reference_models()]
    if as_json:
        ctx.print_json(models)
    else:
        ctx.console.print(_table(models))


def _facts(model: Model) -> dict[str, Any]:
    from quantrecipe.plan.condition_facts import model_facts

    facts = model_facts(model, has_importance=False)
    return {
        "name": str(model.path),
        "architecture": model.arch,
        "kind": _kind(model, facts["n_expert"]),
        "layers": facts["n_layers"],
        "experts": facts["n_expert"],
        "weights": sum(tensor.size for tensor in model.tensors),
    }


def _kind(model: Model, n_expert: int) -> str:
    """What a recipe has to reckon with: experts, latent attention, recurrent layers."""
    roles = {tensor.role for tensor in model.tensors}
    words = ["experts"] if n_expert else ["dense"]
    if "attn_kv_a_mqa" in roles:
        words.append("latent attention")
    if "ssm_out" in roles:
        words.append("recurrent layers")
    return ", ".join(words)


def _table(models: list[dict[str, Any]]) -> Any:
    from quantrecipe.cli.tables import Table, numbers
    from quantrecipe.cli.units import count_text

    rows = [
        (
            model["name"],
            count_text(model["weights"]),
            str(model["layers"]),
            str(model["experts"] or ""),
            model["architecture"],
            model["kind"],
        )
        for model in models
    ]
    return Table(
        {"model": "name", **numbers("weights", "layers", "experts"), "architecture": "word", "kind": "text"},
        rows,
    )
