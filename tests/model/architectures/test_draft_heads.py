"""Draft heads alone: what there is to say where there is none, and what a head needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import read_variant, write_edited, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures import projectors_qwen
from quantrecipe.model.architectures.draft_heads import ALL
from quantrecipe.model.architectures.families import by_class
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.huggingface import open_huggingface
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model

_HEAD = "model.layers.3."


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        for tensor in [it for it in tensors if it.startswith(name)]:
            del tensors[tensor]

    return change


def test_a_model_that_tells_of_no_head(tmp_path: Path) -> None:
    folder = write_edited("glm4moe", tmp_path, without(_HEAD), num_nextn_predict_layers=0)
    with pytest.raises(ModelError, match=r"tells of no draft head .* leave --mtp out"):
        open_model(folder, part="mtp")


def test_a_checkpoint_without_its_head(tmp_path: Path) -> None:
    folder = write_recorded("glm4moe", tmp_path, without(_HEAD))
    with pytest.raises(ModelError, match=r"but the checkpoint has no tensors of it; leave --mtp out"):
        open_model(folder, part="mtp")


def test_a_checkpoint_without_a_head_that_config_json_tells_of_where_only_tensors_count(
    tmp_path: Path,
) -> None:
    folder = write_recorded("qwen35moe", tmp_path, without("mtp."))
    with pytest.raises(ModelError, match="tells of no draft head"):
        open_model(folder, part="mtp")


@pytest.mark.parametrize(
    "lost", [f"{_HEAD}eh_proj.weight", f"{_HEAD}input_layernorm.weight", "model.norm.weight"]
)
def test_a_head_with_a_tensor_too_few(lost: str, tmp_path: Path) -> None:
    folder = write_recorded("glm4moe", tmp_path, without(lost))
    with pytest.raises(ModelError, match=f"{lost.removesuffix('.weight')}.weight' .* is missing"):
        open_model(folder, part="mtp")


def test_what_of_the_layers_is_missing_is_none_of_a_head_s_concern(tmp_path: Path) -> None:
    folder = write_recorded("glm4moe", tmp_path, without("model.layers.0.self_attn.q_proj"))
    assert {it.layer for it in open_model(folder, part="mtp").tensors} == {3, None}


def test_an_architecture_whose_heads_llama_cpp_takes_with_the_model_only(tmp_path: Path) -> None:
    folder = write_recorded("exaonemoe", tmp_path)
    with pytest.raises(ModelError) as caught:
        open_model(folder, part="mtp")
    assert "a draft head alone of the architecture 'ExaoneMoEForCausalLM' can't be converted" in str(
        caught.value
    )
    assert "what can be: the language model; leave --mmproj and --mtp out" in str(caught.value)


def test_a_class_that_is_known_for_a_projector_only(tmp_path: Path) -> None:
    folder = write_recorded("qwen3vl", tmp_path)
    with pytest.raises(ModelError, match=r"the language model .* can't be .* a projector; say --mmproj"):
        open_huggingface(folder, open_checkpoint(folder), by_class(projectors_qwen.ALL))


def test_refusals_of_the_model_are_refusals_of_its_head(opened: Callable[..., Model]) -> None:
    kinds = read_variant("step35")["config"]["partial_rotary_factors"]
    with pytest.raises(ModelError, match="rotates other parts of heads"):
        opened("step35", part="mtp", partial_rotary_factors=[0.75] * len(kinds))


def test_each_has_a_layout_that_tells_its_heads() -> None:
    assert all(arch.part == "mtp" and arch.layout.present is not None for arch in ALL)
    assert len({name for arch in ALL for name in arch.classes}) >= len(ALL)
