"""Recipes as texts, linted on models made of a few shapes."""

from __future__ import annotations

import json
from pathlib import Path

from quantrecipe.lint import GivenModel, Report, lint
from quantrecipe.model.open_model import open_model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.registry import load_registry
from quantrecipe.targets import load_targets

REGISTRY = load_registry(plugins=False)
TARGETS = load_targets()
HEAD = "quantrecipe: 1\nname: test\n"
REFERENCE = (
    "shapes/qwen3-0.6b",
    "shapes/meta-llama-3.1-8b-instruct",
    "shapes/qwen3-30b-a3b",
    "shapes/qwen3.6-27b",
)


def reference(*names: str) -> list[GivenModel]:
    """Reference models; a few of all kinds if none are named."""
    return [GivenModel(name=name, model=open_model(name), reference=True) for name in names or REFERENCE]


def given(*names: str) -> list[GivenModel]:
    """The same models as the ones that the recipe is for."""
    return [GivenModel(name=name, model=open_model(name)) for name in names]


def small_model(folder: Path, layers: int = 4, cols: int = 256) -> GivenModel:
    """A dense model of few layers, with rows of this length."""
    shapes = {
        "quantrecipe_shapes": 1,
        "architecture": "llama",
        "metadata": {"llama.block_count": layers},
        "tensors": [
            {"name": "token_embd.weight", "type": "BF16", "shape": [512, cols]},
            {"name": "output.weight", "type": "BF16", "shape": [512, cols]},
            *(
                {
                    "name": f"blk.*.{role}.weight",
                    "layers": f"0-{layers - 1}",
                    "type": "BF16",
                    "shape": [256, cols],
                }
                for role in ("attn_v", "attn_output", "ffn_down", "ffn_up")
            ),
            {"name": "blk.*.attn_norm.weight", "layers": f"0-{layers - 1}", "type": "F32", "shape": [cols]},
        ],
    }
    path = folder / f"small-{layers}-{cols}.json"
    path.write_text(json.dumps(shapes), encoding="utf-8")
    return GivenModel(name=path.name, model=open_shapes(path))


def report(
    folder: Path, text: str, models: list[GivenModel] | None = None, *, strict: bool = False
) -> Report:
    """The report of a recipe; the text begins after the version and the name, so that its first line is line 3."""
    path = folder / "recipe.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    models = reference() if models is None else models
    return lint(str(path), registry=REGISTRY, targets=TARGETS, models=models, strict=strict)


def found(
    folder: Path, text: str, models: list[GivenModel] | None = None
) -> list[tuple[str, str, int | None]]:
    """Code, severity and line of each finding."""
    return [(it.code, it.severity, it.problem.line) for it in report(folder, text, models).findings]


def what(folder: Path, text: str, code: str, models: list[GivenModel] | None = None) -> str:
    """What the one finding of this code says, remedy included."""
    (finding,) = (it for it in report(folder, text, models).findings if it.code == code)
    return f"{finding.problem.what}; {finding.problem.remedy}"
