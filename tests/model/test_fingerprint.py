"""One fingerprint for every form of a model, and another one for every other model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.huggingface import write_model
from support.models import llama_metadata, llama_tensors, write_gguf
from support.zoo import ZOO

from quantrecipe.model.fingerprint import Fingerprint, fingerprint
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.layout import rope_order
from quantrecipe.model.source.source import Extent, Stored
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-code"
Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def quantized(model: Model, recipe: str, path: Path, registry: Registry) -> Model:
    """What `apply` makes of the model by a recipe that ships, or by the rules in a text."""
    if "\n" in recipe:
        loaded = load_recipe_text(f"quantrecipe: 1\nname: made\n{recipe}", registry=registry)
    else:
        loaded = load_recipe(recipe, registry=registry)
    apply_plan(make_plan(loaded, model, registry=registry), path, registry=registry)
    return open_model(path, registry=registry)


def of(path: Path, tensors: Mapping[str, NDArray[np.float32]], **hyper: int) -> Fingerprint:
    return fingerprint(open_model(write_gguf(path, tensors, llama_metadata(**hyper))))


@pytest.fixture
def weights() -> Weights:
    """A llama whose norms say something."""
    tensors = llama_tensors()
    rng = np.random.default_rng(7)
    return {
        name: rng.uniform(0.5, 2, values.shape).astype(np.float32) if "norm" in name else values
        for name, values in tensors.items()
    }


@pytest.mark.parametrize("name", ["Qwen3-Embedding-0.1B", "mixtral"])
def test_a_folder_and_its_files_share_it(name: str, tmp_path: Path, registry: Registry) -> None:
    """The bytes of these norms are those of llama.cpp's converter: tests/model/test_huggingface.py."""
    folder = open_model(write_model(name, tmp_path), pre="qwen2", registry=registry)
    forms = [
        quantized(folder, recipe, tmp_path / f"{number}.gguf", registry)
        for number, recipe in enumerate(
            ["default: BF16\n", "default: F16\n", "llama.cpp/Q8_0", "llama.cpp/Q4_K_M"]
        )
    ]
    assert {fingerprint(form) for form in forms} == {fingerprint(folder)}
    assert fingerprint(folder).norms


def test_the_example_s_stays_what_it_is() -> None:
    """Files hold it: another number needs another version."""
    expected = "v1:7cf4a8e28e25cf3c:e311dd5e397dd003912c3970b3bfa2dd"
    assert str(fingerprint(open_model(EXAMPLE))) == expected


def test_shapes_alone_give_the_structure(tmp_path: Path, weights: Weights) -> None:
    model = open_model(write_gguf(tmp_path / "a.gguf", weights, llama_metadata()))
    shapes = fingerprint(replace(model, container="shapes", sources={}))
    assert (shapes.structure, shapes.norms) == (fingerprint(model).structure, "")
    assert shapes.agrees(fingerprint(model))


def test_a_pruned_model_is_another_one(tmp_path: Path, registry: Registry) -> None:
    folder = open_model(write_model("mixtral", tmp_path), registry=registry)
    pruned = quantized(folder, "default: BF16\nprune: last 1\n", tmp_path / "pruned.gguf", registry)
    assert not fingerprint(pruned).agrees(fingerprint(folder))


def test_one_norm_makes_another_model(tmp_path: Path, weights: Weights) -> None:
    tuned = weights | {"blk.1.ffn_norm.weight": weights["blk.1.ffn_norm.weight"].copy()}
    tuned["blk.1.ffn_norm.weight"][-1] += np.float32(1e-6)
    one, other = of(tmp_path / "a.gguf", weights), of(tmp_path / "b.gguf", tuned)
    assert one.structure == other.structure
    assert one.norms != other.norms
    assert not one.agrees(other)


def test_norms_that_change_places_make_another_model(tmp_path: Path, weights: Weights) -> None:
    names = "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"
    swapped = weights | {names[0]: weights[names[1]], names[1]: weights[names[0]]}
    assert of(tmp_path / "a.gguf", weights) != of(tmp_path / "b.gguf", swapped)


def test_models_that_differ_in_matrices_alone_share_it(tmp_path: Path, weights: Weights) -> None:
    """What the docstring says that it can't tell: an adapter that was merged."""
    merged = {name: values * np.float32(1 + (values.ndim > 1)) for name, values in weights.items()}
    assert of(tmp_path / "a.gguf", weights) == of(tmp_path / "b.gguf", merged)


def test_what_a_norm_adds_counts_too(tmp_path: Path, weights: Weights) -> None:
    biases = {"output_norm.bias": np.zeros(256, np.float32)}, {"output_norm.bias": np.ones(256, np.float32)}
    one, other = (of(tmp_path / f"{n}.gguf", weights | bias) for n, bias in enumerate(biases))
    assert one.structure == other.structure != of(tmp_path / "none.gguf", weights).structure
    assert one.norms != other.norms


@pytest.mark.parametrize(
    "role", ["token_embd", "attn_output", "ffn_down", "ffn_down_exps", "ffn_down_shexp", "ssm_out"]
)
def test_matrices_that_every_form_has_count_by_their_shapes(role: str, tmp_path: Path) -> None:
    name = f"{role}.weight" if role == "token_embd" else f"blk.0.{role}.weight"
    norm = {"output_norm.weight": np.ones(4, np.float32)}
    made = (of(tmp_path / f"{n}.gguf", norm | {name: np.ones((4, n), np.float32)}) for n in (32, 64))
    assert len({it.structure for it in made}) == 2


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("token_embd.weight", (65, 256)),
        ("blk.0.ffn_down.weight", (256, 513)),
        ("blk.2.attn_norm.weight", (256,)),
    ],
)
def test_other_shapes_and_more_layers_make_another_model(
    name: str, shape: tuple[int, ...], tmp_path: Path, weights: Weights
) -> None:
    other = of(tmp_path / "b.gguf", weights | {name: np.ones(shape, np.float32)})
    assert of(tmp_path / "a.gguf", weights).structure != other.structure


ONES = np.ones((4, 256), np.float32)


@pytest.mark.parametrize(
    ("gone", "added"),
    [
        (("output.weight",), {}),
        ((), {"rope_freqs.weight": ONES[0]}),
        (("blk.0.attn_q.weight", "blk.0.attn_k.weight"), {"blk.0.attn_qkv.weight": ONES}),
        (("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"), {"blk.0.ffn_gate_up.weight": ONES}),
        ((), {"blk.0.attn_k_b.weight": ONES, "blk.0.attn_v_b.weight": ONES}),
        ((), {"blk.0.attn_q.bias": ONES[0], "blk.0.attn_q.scale": ONES[0, :1]}),
        (
            (),
            {
                "blk.2.nextn.eh_proj.weight": ONES,
                "blk.2.attn_norm.weight": ONES[0],
                "blk.2.ffn_down.weight": ONES,
            },
        ),
        ((), {"blk.0.indexer.k_norm.weight": ONES[0]}),
        ((), {"v.blk.0.ffn_down.weight": ONES, "v.blk.0.attn_norm.weight": ONES[0]}),
        ((), {"a.blk.0.ffn_down.weight": ONES, "mm.a.attn_norm.weight": ONES[0]}),
    ],
    ids=["tied", "computed", "qkv", "gate and up", "latent", "small", "MTP", "indexer", "vision", "sound"],
)
def test_what_forms_of_a_model_differ_in_is_no_part_of_it(
    gone: tuple[str, ...], added: Weights, tmp_path: Path, weights: Weights
) -> None:
    other = {name: values for name, values in weights.items() if name not in gone} | added
    assert of(tmp_path / "a.gguf", weights) == of(tmp_path / "b.gguf", other)


def test_latent_attention_apart_or_in_one_is_the_same_model() -> None:
    one, other = (shapes for shapes in ZOO if shapes.stem in ("deepseek2-kv-b", "deepseek2-mla"))
    assert fingerprint(open_model(one)) == fingerprint(open_model(other))


def test_the_zoo_s_models_are_all_known_by_something() -> None:
    """Families whose tensors have other names, too: none has the structure of nothing."""
    nothing = fingerprint(replace(open_model(ZOO[0]), tensors=()))
    assert nothing.structure not in {fingerprint(open_model(shapes)).structure for shapes in ZOO}


def test_leading_ones_of_a_shape_are_no_part_of_it(tmp_path: Path, weights: Weights) -> None:
    model = open_model(write_gguf(tmp_path / "a.gguf", weights, llama_metadata()))
    wider = tuple(replace(it, shape=(1, *it.shape)) if it.role == "ffn_down" else it for it in model.tensors)
    assert fingerprint(replace(model, tensors=wider)) == fingerprint(model)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_a_norm_of_any_float_type_counts_as_float32(dtype: str, tmp_path: Path) -> None:
    values = np.asarray([0.5, 1.25, -2, 3], np.float32)  # the same in all of them
    expected = _norm_alone(tmp_path / "f32", values.tobytes(), "F32")
    stored = {
        "F64": values.astype("<f8").tobytes(),
        "F32": values.tobytes(),
        "F16": values.astype("<f2").tobytes(),
        "BF16": (values.view("<u4") >> 16).astype("<u2").tobytes(),
    }[dtype]
    assert fingerprint(_norm_alone(tmp_path / dtype, stored, dtype)) == fingerprint(expected)


def test_a_norm_in_rotary_order_counts_in_the_gguf_s_order(tmp_path: Path) -> None:
    rotary = _norm_alone(tmp_path / "a", np.asarray([1, 2, 3, 4], "<f4").tobytes(), "F32")
    (name, source), *_ = rotary.sources.items()
    rotary = replace(rotary, sources={name: rope_order(source, 1)})
    plain = _norm_alone(tmp_path / "b", np.asarray([1, 3, 2, 4], "<f4").tobytes(), "F32")
    assert fingerprint(rotary) == fingerprint(plain)


def _norm_alone(path: Path, stored: bytes, dtype: str) -> Model:
    path.write_bytes(stored)
    tensor = TensorInfo.from_name("output_norm.weight", (4,), dtype)
    extent = Extent(path=path, offset=0, nbytes=len(stored))
    source = Stored(name=tensor.name, shape=tensor.shape, dtype=dtype, extents=(extent,))
    return Model(
        path=path,
        container="safetensors",
        arch="llama",
        tensors=(tensor,),
        metadata={},
        sources={tensor.name: source},
        files=(path,),
    )


def test_only_norms_are_read(tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(write_gguf(tmp_path / "a.gguf", weights, llama_metadata()))
    read: list[str] = []
    real = TensorReader.read

    def recorded(self: TensorReader, *args: object, tensor: str = "") -> None:
        read.append(tensor)
        real(self, *args, tensor=tensor)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(TensorReader, "read", recorded)
    fingerprint(model)
    assert read == sorted(name for name in weights if "norm" in name)


def test_what_is_called_a_norm_and_is_huge_is_not_read(tmp_path: Path, weights: Weights) -> None:
    model = open_model(write_gguf(tmp_path / "a.gguf", weights, llama_metadata()))
    huge = TensorInfo.from_name("blk.0.post_norm.weight", (1 << 23,), "F32")
    assert fingerprint(replace(model, tensors=(*model.tensors, huge))) == fingerprint(model)


class TestText:
    MADE = Fingerprint(structure="0123456789abcdef", norms="00112233445566778899aabbccddeeff")

    def test_comes_back(self) -> None:
        assert Fingerprint.parse(str(self.MADE)) == self.MADE

    @pytest.mark.parametrize(
        "text", ["", "v2:0123456789abcdef:00112233445566778899aabbccddeeff", "v1:12:34", "v1"]
    )
    def test_of_another_version_or_none_is_not_understood(self, text: str) -> None:
        assert Fingerprint.parse(text) is None

    def test_norms_that_are_not_at_hand_can_not_differ(self) -> None:
        shapes = replace(self.MADE, norms="")
        assert shapes.agrees(self.MADE)
        assert self.MADE.agrees(shapes)
        assert not replace(shapes, structure="f" * 16).agrees(self.MADE)
