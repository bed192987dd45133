"""The recorded recipe, and the types that it gives, held against the file alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.made_files import MIX, Made, findings, made_file, rewritten
from support.models import llama_tensors

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.output.verify.verification import Finding, Verification
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    return made_file(tmp_path_factory.mktemp("expected"), registry)


def said(verification: Verification, name: str) -> tuple[str, str]:
    (check,) = (check for check in verification.checks if check.name == name)
    return check.status, check.said


def with_pairs(made: Made, registry: Registry, **pairs: str) -> Verification:
    values = {key.replace("__", "."): GGUFValue.of(ValueType.STRING, text) for key, text in pairs.items()}
    return verify_file(
        rewritten(made.path, lambda before, tensors: (before | values, tensors)), registry=registry
    )


def test_what_was_checked(made: Made, registry: Registry) -> None:
    verification = verify_file(made.path, registry=registry)
    assert said(verification, "recipe") == ("ok", "'mix', 1 rules")
    assert said(verification, "types") == ("ok", f"{len(made.plan.assignments)} tensors")


@pytest.mark.parametrize("missing", ["quantrecipe.recipe", "quantrecipe.recipe.digest"])
def test_without_a_recipe(made: Made, registry: Registry, missing: str) -> None:
    path = rewritten(
        made.path, lambda pairs, tensors: ({k: v for k, v in pairs.items() if k != missing}, tensors)
    )
    verification = verify_file(path, registry=registry)
    assert said(verification, "recipe") == ("skipped", "no recipe is recorded in it")
    assert said(verification, "types") == ("skipped", "there is no recipe to hold the types against")


def test_a_recipe_that_doesn_t_load(made: Made, registry: Registry) -> None:
    verification = with_pairs(made, registry, quantrecipe__recipe=MIX + "defaultt: Q4_K\n")
    (finding,) = findings(verification, "recipe")
    assert finding.what.startswith("the recorded recipe doesn't load: rewritten.gguf:recipe:")
    assert said(verification, "types")[0] == "skipped"


def test_a_recipe_of_another_digest(made: Made, registry: Registry) -> None:
    verification = with_pairs(made, registry, quantrecipe__recipe__digest="0" * 32)
    path = made.path.with_name("rewritten.gguf")
    what = f"the recorded recipe has the digest {made.plan.recipe_digest}, but the file says {'0' * 32}"
    assert Finding(what=what, file=path) in findings(verification, "recipe")
    assert said(verification, "types")[0] == "ok"


def test_another_type(made: Made, tmp_path: Path, registry: Registry) -> None:
    """The recipe has been exchanged, with its digest."""
    other = made_file(tmp_path, registry, MIX.replace("Q6_K", "Q5_K"))
    recorded = {key: other.plan.metadata[key] for key in ("quantrecipe.recipe", "quantrecipe.recipe.digest")}
    path = rewritten(made.path, lambda pairs, tensors: (pairs | recorded, tensors))
    found = findings(verify_file(path, registry=registry), "types")
    assert [it.tensor for it in found] == ["blk.0.attn_v.weight", "blk.1.attn_v.weight"]
    assert {it.what for it in found} == {"is Q6_K, and the recipe makes it Q5_K (rewritten.gguf:recipe:9)"}


def test_a_tensor_of_another_name(made: Made, registry: Registry) -> None:
    """The recipe's own tensors are those of the file, so that a stranger gets what the default says."""
    path = rewritten(
        made.path,
        lambda pairs, tensors: (
            pairs,
            [
                replace(t, name="blk.0.attn_z.weight") if t.name == "blk.0.attn_v.weight" else t
                for t in tensors
            ],
        ),
    )
    (finding,) = findings(verify_file(path, registry=registry), "types")
    assert finding.tensor == "blk.0.attn_z.weight"
    assert finding.what.startswith("is Q6_K, and the recipe makes it Q8_0 (")


def test_conditions_that_ask_for_a_matrix(tmp_path: Path, registry: Registry) -> None:
    """The file records that there was one."""
    entries = {"blk.0.attn_q.weight": (np.ones((1, 256), np.float32), [1.0])}
    importance = read_importance(write_gguf_imatrix(tmp_path / "i.gguf", entries))
    text = MIX.replace("why: values", "why: values, when: has_importance")
    made = made_file(tmp_path, registry, text, importance=importance)
    assert made.assignment("blk.0.attn_v.weight").type == "Q6_K"
    assert said(verify_file(made.path, registry=registry), "types")[0] == "ok"
    (tmp_path / "bare").mkdir()
    bare = made_file(tmp_path / "bare", registry, text)
    assert bare.assignment("blk.0.attn_v.weight").type == "Q8_0"
    assert said(verify_file(bare.path, registry=registry), "types")[0] == "ok"


def test_ranks_are_those_of_the_file(tmp_path: Path, registry: Registry) -> None:
    """Its shards are the source's, so the order in which tensors were ranked is that of the file."""
    shards = {name: 0 if name.startswith("blk.1.") else 1 for name in llama_tensors()}
    text = MIX.replace("why: values", "why: values, when: rank == 0")
    made = made_file(tmp_path, registry, text, split=SplitLimits(shards=shards))
    types = {name: made.assignment(name).type for name in ("blk.0.attn_v.weight", "blk.1.attn_v.weight")}
    assert types == {"blk.0.attn_v.weight": "Q8_0", "blk.1.attn_v.weight": "Q6_K"}
    assert said(verify_file(made.path, registry=registry), "types")[0] == "ok"
