"""Every preset gives the file that llama-quantize gives, byte for byte; where it refuses, so do we.

QUANTRECIPE_LLAMA_BIN names the folder of llama-quantize (`.ci/llama_tools` builds it). Each model of the zoo meets a
few presets, and each preset a few models; QUANTRECIPE_ALL_PRESETS=1 has every model meet every preset.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.zoo import ZOO, write_importance, write_model

from quantrecipe.errors import QuantrecipeError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
BIN = os.environ.get("QUANTRECIPE_LLAMA_BIN", "")
ALL = os.environ.get("QUANTRECIPE_ALL_PRESETS") == "1"
SHARE = 3
"""Presets that each model meets."""

_PIECES = {
    "head-5-bits",
    "kept",
    "low-bits",
    "low-bits-IQ3_S",
    "low-bits-Q2_K",
    "mixture",
    "terms",
    "k-quants",
}


class CrashedError(Exception):
    """llama-quantize was ended by a signal."""


def presets() -> list[str]:
    """The presets that are a type name of llama-quantize."""
    (folder,) = ROOT.glob("recipes/presets/llama.cpp@*")
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem not in _PIECES)


def share(number: int) -> list[str]:
    """Some presets for a model; in turn, so that all are met by several models."""
    names = presets()
    return names if ALL else [names[(number * SHARE + i) % len(names)] for i in range(SHARE)]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.mark.skipif(
    not BIN, reason="QUANTRECIPE_LLAMA_BIN isn't set: .ci/run builds llama-quantize and sets it"
)
@pytest.mark.parametrize("importance", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("number", range(len(ZOO)), ids=[path.stem for path in ZOO])
def test_a_preset_gives_llama_quantize_s_file(
    number: int, importance: bool, registry: Registry, tmp_path: Path
) -> None:
    shapes = write_model(ZOO[number], tmp_path / "model.gguf")
    matrix = read_importance(write_importance(shapes, tmp_path / "imatrix.gguf")) if importance else None
    different = []
    for preset in share(number):
        try:
            theirs = llama_quantize(tmp_path, preset, importance=importance)
        except CrashedError:
            continue
        ours = quantrecipe(tmp_path, f"llama.cpp/{preset}", matrix, registry)
        if (theirs is None) != (ours is None):
            different.append(f"{preset}: {'we' if ours is None else 'llama-quantize'} refused")
        elif theirs is not None and ours is not None and theirs.read_bytes() != ours.read_bytes():
            different.append(f"{preset}: other bytes")
    assert different == []


@pytest.mark.skipif(
    not BIN, reason="QUANTRECIPE_LLAMA_BIN isn't set: .ci/run builds llama-quantize and sets it"
)
@pytest.mark.parametrize("importance", [False, True], ids=["plain", "importance"])
def test_every_preset_on_a_trained_model(importance: bool, registry: Registry, tmp_path: Path) -> None:
    source = open_model(ROOT / "examples/tiny-code", registry=registry)
    bf16 = load_recipe("llama.cpp/BF16", registry=registry)
    apply_plan(
        make_plan(bf16, source, registry=registry, provenance=False),
        tmp_path / "model.gguf",
        registry=registry,
    )
    shutil.copy(ROOT / "tests/data/imatrix/imatrix.code.gguf", tmp_path / "imatrix.gguf")
    matrix = read_importance(tmp_path / "imatrix.gguf") if importance else None
    different = []
    for preset in presets():
        theirs = llama_quantize(tmp_path, preset, importance=importance)
        ours = quantrecipe(tmp_path, f"llama.cpp/{preset}", matrix, registry)
        if (theirs and theirs.read_bytes()) != (ours and ours.read_bytes()):
            different.append(preset)
    assert different == []


STRANGE_NAMES = (
    *(
        "blk.0.attn.in_proj_weight",
        "weight",
        "x.Weight",
        "foo.weight_g",
        "abcweight",
        "blk.0.attn_norm_weight",
    ),
    *("blk.0.ffn_down_weight", "model.diffusion_model.a.weight", "a{b}.weight", "a[0].weight", "a*b.weight"),
    *("a b.weight", "a.weight", "a", "a.weight.weight", "head.weight", "blk.x.attn_v.weight", "é.weight"),
)


@pytest.mark.skipif(
    not BIN, reason="QUANTRECIPE_LLAMA_BIN isn't set: .ci/run builds llama-quantize and sets it"
)
@pytest.mark.parametrize("preset", ["Q4_K_M", "Q8_0", "Q2_K", "BF16"])
def test_strange_names(preset: str, registry: Registry, tmp_path: Path) -> None:
    tensors = llama_tensors()
    tensors |= dict.fromkeys(STRANGE_NAMES, tensors["blk.0.attn_q.weight"])
    write_gguf(tmp_path / "model.gguf", tensors, {**llama_metadata(), **HYPER})
    theirs = llama_quantize(tmp_path, preset, importance=False)
    ours = quantrecipe(tmp_path, f"llama.cpp/{preset}", None, registry)
    assert theirs is not None
    assert ours is not None
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.skipif(
    not BIN, reason="QUANTRECIPE_LLAMA_BIN isn't set: .ci/run builds llama-quantize and sets it"
)
def test_pruned_layers_leave_a_file_that_llama_cpp_loads(registry: Registry, tmp_path: Path) -> None:
    """llama.cpp counts the items of arrays that have one for each layer, and refuses the file if there are more."""
    heads = GGUFValue.array(ValueType.UINT32, [2, 1, 2, 2])
    tensors = llama_tensors(layers=4)
    pairs = {**llama_metadata(block_count=4), **HYPER, "llama.attention.head_count_kv": heads}
    write_gguf(tmp_path / "source.gguf", tensors, pairs)
    (tmp_path / "mine.yaml").write_text(
        "quantrecipe: 1\nextends: llama.cpp/Q8_0\nprune: '1'\n", encoding="utf-8"
    )
    (tmp_path / "source.gguf").rename(tmp_path / "model.gguf")
    ours = quantrecipe(tmp_path, str(tmp_path / "mine.yaml"), None, registry)
    assert ours is not None
    ours.rename(tmp_path / "model.gguf")
    assert llama_quantize(tmp_path, "COPY", importance=False) is not None


HYPER = {
    "llama.context_length": GGUFValue.of(ValueType.UINT32, 128),
    "llama.embedding_length": GGUFValue.of(ValueType.UINT32, 256),
    "llama.feed_forward_length": GGUFValue.of(ValueType.UINT32, 512),
    "llama.attention.layer_norm_rms_epsilon": GGUFValue.of(ValueType.FLOAT32, 1e-5),
}

OPTIONS = {
    "--prune-layers 1,5": "prune: '1, 5'",
    "--include-weights ffn_ --include-weights attn_v": "importance: {include: [ffn_, attn_v]}",
    "--exclude-weights ffn_down": "importance: {exclude: ffn_down}",
    "--output-tensor-type q5_k": "rules: [{tensors: output, type: Q5_K}]",
    "--token-embedding-type q4_0": "rules: [{tensors: token_embd, type: Q4_0}]",
    "--leave-output-tensor": "rules: [{tensors: output, type: keep}]",
    "--override-kv general.name=str:mine --override-kv x.y=int:7": "metadata: {general.name: mine, x.y: 7}",
    "--override-kv a.b=float:0.5 --override-kv c.d=bool:true": "metadata: {a.b: 0.5, c.d: true}",
    "--tensor-type attn_q=q8_0": "rules: [{tensors: 'regex:attn_q', type: Q8_0}]",
}


@pytest.mark.skipif(
    not BIN, reason="QUANTRECIPE_LLAMA_BIN isn't set: .ci/run builds llama-quantize and sets it"
)
@pytest.mark.parametrize("options", OPTIONS)
def test_an_option_has_its_key(options: str, registry: Registry, tmp_path: Path) -> None:
    shapes = write_model(next(path for path in ZOO if path.stem == "qwen3-36"), tmp_path / "model.gguf")
    matrix = read_importance(write_importance(shapes, tmp_path / "imatrix.gguf"))
    text = f"quantrecipe: 1\nname: mine\nextends: llama.cpp/Q4_K_M\n{OPTIONS[options]}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    theirs = llama_quantize(tmp_path, "Q4_K_M", importance=True, options=options.split())
    ours = quantrecipe(tmp_path, str(tmp_path / "mine.yaml"), matrix, registry)
    assert theirs is not None
    assert ours is not None
    assert ours.read_bytes() == theirs.read_bytes()


def llama_quantize(
    folder: Path, preset: str, *, importance: bool, options: Sequence[str] = ()
) -> Path | None:
    """Its file; None where it refuses. CrashedError where it dies: there is nothing to compare with."""
    out = folder / "theirs.gguf"
    out.unlink(missing_ok=True)
    matrix = ["--imatrix", "imatrix.gguf"] if importance else []
    command = [Path(BIN) / "llama-quantize", *matrix, *options, "model.gguf", out, preset, "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode < 0:
        raise CrashedError
    return out if done.returncode == 0 else None


def quantrecipe(folder: Path, recipe: str, importance: Importance | None, registry: Registry) -> Path | None:
    """Our file; None where we refuse, which is before anything is written."""
    out = folder / "ours.gguf"
    out.unlink(missing_ok=True)
    try:
        plan = make_plan(
            load_recipe(recipe, registry=registry),
            open_model(folder / "model.gguf", registry=registry),
            registry=registry,
            importance=importance,
            provenance=False,
        )
    except QuantrecipeError:
        return None
    return apply_plan(plan, out, registry=registry).path
