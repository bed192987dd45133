"""The shared kept list names the matrices that llama-quantize leaves alone, among all names that GGUF files use."""

from __future__ import annotations

import re

import gguf
import pytest

from quantrecipe.recipe.load import SHARED_KEPT_LIST, load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

# llama.cpp, src/llama-quant.cpp: a name with one of these in it isn't quantized.
UNTOUCHED = (
    *(
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
    ),
    *(
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "attn_rel_b.weight",
    ),
    *(
        f"time_mix_{part}.weight"
        for part in ["first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2", "lerp_fused"]
    ),
    *("time_mix_decay_w1.weight", "time_mix_decay_w2.weight", ".position_embd", "sam.pos_embd", "sam.neck."),
    *("sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
)
UNTOUCHED_IN_GLM5 = (
    *("hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate"),
    *("indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight"),
    *("ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight"),
)
UNTOUCHED_NAMES = ("position_embd.weight", "token_types.weight")
MORE_NAMES = (
    *(
        "blk.3.ffn_gate_tid2eid",
        "blk.3.indexer.k_proj",
        "blk.3.indexer.q_proj",
        "blk.3.hc_attn_base",
        "a.rvq.codebook",
    ),
    *(
        "mm.a.code_embd",
        "v.sam.blk.3.attn.rel_pos_h",
        "blk.3.indexer_compressor_gate",
        "blk.3.indexer_compressor_ape",
    ),
    *("v.sam.neck.0", "v.patch_embd", "blk.3.ffn_gate_inp_shexp", "blk.3.ffn_down.7", "blk.3.indexer.attn_k"),
)


def names() -> list[str]:
    templates = set(gguf.TENSOR_NAMES.values())
    every = {template.format(bid=3, xid=1) for template in templates} | set(MORE_NAMES)
    return sorted(f"{name}.weight" for name in every)


def is_untouched(name: str, arch: str) -> bool:
    parts = UNTOUCHED + (UNTOUCHED_IN_GLM5 if arch == "glm5-next" else ())
    return name in UNTOUCHED_NAMES or any(part in name for part in parts)


@pytest.fixture(scope="module")
def kept(registry: Registry) -> Recipe:
    return load_recipe(SHARED_KEPT_LIST, registry=registry)


@pytest.mark.parametrize("arch", ["llama", "glm5-next"])
def test_the_kept_list_is_llama_quantizes(kept: Recipe, arch: str) -> None:
    found = {}
    for name in names():
        tensor = TensorInfo.from_name(name, (256, 256), "F16")
        entries = [entry for entry in kept.keep if entry.when is None or entry.when.evaluate({"arch": arch})]
        found[name] = any(pattern.matches(tensor, None) for entry in entries for pattern in entry.tensors)
    assert len(found) > 300
    assert {name for name, it in found.items() if it} == {name for name in found if is_untouched(name, arch)}


def test_every_entry_has_a_reason(kept: Recipe) -> None:
    assert all(re.search(r"\w", entry.why) for entry in kept.keep)
