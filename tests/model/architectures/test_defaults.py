"""What transformers assumes of a configuration that is silent, by its model_type; and keys that all have.

These are the defaults of transformers' configuration classes (LlamaConfig, MistralConfig, …). They stand here a second
time, so that a change of one is noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.architectures.completion import complete
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import LLAMA
from quantrecipe.model.architectures.families.qwen import QWEN2MOE
from quantrecipe.model.architectures.hyperparameters import common_pairs, head_dim

#        vocabulary, hidden, feed-forward, layers, heads, KV heads, context, epsilon; experts, used, their length
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "max_position_embeddings", "rms_norm_eps")  # fmt: skip
RECORDED: dict[str, tuple[tuple[Any, ...], float, dict[str, Any]]] = {
    "llama": ((32000, 4096, 11008, 32, 32, None, 2048, 1e-6), 1e4, {}),
    "mistral": ((32000, 4096, 14336, 32, 32, 8, 131072, 1e-6), 1e4, {}),
    "mixtral": (
        (32000, 4096, 14336, 32, 32, 8, 131072, 1e-5), 1e6,
        {"num_local_experts": 8, "num_experts_per_tok": 2},
    ),
    "qwen2": ((151936, 4096, 22016, 32, 32, 32, 32768, 1e-6), 1e4, {}),
    "qwen2_moe": (
        (151936, 2048, 5632, 24, 16, 16, 32768, 1e-6), 1e4,
        {"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408,
         "shared_expert_intermediate_size": 5632},
    ),
    "qwen3": ((151936, 4096, 22016, 32, 32, 32, 32768, 1e-6), 1e4, {"head_dim": 128}),
    "qwen3_moe": (
        (151936, 2048, 6144, 24, 32, 4, 32768, 1e-6), 1e4,
        {"num_local_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    ),
}  # fmt: skip


def config(folder: Path = Path(), **values: Any) -> Config:
    return Config(path=folder / "config.json", values=values, rope={})


@pytest.mark.parametrize("kind", RECORDED)
def test_defaults(kind: str) -> None:
    sizes, theta, more = RECORDED[kind]
    given = {key: value for key, value in zip(SIZES, sizes, strict=True) if value is not None}
    found = complete({"model_type": kind})
    assert {key: found[key] for key in given | more} == given | more
    assert found["rope_parameters"]["rope_theta"] == theta


class TestLlama:
    @pytest.mark.parametrize(
        ("vocabulary", "expected"),
        [
            (32016, {"tokenizer.ggml.eot_token_id": GGUFValue.of(ValueType.UINT32, 32010)}),
            (49152, {"tokenizer.ggml.add_bos_token": GGUFValue.of(ValueType.BOOL, False)}),
            (32000, {}),
            (32015, {}),
        ],
    )
    def test_families_that_are_known_by_the_size_of_their_vocabulary(
        self, tmp_path: Path, vocabulary: int, expected: dict[str, GGUFValue]
    ) -> None:
        assert LLAMA.tokenizer(config(tmp_path, vocab_size=vocabulary), {}) == expected
        given = {key: GGUFValue.of(ValueType.UINT32, 7) for key in expected if "eot" in key}
        assert LLAMA.tokenizer(config(tmp_path, vocab_size=vocabulary), dict(given)).items() >= given.items()

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"num_local_experts": 4}, "is a model with experts (num_local_experts), but its class has none"),
            ({"n_routed_experts": 1}, "is a model with experts (n_routed_experts), but its class has none"),
            ({"num_experts": 0}, None),
            (
                {"draft_vocab_size": 9, "num_hidden_layers": 1},
                "is an EAGLE-3 draft model, which needs its target",
            ),
            ({"draft_vocab_size": 9, "num_hidden_layers": 2}, None),
            ({"num_hidden_layers": 1}, None),
        ],
    )
    def test_models_that_only_look_like_one(self, values: dict[str, Any], said: str | None) -> None:
        found = LLAMA.refuse(config(**values))
        assert found == said or (found or "").startswith(said or "nothing")


WHOLE = {
    "num_hidden_layers": 2, "max_position_embeddings": 512, "hidden_size": 64, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
}  # fmt: skip


def pairs(**values: Any) -> dict[str, Any]:
    found = common_pairs("x", config(**{key: it for key, it in (WHOLE | values).items() if it is not ...}))
    return {key.removeprefix("x."): value.decode() for key, value in found.items()}


class TestCommonKeys:
    def test_in_the_order_of_llama_cpp_s_converter(self) -> None:
        found = pairs(num_experts=8, num_experts_per_tok=2, n_group=4, topk_group=3, head_dim=32, is_causal=False,
                      layer_norm_eps=1e-6)  # fmt: skip
        assert list(found.items()) == [
            ("block_count", 2),
            ("context_length", 512),
            ("embedding_length", 64),
            ("feed_forward_length", 128),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("attention.causal", False),
            ("attention.layer_norm_rms_epsilon", pytest.approx(1e-5)),
            ("attention.layer_norm_epsilon", pytest.approx(1e-6)),
            ("expert_count", 8),
            ("expert_used_count", 2),
            ("expert_group_count", 4),
            ("expert_group_used_count", 3),
            ("attention.key_length", 32),
            ("attention.value_length", 32),
        ]
        assert "attention.causal" not in pairs(is_causal=True)

    @pytest.mark.parametrize(
        ("key", "names"),
        [
            ("block_count", ["n_layers", "num_hidden_layers", "n_layer", "num_layers"]),
            ("embedding_length", ["hidden_size", "n_embd", "dim"]),
            ("context_length", ["max_position_embeddings", "n_ctx", "n_positions", "max_length",
                                "max_sequence_length", "model_max_length"]),
            ("feed_forward_length", ["prefix_dense_intermediate_size", "dense_intermediate_size", "intermediate_size",
                                     "n_inner", "hidden_dim"]),
            ("attention.head_count", ["num_attention_heads", "n_head", "n_heads"]),
            ("attention.head_count_kv", ["num_key_value_heads", "n_kv_heads"]),
            ("attention.layer_norm_rms_epsilon", ["rms_norm_eps", "norm_eps"]),
        ],
    )  # fmt: skip
    def test_names_that_config_json_may_use(self, key: str, names: list[str]) -> None:
        """The first of them counts where there are several."""
        gone = dict.fromkeys(names, ...)
        for place, name in enumerate(names):
            rest = dict.fromkeys(names[place + 1 :], 9)
            assert pairs(**gone | rest | {name: 7})[key] == 7

    @pytest.mark.parametrize("experts", ["num_local_experts", "num_experts", "n_routed_experts"])
    @pytest.mark.parametrize("used", ["num_experts_per_tok", "num_experts_per_token", "top_k_experts"])
    def test_names_of_experts(self, experts: str, used: str) -> None:
        found = pairs(**{experts: 9, used: 7})
        assert (found["expert_count"], found["expert_used_count"]) == (9, 7)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"max_position_embeddings": ...}, "has no max_position_embeddings"),
            ({"rms_norm_eps": ...}, "has no rms_norm_eps"),
            ({"num_hidden_layers": ...}, "has no n_layers"),
            ({"num_hidden_layers": 0}, "has no num_hidden_layers"),
            ({"num_experts": 4, "num_experts_per_tok": 5}, "each token is sent to 5 of 4 experts"),
            ({"num_experts": 4, "num_experts_per_tok": 0}, "each token is sent to 0 of 4 experts"),
            ({"num_experts": 4}, "each token is sent to 0 of 4 experts"),
            ({"num_experts_per_tok": 1}, "each token is sent to 1 of 0 experts"),
        ],
    )
    def test_what_is_refused(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(ModelError, match=said):
            pairs(**values)

    def test_all_experts_may_be_used(self) -> None:
        assert pairs(num_experts=4, num_experts_per_tok=4)["expert_used_count"] == 4

    def test_the_length_of_a_head(self) -> None:
        assert head_dim(config(**WHOLE)) == 16
        assert head_dim(config(**WHOLE, head_dim=48)) == 48


def test_lengths_of_experts() -> None:
    found = QWEN2MOE.pairs(config(moe_intermediate_size=5, shared_expert_intermediate_size=6))
    assert {key: value.decode() for key, value in found.items()} == {
        "qwen2moe.expert_feed_forward_length": 5,
        "qwen2moe.expert_shared_feed_forward_length": 6,
    }
    assert QWEN2MOE.pairs(config()) == {}
