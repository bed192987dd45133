"""The KV cache and recurrent states, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.memory.cache import CACHE_TYPES, LayerCache, layer_caches, padded_context
from quantrecipe.model.model import Model
from quantrecipe.recipe.budget import KV_TYPES
from quantrecipe.tensor import TensorInfo


def model(arch: str, tensors: dict[str, tuple[int, ...]], **keys: object) -> Model:
    """`attention__head_count=4` is `ARCH.attention.head_count`."""
    metadata = {}
    for key, value in keys.items():
        name = f"{arch}.{key.replace('__', '.')}"
        if isinstance(value, list):
            metadata[name] = GGUFValue.array(ValueType.BOOL, value)
        else:
            metadata[name] = GGUFValue.of(ValueType.UINT32, value)
    return Model(
        path=Path("model"),
        container="shapes",
        arch=arch,
        tensors=tuple(TensorInfo.from_name(name, shape, "F16") for name, shape in tensors.items()),
        metadata=metadata,
        sources={},
    )


def attention(layers: int, kv: int = 128) -> dict[str, tuple[int, ...]]:
    return {f"blk.{n}.attn_{role}.weight": (kv, 256) for n in range(layers) for role in ("k", "v")}


def test_grouped_queries_keep_what_keys_and_values_have() -> None:
    caches = layer_caches(model("llama", attention(2)))
    assert caches == {0: LayerCache(k=128, v=128), 1: LayerCache(k=128, v=128)}
    assert caches[0].nbytes(4096, "f16", 512) == 4096 * 2 * 128 * 2
    assert caches[0].nbytes(4096, "q8_0", 512) == 4096 * 2 * (128 // 32 * 34)


@pytest.mark.parametrize(("asked", "made"), [(1, 256), (256, 256), (1000, 1024), (4096, 4096)])
def test_contexts_are_multiples_of_256(asked: int, made: int) -> None:
    assert padded_context(asked) == made


def test_every_type_that_recipes_know_has_a_size() -> None:
    assert set(CACHE_TYPES) == set(KV_TYPES)


def test_a_width_that_blocks_don_t_divide_is_an_error() -> None:
    with pytest.raises(PlanError, match="rows of 80 don't divide into blocks of 32; use f16"):
        LayerCache(k=80, v=80).nbytes(512, "q8_0", 512)


def test_latent_attention_keeps_one_compressed_row() -> None:
    tensors = {"blk.0.attn_kv_a_mqa.weight": (576, 1024), "blk.0.attn_k_b.weight": (16, 512, 128)}
    assert layer_caches(model("deepseek2", tensors)) == {0: LayerCache(k=576, v=0)}


def test_latent_attention_that_was_converted_long_ago_keeps_all_heads() -> None:
    tensors = {"blk.0.attn_kv_a_mqa.weight": (576, 1024), "blk.0.attn_kv_b.weight": (4096, 512)}
    keys = {"attention__head_count": 16, "attention__key_length": 192, "attention__value_length": 128}
    assert layer_caches(model("deepseek2", tensors, **keys)) == {0: LayerCache(k=3072, v=2048)}


def test_a_draft_head_keeps_nothing_unless_it_is_alone() -> None:
    joint = {"blk.1.nextn.eh_proj.weight": (256, 512)}
    assert set(layer_caches(model("qwen35", attention(2) | joint))) == {0}
    alone = {name: shape for name, shape in attention(2).items() if name.startswith("blk.1.")}
    assert set(layer_caches(model("qwen35", alone | joint))) == {1}


def test_a_decoder_keeps_keys_and_values_and_its_encoder_doesn_t() -> None:
    decoder = {f"dec.{name}": shape for name, shape in attention(2).items()}
    encoder = {f"enc.{name}": shape for name, shape in attention(4).items()}
    assert layer_caches(model("t5", decoder | encoder)) == {n: LayerCache(k=128, v=128) for n in range(2)}


def test_fused_projections_are_taken_apart() -> None:
    tensors = {"blk.0.attn_qkv.weight": (4096 + 2 * 1024, 4096)}
    keys = {"attention__head_count": 32, "attention__head_count_kv": 8}
    assert layer_caches(model("phi3", tensors, **keys)) == {0: LayerCache(k=1024, v=1024)}


class TestWindows:
    def test_the_architecture_s_period(self) -> None:
        caches = layer_caches(model("gemma3", attention(12), attention__sliding_window=1024))
        assert [caches[n].window for n in range(12)] == [1024] * 5 + [0] + [1024] * 5 + [0]

    def test_what_the_model_says_goes_first(self) -> None:
        pattern = [False, True, True]
        keys = {"attention__sliding_window": 512, "attention__sliding_window_pattern": pattern}
        caches = layer_caches(model("step35", attention(3), **keys))
        assert [caches[n].window for n in range(3)] == [0, 512, 512]

    def test_dense_layers_may_come_first(self) -> None:
        caches = layer_caches(model("cohere2moe", attention(4), attention__sliding_window=512))
        assert [caches[n].window for n in range(4)] == [0, 512, 512, 512]

    def test_a_window_that_llama_cpp_ignores(self) -> None:
        caches = layer_caches(model("phi3", attention(2), attention__sliding_window=2048))
        assert [cache.window for cache in caches.values()] == [0, 0]

    def test_no_more_than_the_window_and_a_batch_is_kept(self) -> None:
        cache = LayerCache(k=128, v=128, window=1024)
        assert cache.cells(32768, 512) == 1536
        assert cache.cells(32768, 100) == 1280
        assert cache.cells(512, 512) == 512

    def test_layers_that_share_an_earlier_one_s_cache(self) -> None:
        caches = layer_caches(model("gemma3n", attention(30), attention__sliding_window=512))
        assert list(caches) == list(range(20))


class TestRecurrent:
    def test_mamba(self) -> None:
        tensors = {
            "blk.0.ssm_conv1d.weight": (512, 4),
            "blk.0.ssm_a": (512, 16),
            "blk.0.ssm_out.weight": (256, 512),
        }
        assert layer_caches(model("mamba", tensors))[0] == LayerCache(state=4 * (3 * 512 + 16 * 512))

    def test_a_hybrid_layer_has_no_keys(self) -> None:
        tensors = {
            "blk.0.attn_qkv.weight": (8192, 2048),
            "blk.0.ssm_conv1d.weight": (8192, 4),
            "blk.0.ssm_a": (32,),
            "blk.0.ssm_out.weight": (2048, 4096),
            **{name.replace("blk.0", "blk.1"): shape for name, shape in attention(1, 512).items()},
        }
        caches = layer_caches(model("qwen3next", tensors, ssm__state_size=128))
        assert caches == {0: LayerCache(state=4 * (3 * 8192 + 128 * 4096)), 1: LayerCache(k=512, v=512)}

    def test_its_state_is_the_same_for_every_context(self) -> None:
        cache = LayerCache(state=1000)
        assert cache.nbytes(512, "f16", 512) == cache.nbytes(131072, "q8_0", 512) == 1000

    def test_short_convolutions(self) -> None:
        tensors = {"blk.0.shortconv.conv.weight": (1024, 3)}
        assert layer_caches(model("lfm2", tensors))[0] == LayerCache(state=4 * 2 * 1024)

    def test_rwkv(self) -> None:
        tensors = {"blk.0.time_mix_key.weight": (512, 512)}
        keys = {"embedding_length": 512, "wkv__head_size": 64}
        assert layer_caches(model("rwkv7", tensors, **keys))[0] == LayerCache(state=4 * 512 * 66)
