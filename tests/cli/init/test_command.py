"""quantrecipe init: a recipe that loads, plans and passes check on every kind of model, also without its comments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.cli.init.first_recipe import first_recipe
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.open_model import open_model
from quantrecipe.model.reference_models import reference_models
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.registry import load_registry

Output = pytest.CaptureFixture[str]
REGISTRY = load_registry(plugins=False)


def uncommented(text: str) -> str:
    """The recipe after somebody has removed the # of all proposals."""
    text = re.sub(r"^  # ", "  ", text, flags=re.M)
    return re.sub(r"^# rules:", "rules:", text, flags=re.M)


BASES = ("llama.cpp/Q4_K_M", "llama.cpp/Q2_K", "llama.cpp/Q8_0")


@pytest.mark.parametrize(
    ("name", "base"),
    # Each model meets one of them, and each of them a third of the models; .ci/run tries all.
    [
        pytest.param(name, base, marks=[pytest.mark.slow] if (number + at) % len(BASES) else [])
        for number, name in enumerate(reference_models())
        for at, base in enumerate(BASES)
    ],
)
def test_every_proposal_fits_every_reference_model(name: str, base: str) -> None:
    model = open_model(name)
    text = first_recipe(model, load_recipe(base, registry=REGISTRY), REGISTRY, extends=base)
    whole = uncommented(text)
    assert yaml.safe_load(whole)["quantrecipe"] == 1
    for version in (text, whole):
        proposed = yaml.safe_load(version).get("rules", [])
        plan = make_plan(
            load_recipe_text(version, registry=REGISTRY), model, registry=REGISTRY, allow_requantize=True
        )
        mine = [it for it in plan.assignments if it.because.startswith("recipe.yaml:")]
        assert len({it.because for it in mine}) == len(proposed)
        assert all(it.wanted is None for it in mine)


def test_what_a_proposal_costs_is_what_it_costs() -> None:
    model = open_model("shapes/qwen3-30b-a3b")
    base = load_recipe("llama.cpp/Q4_K_M", registry=REGISTRY)
    text = first_recipe(model, base, REGISTRY, extends="llama.cpp/Q4_K_M")
    plain = make_plan(base, model, registry=REGISTRY, provenance=False)
    live = make_plan(load_recipe_text(text, registry=REGISTRY), model, registry=REGISTRY, provenance=False)
    more = sum(a.nbytes for a in live.assignments) - sum(a.nbytes for a in plain.assignments)
    assert f"type: Q8_0  # Q6_K in the base; +{more / 2**20:.2f} MiB" in text
    assert '# - tensors: "ffn_{gate,up}_exps"\n  #   type: Q3_K  # Q4_K in the base; -' in text


def test_only_types_that_fit_are_proposed(tmp_path: Path) -> None:
    """Rows of ffn_down have 96 weights, which only blocks of 32 divide."""
    path = tmp_path / "odd.gguf"
    write_gguf(path, llama_tensors(layers=4, hidden=96, vocab=32), llama_metadata(block_count=4))
    model = open_model(path)
    text = first_recipe(model, load_recipe("llama.cpp/Q3_K_M"), REGISTRY, extends="llama.cpp/Q3_K_M")
    mine = {rule["tensors"]: rule["type"] for rule in yaml.safe_load(uncommented(text))["rules"]}
    assert mine == {"head": "Q8_0", "attn_v": "Q6_K", "ffn_down": "Q8_0", "token_embd": "Q2_K"}


def test_a_hostile_name_ends_no_comment(tmp_path: Path) -> None:
    path = tmp_path / "evil.gguf"
    name = "nice\nrules:\u2028- {tensors: head, type: Q2_K, why: mine}\x85\x1b[2J'\"# {"
    metadata = llama_metadata(block_count=2) | {"general.name": GGUFValue.of(ValueType.STRING, name)}
    write_gguf(path, llama_tensors(layers=2, hidden=256, vocab=32), metadata)
    model = open_model(path)
    text = first_recipe(model, load_recipe("llama.cpp/Q4_K_M"), REGISTRY, extends="llama.cpp/Q4_K_M")
    assert "\x1b" not in text
    assert [rule["type"] for rule in yaml.safe_load(text)["rules"]] == ["Q8_0"]


def test_it_is_written_with_its_schema_and_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(
        Path("my model-BF16.gguf"),
        llama_tensors(layers=4, hidden=256, vocab=32),
        llama_metadata(block_count=4),
    )
    assert main(["init", "my model-BF16.gguf"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("my model.yaml is written.")
    assert Path("quantrecipe.schema.json").is_file()
    for line in out.splitlines()[1:]:
        assert main(shlex.split(line)[1:]) == 0, line
    capsys.readouterr()
    assert main(["init", "my model-BF16.gguf"]) == 1  # it is kept
    assert "exists" in capsys.readouterr().err
    assert main(["init", "my model-BF16.gguf", "--force"]) == 0
    assert "quantrecipe.schema.json is there already" in " ".join(capsys.readouterr().err.split())


def test_a_base_that_is_a_file_is_named_from_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes/bases").mkdir(parents=True)
    Path("recipes/bases/a base.yaml").write_text("quantrecipe: 1\ndefault: Q5_K\n", encoding="utf-8")
    line = "init shapes/qwen3-0.6b --extends 'recipes/bases/a base.yaml' -o recipes/mine.yaml --no-schema"
    assert main(shlex.split(line)) == 0
    assert not Path("recipes/quantrecipe.schema.json").exists()
    text = Path("recipes/mine.yaml").read_text(encoding="utf-8")
    assert "$schema" not in text
    assert yaml.safe_load(text)["extends"] == "bases/a base.yaml"
    assert main(["plan", "recipes/mine.yaml", "shapes/qwen3-0.6b"]) == 0


def test_stdout_gets_the_recipe_alone(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "shapes/qwen3-0.6b", "-o", "-"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["name"] == "qwen3-0.6b"
    assert not list(tmp_path.iterdir())
