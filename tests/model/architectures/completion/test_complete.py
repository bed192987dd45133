"""Configurations that are silent, completed as transformers completes them.

tests/data/completion.jsonl has a configuration for each model type, made at random, and what transformers makes of it
beyond the defaults of its class (tools/make_defaults.py --record).
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.model.architectures.completion import complete, completed, known_model_types
from quantrecipe.packaged import packaged_table

RECORDED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (given, expected)
    for line in (Path(__file__).parents[3] / "data/completion.jsonl").read_text().splitlines()
    for given, expected in [json.loads(line)]
]
NOT_RECORDED = {
    "gemma3n_vision",  # transformers refuses
    "gemma4_assistant",  # whatever is made at random
    "gpt-sw3",  # GPT-2's class
}


def missing(expected: dict[str, Any], got: dict[str, Any]) -> dict[str, Any]:
    """What `expected` says and `got` doesn't."""
    found = {}
    for key, value in expected.items():
        of = got.get(key)
        if isinstance(value, dict) and isinstance(of, dict) and key.endswith("_config"):
            found |= {f"{key}.{name}": it for name, it in missing(value, of).items()}
        elif value != of:
            found[key] = (value, of)
    return found


@pytest.mark.parametrize(("given", "expected"), RECORDED, ids=[given["model_type"] for given, _ in RECORDED])
def test_as_transformers(given: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(given)
    assert missing(expected, completed(given)) == {}
    assert given == before


def test_every_model_type_is_recorded() -> None:
    assert {given["model_type"] for given, _ in RECORDED} == known_model_types() - NOT_RECORDED


def test_the_table() -> None:
    """Its version, no null, and only parts and rules that exist."""
    table = packaged_table("model/architectures/defaults.json")
    assert (table["version"], table["transformers"]) == (1, "5.24.0")
    for kind, line in table["model_types"].items():
        assert line.keys() <= {"values", "aliases", "rope", "fills", "parts"}, kind
        assert None not in line.get("values", {}).values(), kind
        assert {part["model_type"] for part in line.get("parts", {}).values()} <= known_model_types(), kind


def test_llama() -> None:
    assert complete({"model_type": "llama", "hidden_size": 96, "num_attention_heads": 6}) == {
        "model_type": "llama", "hidden_size": 96, "num_attention_heads": 6,
        "vocab_size": 32000, "intermediate_size": 11008, "num_hidden_layers": 32, "num_key_value_heads": 6,
        "head_dim": 16, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    }  # fmt: skip


def test_what_config_json_says_wins() -> None:
    given = {"model_type": "qwen3", "head_dim": 64, "hidden_act": None, "rms_norm_eps": 1e-5, "own": [1]}
    assert complete(given).items() >= given.items()
    assert complete(given)["hidden_act"] is None
    assert complete(given)["num_hidden_layers"] == 32


def test_another_name_is_joined_by_the_class_s_own() -> None:
    found = complete({"model_type": "gpt2", "hidden_size": 48, "n_head": 4, "num_attention_heads": 6})
    assert (found["hidden_size"], found["n_embd"]) == (48, 48)
    assert (found["num_attention_heads"], found["n_head"]) == (6, 4)
    assert found["n_layer"] == 12


@pytest.mark.parametrize("kind", ["internlm2", None, 5, ["llama"], "nemotron_h"])
def test_classes_that_are_not_known_stay_as_they_are(kind: Any) -> None:
    given = {"model_type": kind, "hidden_size": 8, "rope_scaling": {"type": "dynamic"}}
    assert complete(given) == given


class TestTheLanguageModel:
    def test_moves_to_the_root_whose_other_keys_stay(self) -> None:
        text = {"hidden_size": 64, "num_attention_heads": 2}
        given = {"model_type": "gemma3", "image_token_index": 5, "hidden_size": 7, "text_config": text}
        found = complete(given)
        assert (found["hidden_size"], found["image_token_index"], found["mm_tokens_per_image"]) == (
            64,
            5,
            256,
        )
        assert (found["model_type"], found["head_dim"]) == ("gemma3_text", 256)
        assert found["vision_config"]["patch_size"] == 16
        assert found["text_config"].items() <= found.items()
        assert "head_dim" not in text

    def test_is_not_completed_for_a_class_that_is_not_known(self) -> None:
        found = complete(
            {"model_type": "internvl_chat", "llm_config": {"model_type": "qwen2", "hidden_size": 8}}
        )
        assert (found["hidden_size"], found["model_type"]) == (8, "qwen2")
        assert "num_hidden_layers" not in found

    @pytest.mark.parametrize("name", ["llm_config", "lm_config", "language_config", "lfm", "text_config"])
    def test_has_several_names(self, name: str) -> None:
        assert complete({name: {"hidden_size": 8}})["hidden_size"] == 8

    def test_is_within_the_thinker(self) -> None:
        found = complete({"thinker_config": {"hidden_size": 9, "text_config": {"hidden_size": 8}}})
        assert found["hidden_size"] == 8
        assert complete({"model_type": "qwen3_omni_moe"})["num_experts"] == 128

    def test_stands_at_the_root_in_older_files(self) -> None:
        found = complete({"model_type": "qwen2_vl", "hidden_size": 64, "num_attention_heads": 4,
                          "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}})  # fmt: skip
        assert (found["hidden_size"], found["num_key_value_heads"]) == (64, 8)
        assert found["rope_parameters"] == {
            "type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1000000.0,
        }  # fmt: skip

    def test_of_a_part_with_a_model_type_of_its_own(self) -> None:
        text = {"model_type": "ministral3", "hidden_size": 64}
        found = complete({"model_type": "mistral3", "text_config": text})
        assert found["rope_parameters"]["factor"] == 16.0
        assert complete({"model_type": "mistral3"})["rope_parameters"] == {
            "rope_type": "default", "rope_theta": 1e9,
        }  # fmt: skip

    def test_of_a_part_that_takes_the_root_s_values(self) -> None:
        """Voxtral's text is a Llama with other defaults than Llama's."""
        found = complete({"model_type": "voxtral", "text_config": {"hidden_size": 64}})
        assert (found["vocab_size"], found["hidden_size"], found["head_dim"]) == (131072, 64, 128)
        assert complete({"model_type": "mistral3", "text_config": {}})["rope_parameters"]["rope_theta"] == 1e4

    def test_a_part_that_may_be_missing(self) -> None:
        assert complete({"model_type": "gemma4", "audio_config": None})["audio_config"] is None
        assert "vision_config" not in complete({"model_type": "gemma4"})

    @pytest.mark.parametrize("part", ["text", [1], 5])
    def test_that_is_no_object_stays_as_it_is(self, part: Any) -> None:
        given = {"model_type": "gemma3", "text_config": part, "thinker_config": part}
        assert complete(given)["text_config"] == part

    def test_within_itself_without_end(self) -> None:
        given: dict[str, Any] = {"model_type": "llava"}
        for _ in range(400):
            given = {"model_type": "llava", "text_config": given}
        assert complete(given)["model_type"] == "llava"


def test_mistral_whose_layers_alternate() -> None:
    given = {"model_type": "mistral", "layer_types": ["full_attention"], "num_hidden_layers": 1}
    assert complete(given)["sliding_window"] == 4096
    assert complete(given)["model_type"] == "mistral"
    assert "layer_types" not in complete({"model_type": "mistral"})


def test_gemma_4_s_draft_model_shares_all_keys_and_values() -> None:
    found = complete({"model_type": "gemma4_assistant", "text_config": {"num_hidden_layers": 4}})
    assert found["num_kv_shared_layers"] == 4
    found = complete({"model_type": "gemma4_assistant", "text_config": {"num_kv_shared_layers": 3}})
    assert found["num_kv_shared_layers"] == 3
