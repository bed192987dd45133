"""Types that are recommended run where the file is for, whatever plugins are installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import PlanError, RecipeError
from quantrecipe.fit.offered_types import offered_types
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.target import Target
from quantrecipe.registry import Registry, load_registry
from quantrecipe.targets.runnable import nearest_types


class Foreign(type(load_registry(plugins=False).formats["IQ4_NL"])):  # type: ignore[misc]  # whichever class it has
    """A type of ik_llama.cpp's, as a plugin brings it: blocks of 32, of the size that is asked for below."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    """With a plugin of ik_llama.cpp's types."""
    built_in = load_registry(plugins=False)
    foreign = Foreign()
    spec = replace(built_in.formats["IQ4_NL"].spec, name="IQ4_KS", dialect="ik", ggml_type=144)
    foreign.__class__.spec = spec
    return replace(built_in, formats={**built_in.formats, "IQ4_KS": foreign})


IK = Target(engine="ik_llama.cpp", build=None, device=None, origin=Origin(file="a", line=1))


def test_remedies_for_misfits(registry: Registry, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(hidden=96))
    strict = recipe(rule("ffn_down", "Q4_K"), fallback="error")
    with pytest.raises(PlanError, match=r"e\.g\. IQ4_NL$"):
        make_plan(strict, open_model(path, registry=registry), registry=registry)


def test_nearest_types(registry: Registry) -> None:
    assert "IQ4_KS" not in [spec.name for spec in nearest_types(4.5, registry, None)]
    assert "IQ4_KS" in [spec.name for spec in nearest_types(4.5, registry, IK)][:3]
    names = {spec.name for spec in nearest_types(2.0, registry, None)}
    assert not names & {"TQ2_0", "Q2_0", "MXFP4", "F16"}  # for weights that were trained so, or no smaller


def test_names_that_are_mistyped(registry: Registry) -> None:
    def told(name: str) -> str:
        with pytest.raises(RecipeError) as caught:
            load_recipe_text(f"quantrecipe: 1\nname: a\ndefault: {name}\n", registry=registry)
        return str(caught.value)

    assert "did you mean IQ4_XS or Q4_K or IQ4_NL?" in told("IQ4_XK")
    assert "IQ4_KS" not in told("IQ4_XK")
    assert "IQ4_KS" not in told("NOTHING_LIKE_IT")
    assert "did you mean IQ4_KS" in told("iq4_ks")  # a name but for its case is that name


def test_globs_of_types(registry: Registry) -> None:
    assert "IQ4_KS" not in offered_types(registry, ["IQ4_*"], None)
    assert "IQ4_KS" in offered_types(registry, ["IQ4_*"], IK)
    assert offered_types(registry, ["IQ4_KS"], None) == ("IQ4_KS",)
