"""Shape files: the same model gives the same text, the text gives the model back, and nothing else is read as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.cli import main
from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.shapes import open_shapes, shapes_text
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo, tensor_order

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/tiny-code"


def model(tensors: list[tuple[str, tuple[int, ...]]], **metadata: GGUFValue) -> Model:
    return Model(
        path=Path("model.gguf"),
        container="gguf",
        arch="llama",
        tensors=tuple(TensorInfo.from_name(name, shape, "F16") for name, shape in tensors),
        metadata={key.replace("__", "."): value for key, value in metadata.items()},
        sources={},
    )


def write(folder: Path, content: Any) -> Path:
    path = folder / "model.shapes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


GOOD: dict[str, Any] = {
    "quantrecipe_shapes": 1,
    "architecture": "llama",
    "metadata": {"llama.block_count": 2},
    "tensors": [{"name": "blk.*.attn_v.weight", "layers": "0-1", "type": "F16", "shape": [32, 64]}],
}


def test_a_model_is_small_readable_text() -> None:
    text = shapes_text(
        model(
            [("output.weight", (32, 64)), *((f"blk.{n}.attn_v.weight", (16, 64)) for n in (3, 0, 1, 12))],
            llama__block_count=GGUFValue.of(ValueType.UINT32, 13),
            llama__vocab_size=GGUFValue.of(ValueType.UINT64, 32),
            tokenizer__ggml__tokens=GGUFValue.array(ValueType.STRING, ["a"] * 32),
            general__name=GGUFValue.of(ValueType.STRING, "mine"),
        )
    )
    assert text == (
        "{\n"
        '  "quantrecipe_shapes": 1,\n'
        '  "architecture": "llama",\n'
        '  "metadata": {\n'
        '    "llama.block_count": 13,\n'
        '    "llama.vocab_size": {"type": "u64", "value": 32}\n'
        "  },\n"
        '  "tensors": [\n'
        '    {"name": "output.weight", "type": "F16", "shape": [32, 64]},\n'
        '    {"name": "blk.*.attn_v.weight", "layers": "0-1, 3, 12", "type": "F16", "shape": [16, 64]}\n'
        "  ]\n"
        "}\n"
    )


def test_the_order_of_the_source_does_not_matter() -> None:
    tensors = [(f"blk.{n}.{role}.weight", (16, 64)) for n in range(12) for role in ("b", "a")]
    assert shapes_text(model(tensors)) == shapes_text(model(tensors[::-1]))


def test_a_model_without_metadata_is_a_shape_file_too(tmp_path: Path) -> None:
    path = write(tmp_path, shapes_text(model([("output.weight", (2, 32))])))
    assert [t.name for t in open_shapes(path).tensors] == ["output.weight"]


VALUES = st.one_of(
    *(
        st.integers(*bounds).map(lambda number, type_=type_: GGUFValue.of(type_, number))
        for type_, bounds in {
            ValueType.UINT8: (0, 255),
            ValueType.INT16: (-(2**15), 2**15 - 1),
            ValueType.UINT32: (0, 2**32 - 1),
            ValueType.INT32: (-(2**31), 2**31 - 1),
            ValueType.UINT64: (0, 2**64 - 1),
            ValueType.INT64: (-(2**63), 2**63 - 1),
        }.items()
    ),
    st.floats(width=32).map(lambda x: GGUFValue.of(ValueType.FLOAT32, x)),
    st.floats().map(lambda x: GGUFValue.of(ValueType.FLOAT64, x)),
    st.booleans().map(lambda x: GGUFValue.of(ValueType.BOOL, x)),
    st.text().map(lambda x: GGUFValue.of(ValueType.STRING, x.encode("utf-8", "replace"))),
    st.lists(st.integers(0, 2**32 - 1)).map(lambda x: GGUFValue.array(ValueType.UINT32, x)),
    st.lists(st.booleans()).map(lambda x: GGUFValue.array(ValueType.BOOL, x)),
)
NAMES = st.from_regex(r"(enc\.|v\.)?(blk\.[0-9]{1,3}\.)?[a-z_*]{1,9}(\.weight|\.bias)?", fullmatch=True)
SHAPES = st.lists(st.integers(1, 2**15), min_size=1, max_size=4).map(tuple)


@given(
    st.dictionaries(NAMES, SHAPES, max_size=30), st.dictionaries(st.sampled_from(["a", "b", "c.d"]), VALUES)
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any], values: dict[str, GGUFValue]
) -> None:
    written = model(list(tensors.items()), **{f"llama.{key}": value for key, value in values.items()})
    text = shapes_text(written)
    again = open_shapes(write(tmp_path_factory.mktemp("shapes"), text))
    assert list(again.tensors) == sorted(written.tensors, key=tensor_order)
    found = {key: value for key, value in again.metadata.items() if key != "general.architecture"}
    assert {k: (v.type, repr(v.decode())) for k, v in found.items()} == {
        k: (v.type, repr(v.decode())) for k, v in written.metadata.items()
    }
    assert shapes_text(again) == text


BAD = [
    ("[]", "is not a JSON object"),
    ("{", "is not valid JSON"),
    ({"model_type": "llama"}, "is no shape file"),
    ({**GOOD, "quantrecipe_shapes": 2}, "is a shape file of version 2"),
    ({**GOOD, "quantrecipe_shapes": True}, "is a shape file of version True"),
    ({**GOOD, "tensor": []}, "unknown field `tensor`"),
    ({**GOOD, "architecture": ""}, "architecture: expected `str` of length >= 1"),
    ({**GOOD, "metadata": []}, "metadata: expected `object`, got `array`"),
    ({**GOOD, "metadata": {"general.architecture": "qwen2"}}, "names two architectures"),
    ({**GOOD, "metadata": {"general.alignment": 33}}, "has the alignment 33"),
    ({**GOOD, "metadata": {"llama.a": -1}}, "type isn't clear, of 'llama.a'"),
    ({**GOOD, "metadata": {"llama.a": None}}, "type isn't clear, of 'llama.a'"),
    ({**GOOD, "metadata": {"llama.a": []}}, "type isn't clear, of 'llama.a'"),
    ({**GOOD, "metadata": {"llama.a": [1, True]}}, "type isn't clear, of 'llama.a'"),
    ({**GOOD, "metadata": {"llama.a": {"type": "u33", "value": 1}}}, "isn't understood, of 'llama.a'"),
    ({**GOOD, "metadata": {"llama.a": {"type": "u8", "value": 256}}}, "doesn't fit its type, of 'llama.a'"),
    ({**GOOD, "metadata": {"llama.a": {"type": "u8", "value": "1"}}}, "is no u8, of 'llama.a'"),
    ({**GOOD, "metadata": {"llama.a": {"type": ["u8"], "value": 1}}}, "isn't understood, of 'llama.a'"),
    ({**GOOD, "tensors": {}}, "tensors: expected `array`, got `object`"),
    ({**GOOD, "tensors": ["output.weight"]}, r"tensors\[0\]: expected `object`, got `str`"),
    *(
        ({**GOOD, "tensors": [{**GOOD["tensors"][0], **odd}]}, message)
        for odd, message in [
            ({"name": ""}, "name: expected `str` of length >= 1"),
            ({"name": "a\nb*"}, "tensor of the name"),
            ({"type": 1}, "type: expected `str`, got `int`"),
            ({"shape": [2, -1]}, r"tensors\[0\].shape\[1\]: expected `int` >= 0"),
            ({"shape": [2, True]}, r"shape\[1\]: expected `int`, got `bool`"),
            ({"shape": [2**40, 2**40]}, "tensor of the shape"),
            ({"shape": [1] * 33}, "shape: expected `array` of length <= 32"),
            ({"name": "output.weight"}, r"name doesn't hold one \*"),
            ({"layers": "3-0"}, "layers that aren't like"),
            ({"layers": 3}, "layers: expected `str"),
            ({"layers": ""}, "layers that aren't like"),
            ({"layers": "0-99999999"}, "more than 1,000,000 tensors"),
            ({"layers": "0, 0"}, "has the tensor 'blk.0.attn_v.weight' twice"),
            ({"offset": 3}, "unknown field `offset`"),
        ]
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_anything_else_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_shapes(write(tmp_path, content))


def test_a_good_one_is_not_refused(tmp_path: Path) -> None:
    opened = open_model(write(tmp_path, GOOD))
    assert (opened.container, opened.arch, len(opened.tensors)) == ("shapes", "llama", 2)
    assert not opened.sources


def test_a_shape_file_plans_like_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(EXAMPLE), "--shapes"]) == 0
    path = write(tmp_path, capsys.readouterr().out)
    registry = load_registry(plugins=False)
    recipe = load_recipe("llama.cpp/Q4_K_M", registry=registry)
    real, shape = (make_plan(recipe, open_model(it), registry=registry) for it in (EXAMPLE, path))
    assert [(a.tensor.name, a.type, a.nbytes) for a in shape.assignments] == [
        (a.tensor.name, a.type, a.nbytes) for a in real.assignments
    ]
    assert shape.nbytes < real.nbytes  # by the tokenizer


def test_apply_needs_weights(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    registry = load_registry(plugins=False)
    plan = make_plan(load_recipe("llama.cpp/Q8_0", registry=registry), open_model(path), registry=registry)
    with pytest.raises(ModelError, match="has the shapes of a model, but no weights"):
        apply_plan(plan, tmp_path / "out.gguf", registry=registry)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("alignment", [8, 16, 32, 2**20])
def test_alignments_that_a_gguf_can_have(tmp_path: Path, alignment: int) -> None:
    path = write(tmp_path, {**GOOD, "metadata": {"general.alignment": alignment}})
    assert open_shapes(path).alignment == alignment


@pytest.mark.parametrize("alignment", [4, 0, 12, 24, 40, 2**21, "32", True, 32.0])
def test_and_those_that_it_can_t(tmp_path: Path, alignment: Any) -> None:
    path = write(tmp_path, {**GOOD, "metadata": {"general.alignment": alignment}})
    with pytest.raises(ModelError, match=r"has the alignment .* \(expected: a power of two\)"):
        open_shapes(path)
