"""A file is what it says it is, or the place where it isn't is named: in the header, the data, or the source."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.huggingface import write_model
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, stored, write_gguf

from quantrecipe.errors import ModelError, QuantrecipeError
from quantrecipe.gguf.header import read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.layout import Regroup
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.verify.verification import Check, Verification
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.header_hashes import HEADER_HASHES
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.review.lock import make_lock
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

TINY = Path(__file__).parents[3] / "examples" / "tiny-code"
COPY = "quantrecipe: 1\nname: copy\nfile_type: keep\ndefault: keep\n"
RECIPE = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - {tensors: attn_v, layers: first 1, type: Q6_K, why: values}
  - {tensors: head, type: Q8_0, why: tokens}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@dataclass(frozen=True)
class Made:
    """A file, and what it was made from."""

    path: Path
    plan: Plan
    source: Model
    recipe: Recipe
    importance: Importance | None = None


def make(
    folder: Path,
    registry: Registry,
    source: Model,
    text: str = RECIPE,
    *,
    importance: Importance | None = None,
    **how: object,
) -> Made:
    folder.mkdir(exist_ok=True)
    recipe = load_recipe_text(text, registry=registry)
    plan = make_plan(recipe, source, registry=registry, importance=importance, **how)  # type: ignore[arg-type]  # passed on
    result = apply_plan(plan, folder / "made.gguf", registry=registry, threads=2)
    return Made(result.path, plan, source, recipe, importance)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    """The example model, quantized."""
    return make(tmp_path_factory.mktemp("tiny"), registry, open_model(TINY, registry=registry))


@contextmanager
def flipped(path: Path, offset: int, mask: int = 1) -> Iterator[None]:
    """One byte is another while this lasts."""
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(1)
        file.seek(offset)
        file.write(bytes([before[0] ^ mask]))
    try:
        yield
    finally:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(before)


def check(verification: Verification, name: str) -> Check:
    return next(check for check in verification.checks if check.name == name)


def statuses(verification: Verification) -> dict[str, str]:
    return {check.name: check.status for check in verification.checks}


def test_a_file_by_itself(tiny: Made, registry: Registry) -> None:
    verification = verify_file(tiny.path, registry=registry)
    assert statuses(verification) == dict.fromkeys(("header", "payload", "recipe", "types"), "ok")
    assert verification.ok
    assert verification.read == sum(a.nbytes for a in tiny.plan.assignments)


def test_a_file_with_its_source(tiny: Made, registry: Registry) -> None:
    verification = verify_file(tiny.path, registry=registry, source=tiny.source, sample=None)
    assert set(statuses(verification).values()) == {"ok"}
    assert statuses(verification).keys() >= {"types", "plan", "source", "bytes"}
    assert sorted(verification.requantized) == sorted(a.tensor.name for a in tiny.plan.assignments)


def test_a_scale_that_was_damaged_is_named(tiny: Made, registry: Registry) -> None:
    """Besides the place: what the damage means to whoever loads the file."""
    spoilt = next(a for a in tiny.plan.assignments if a.type == "Q8_0")
    scale = spoilt.offset + spoilt.format.spec.row_bytes(spoilt.tensor.cols) + 1
    exponent = tiny.path.read_bytes()[scale] & 0x7C
    with flipped(tiny.path, scale, exponent ^ 0x7C):
        (finding,) = check(verify_file(tiny.path, registry=registry), "payload").findings
    assert finding.tensor == spoilt.tensor.name
    assert "the scale d of row 1, block 0 is " in finding.what
    assert finding.what.endswith("which llama.cpp refuses with --check-tensors")


def test_a_sample_has_every_type(tiny: Made, registry: Registry) -> None:
    verification = verify_file(tiny.path, registry=registry, source=tiny.source, sample=4)
    types = {a.tensor.name: a.type for a in tiny.plan.assignments}
    assert {types[name] for name in verification.requantized} == set(types.values())
    assert len(verification.requantized) == 4


@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_flip_after_the_header_is_found(tiny: Made, registry: Registry, data: st.DataObject) -> None:
    """The data of tensors, and what lies between them."""
    place = data.draw(st.integers(tiny.plan.files[0].header, tiny.plan.nbytes - 1))
    with flipped(tiny.path, place, 1 << data.draw(st.integers(0, 7))):
        verification = verify_file(tiny.path, registry=registry, threads=1)
    (finding,) = verification.findings
    holder = next(
        (a for a in tiny.plan.assignments if a.offset <= place < a.offset + a.nbytes),
        None,
    )
    assert finding.tensor == (holder.tensor.name if holder else None)
    assert finding.file == tiny.path
    assert statuses(verification)["payload"] == "failed"


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_flip_in_the_header_is_found(tiny: Made, registry: Registry, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, tiny.plan.files[0].header - 1))
    with flipped(tiny.path, place, 1 << data.draw(st.integers(0, 7))):
        try:
            verification = verify_file(tiny.path, registry=registry, threads=1)
        except QuantrecipeError as error:
            assert str(tiny.path) in str(error)
        else:
            assert statuses(verification)["header"] == "failed"


def test_every_kind_of_byte_of_the_header(tmp_path: Path, registry: Registry) -> None:
    """A quarter of them, in a file whose header is small."""
    tensors = llama_tensors(layers=1, cols=32, hidden=32, vocab=4)
    source = open_model(
        write_gguf(tmp_path / "s.gguf", tensors, llama_metadata(block_count=1)), registry=registry
    )
    made = make(tmp_path, registry, source, "quantrecipe: 1\nname: x\ndefault: Q4_0\nkeep: []\n")
    missed = []
    for step in range(made.plan.files[0].header // 4):
        place = 4 * step + step % 4
        with flipped(made.path, place, 1 << place % 8):
            try:
                if verify_file(made.path, registry=registry, threads=1).ok:
                    missed.append(place)
            except QuantrecipeError:
                continue
    assert missed == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"llama.block_count", b"llama.block_cound", "llama.block_cound"),
        (b"blk.1.attn_v.weight", b"blk.1.attn_w.weight", "blk.1.attn_w.weight"),
        (b"quantrecipe.header.xxh3_64", b"quantrecipe.header.xxh3_65", "xxh3_65"),
        (b"general.architecture", b"general.architectuse", "general.architectuse"),
    ],
)
def test_header_fields_are_named(
    tmp_path: Path, registry: Registry, tiny: Made, old: bytes, new: bytes, said: str
) -> None:
    data = tiny.path.read_bytes()
    assert old in data
    path = tmp_path / "renamed.gguf"
    path.write_bytes(data.replace(old, new, 1))
    found = check(verify_file(path, registry=registry), "header").findings
    assert any(said in f"{finding.tensor} {finding.what}" for finding in found)


def test_with_the_source_row_and_block_are_named(tiny: Made, registry: Registry) -> None:
    a = next(a for a in tiny.plan.assignments if a.tensor.name == "blk.2.ffn_up.weight")
    row, block = 700, 0  # 256 columns are one block of Q4_K: 144 bytes
    place = a.offset + row * 144 + 143
    with flipped(tiny.path, place):
        verification = verify_file(tiny.path, registry=registry, source=tiny.source, sample=0)
    (finding,) = verification.findings
    assert (finding.tensor, finding.offset, finding.row, finding.block) == (a.tensor.name, place, row, block)
    assert f"byte {place:,} (row 700, block 0)" in finding.what
    assert verification.requantized == (a.tensor.name,)


@pytest.fixture
def small(tmp_path: Path, registry: Registry) -> Made:
    """A small model whose source may be damaged."""
    path = write_gguf(tmp_path / "source.gguf", llama_tensors(layers=2))
    return make(tmp_path, registry, open_model(path, registry=registry))


def test_flips_in_the_source_are_named(small: Made, registry: Registry) -> None:
    extent = small.source.sources["blk.1.attn_v.weight"].extents[0]
    with flipped(extent.path, extent.offset + 2 * 256 * 17 + 1, 0x40):  # an exponent in row 17
        verification = verify_file(small.path, registry=registry, source=small.source, sample=0)
    (finding,) = verification.findings
    assert check(verification, "source").findings == (finding,)
    assert (finding.tensor, finding.file, finding.row) == ("blk.1.attn_v.weight", extent.path, 17)
    assert verification.requantized == ("blk.1.attn_v.weight",)


def test_a_flip_in_the_source_that_changes_nothing(small: Made, registry: Registry) -> None:
    extent = small.source.sources["blk.0.ffn_up.weight"].extents[0]
    places = range(extent.offset, extent.offset + extent.nbytes, 2)  # low bits of the mantissa
    for place in places[::997]:
        with flipped(extent.path, place):
            verification = verify_file(small.path, registry=registry, source=small.source, sample=0)
        (finding,) = verification.findings
        assert finding.tensor == "blk.0.ffn_up.weight"
        if "too small to show" in finding.what:
            assert finding.row is None
            return
    pytest.fail("every one showed")


def test_another_model_of_the_same_shapes(small: Made, tmp_path: Path, registry: Registry) -> None:
    others = {name: values[..., ::-1].copy() for name, values in llama_tensors(layers=2).items()}
    other = open_model(write_gguf(tmp_path / "other.gguf", others), registry=registry)
    verification = verify_file(small.path, registry=registry, source=other, sample=0)
    changed = {finding.tensor for finding in check(verification, "source").findings}
    assert changed >= {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"}


def test_metadata_that_is_not_the_source_s(small: Made, tmp_path: Path, registry: Registry) -> None:
    metadata = llama_metadata(**{"attention.head_count": 8})
    other = open_model(write_gguf(tmp_path / "o.gguf", llama_tensors(layers=2), metadata), registry=registry)
    verification = verify_file(small.path, registry=registry, source=other, sample=0)
    (finding,) = verification.findings
    assert "'llama.attention.head_count' is 4, and should be 8" in finding.what


def test_rows_that_hugging_face_has_in_another_order(tmp_path: Path, registry: Registry) -> None:
    source = open_model(write_model("llama-tied", tmp_path), registry=registry)
    assert any(isinstance(it, Regroup) for it in source.sources.values())
    made = make(tmp_path, registry, source, "quantrecipe: 1\nname: x\ndefault: Q8_0\n")
    assert verify_file(made.path, registry=registry, source=source, sample=None).ok


def imatrix(folder: Path, tensors: dict[str, np.ndarray]) -> Importance:
    rng = np.random.default_rng(3)
    entries = {
        name: (rng.random((1, values.shape[-1]), np.float32), [10.0])
        for name, values in tensors.items()
        if name.startswith("blk.") and values.ndim == 2
    }
    return read_importance(write_gguf_imatrix(folder / "imatrix.gguf", entries))


def test_importance(tmp_path: Path, registry: Registry) -> None:
    tensors = llama_tensors(layers=2)
    matrix = imatrix(tmp_path, tensors)
    source = open_model(write_gguf(tmp_path / "source.gguf", tensors), registry=registry)
    made = make(tmp_path, registry, source, importance=matrix)
    assert verify_file(made.path, registry=registry).ok
    whole = verify_file(made.path, registry=registry, source=source, importance=matrix, sample=None)
    assert whole.ok
    assert len(whole.requantized) == len(made.plan.assignments)
    without = verify_file(made.path, registry=registry, source=source, sample=None)
    assert without.ok
    assert "14 can't be without the importance matrix" in check(without, "bytes").said
    (tmp_path / "b").mkdir()
    other = imatrix(tmp_path / "b", {name: values for name, values in tensors.items() if "attn" in name})
    wrong = verify_file(made.path, registry=registry, source=source, importance=other)
    assert "another importance matrix" in " ".join(f.what for f in check(wrong, "plan").findings)


@pytest.mark.parametrize("limits", [SplitLimits(max_tensors=7), SplitLimits(max_bytes=200_000)])
def test_shards(tmp_path: Path, registry: Registry, limits: SplitLimits) -> None:
    source = open_model(write_gguf(tmp_path / "source.gguf", llama_tensors(layers=3)), registry=registry)
    made = make(tmp_path, registry, source, split=limits)
    assert len(made.plan.files) > 2
    whole = verify_file(
        made.path, registry=registry, source=source, sample=None, lock=make_lock(made.plan, registry)
    )
    assert set(statuses(whole).values()) == {"ok"}
    assert len(whole.files) == len(made.plan.files)
    last = made.path.with_name(f"made-{len(whole.files):05}-of-{len(whole.files):05}.gguf")
    final = made.plan.files[-1].assignments[-1]
    with flipped(last, final.offset + 5):
        (finding,) = verify_file(made.path, registry=registry, source=source, sample=0).findings
    assert (finding.file, finding.tensor, finding.offset) == (last, final.tensor.name, final.offset + 5)
    header = read_header(last)
    with flipped(last, last.read_bytes().index(header.tensors[0].name.encode()) + 4):
        assert not verify_file(made.path, registry=registry).ok


def test_shards_in_the_order_of_the_source(tmp_path: Path, registry: Registry) -> None:
    tensors = dict(reversed(llama_tensors(layers=2).items()))
    source = open_model(write_gguf(tmp_path / "source.gguf", tensors), registry=registry)
    shards = {name: place % 2 for place, name in enumerate(tensors)}
    text = RECIPE + "  - {tensors: ffn_up, when: rank == 0, type: Q5_K, why: the first}\n"
    made = make(tmp_path, registry, source, text, split=SplitLimits(shards=shards))
    assert set(statuses(verify_file(made.path, registry=registry, source=source, sample=None)).values()) == {
        "ok"
    }


def test_pruned_layers(tmp_path: Path, registry: Registry) -> None:
    path = write_gguf(tmp_path / "s.gguf", llama_tensors(layers=4), llama_metadata(block_count=4))
    source = open_model(path, registry=registry)
    made = make(tmp_path, registry, source, RECIPE + "prune: '1-2'\n")
    assert statuses(verify_file(made.path, registry=registry))["types"] == "skipped"
    assert verify_file(made.path, registry=registry, source=source, sample=None).ok


@pytest.mark.parametrize("split", [None, SplitLimits(max_tensors=2)], ids=["one file", "shards"])
def test_tensors_that_only_other_programs_load(
    split: SplitLimits | None, tmp_path: Path, registry: Registry
) -> None:
    """Five dimensions, none, and no elements: kept as they are, and the rest is quantized."""
    weights = {**llama_tensors(layers=1), "a.weight": np.zeros((0, 256), np.float32)}
    rng = np.random.default_rng(0)
    weights["patch_embedding.weight"] = rng.standard_normal((8, 4, 1, 2, 2)).astype(np.float32)
    weights["scalar.weight"] = np.float32(3.0).reshape(())
    weights["z.weight"] = np.zeros((256, 0), np.float32)
    source = open_model(write_gguf(tmp_path / "source.gguf", weights), registry=registry)
    text = RECIPE + "  - {tensors: [a, z], type: Q4_K, why: there is nothing to quantize}\n"
    made = make(tmp_path, registry, source, text, split=split)
    (warning,) = [it for it in made.plan.warnings if "dimensions" in it]
    assert warning.startswith("patch_embedding.weight: 5 dimensions, and llama.cpp loads at most 4")
    whole = verify_file(made.path, registry=registry, source=source, sample=None)
    assert set(statuses(whole).values()) == {"ok"}
    again = {t.name: t for file in sorted(tmp_path.glob("made*.gguf")) for t in GGUFReader(file).tensors}
    assert again.keys() == weights.keys()
    five = again["patch_embedding.weight"]
    assert (list(five.shape), five.tensor_type.name) == ([2, 2, 1, 4, 8], "BF16")
    assert five.data.tobytes() == stored(weights["patch_embedding.weight"], "BF16")
    assert (list(again["a.weight"].shape), again["a.weight"].data.nbytes) == ([256, 0], 0)
    assert again["a.weight"].tensor_type.name == "BF16"
    assert again["blk.0.ffn_up.weight"].tensor_type.name == "Q4_K"
    later = make(tmp_path / "again", registry, open_model(made.path, registry=registry), COPY)
    assert verify_file(later.path, registry=registry).ok


def test_factors_beside_the_weights(tmp_path: Path, registry: Registry) -> None:
    source = open_model(write_gguf(tmp_path / "source.gguf", llama_tensors(layers=2)), registry=registry)
    made = make(tmp_path, registry, source, "quantrecipe: 1\nname: x\ndefault: NVFP4\n")
    whole = verify_file(made.path, registry=registry, source=source, sample=None)
    assert set(statuses(whole).values()) == {"ok"}
    assert "blk.0.attn_q.scale" in whole.requantized
    scale = next(a for a in made.plan.assignments if a.tensor.name == "blk.0.attn_q.scale")
    with flipped(made.path, scale.offset):
        (finding,) = verify_file(made.path, registry=registry).findings
        (located,) = verify_file(made.path, registry=registry, source=source, sample=0).findings
    assert finding.tensor == located.tensor == "blk.0.attn_q.scale"
    assert (finding.row, located.row, located.offset) == (None, 0, scale.offset)


def test_types_that_the_recipe_does_not_give(small: Made, tmp_path: Path, registry: Registry) -> None:
    """A file that was put together by hand, with hashes that are right."""
    model = small.source
    other = make_plan(
        load_recipe_text(RECIPE.replace("Q6_K", "Q5_K"), registry=registry), model, registry=registry
    )
    recorded = {key: small.plan.metadata[key] for key in ("quantrecipe.recipe", "quantrecipe.recipe.digest")}
    file = replace(other.files[0], metadata={**other.metadata, **recorded})
    apply_plan(replace(other, files=(file,)), tmp_path / "forged.gguf", registry=registry)
    verification = verify_file(tmp_path / "forged.gguf", registry=registry)
    (finding,) = check(verification, "types").findings
    assert finding.tensor == "blk.0.attn_v.weight"
    assert "is Q5_K, and the recipe makes it Q6_K" in finding.what


def test_a_recipe_that_isn_t_the_recorded_one(small: Made, registry: Registry) -> None:
    other = load_recipe_text(RECIPE.replace("Q6_K", "Q5_K"), registry=registry)
    verification = verify_file(small.path, registry=registry, recipe=other)
    assert "isn't the recipe that the file was made with" in verification.findings[0].what
    assert verify_file(small.path, registry=registry, recipe=small.recipe).ok


def test_a_lock_of_another_plan(small: Made, registry: Registry) -> None:
    recipe = load_recipe_text(RECIPE.replace("Q6_K", "Q5_K"), registry=registry)
    lock = make_lock(make_plan(recipe, small.source, registry=registry), registry)
    findings = check(verify_file(small.path, registry=registry, lock=lock), "lock").findings
    words = " ".join(f"{finding.tensor} {finding.what}" for finding in findings)
    assert "blk.0.attn_v.weight is Q6_K (locked: Q5_K)" in words
    assert "digest of the recipe" in words
    assert "digest of the plan" in words


def test_without_provenance(small: Made, tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "bare").mkdir()
    bare = make(tmp_path / "bare", registry, small.source, provenance=False)
    with pytest.raises(ModelError, match="--source MODEL and --recipe RECIPE"):
        verify_file(bare.path, registry=registry)
    whole = verify_file(bare.path, registry=registry, source=small.source, recipe=small.recipe, sample=None)
    assert whole.ok
    assert statuses(whole)["bytes"] == "ok"
    assert statuses(whole)["payload"] == statuses(whole)["source"] == "skipped"
    a = bare.plan.assignments[5]
    with flipped(bare.path, a.offset + 3):
        verification = verify_file(
            bare.path, registry=registry, source=small.source, recipe=small.recipe, sample=None
        )
    (finding,) = check(verification, "bytes").findings
    assert (finding.tensor, finding.offset) == (a.tensor.name, a.offset + 3)


def test_a_file_of_a_version_without_hashes_of_the_header(
    small: Made, tmp_path: Path, registry: Registry
) -> None:
    header = read_header(small.path)
    metadata = {key: value for key, value in header.metadata.items() if key != HEADER_HASHES}
    path = tmp_path / "old.gguf"
    path.write_bytes(encode_header(metadata, header.tensors) + small.path.read_bytes()[header.data_start :])
    verification = verify_file(path, registry=registry)
    assert statuses(verification)["header"] == "skipped"
    assert verification.ok


def test_bytes_after_the_last_tensor(small: Made, registry: Registry) -> None:
    size = small.path.stat().st_size
    with small.path.open("ab") as file:
        file.write(b"x" * 64)
    (finding,) = verify_file(small.path, registry=registry).findings
    assert (finding.offset, finding.tensor) == (size, None)
    assert "64 bytes" in finding.what


def test_a_file_that_is_cut_short(small: Made, registry: Registry) -> None:
    with small.path.open("r+b") as file:
        file.truncate(small.plan.nbytes - 200)
    with pytest.raises(ModelError, match="up to the end of the file"):
        verify_file(small.path, registry=registry)


def test_hostile_records(small: Made, tmp_path: Path, registry: Registry) -> None:
    """Arrays of the wrong length or type, texts that are no recipes."""
    header = read_header(small.path)
    data = small.path.read_bytes()[header.data_start :]
    for key, value in (
        ("quantrecipe.data.xxh3_128", GGUFValue.array(ValueType.STRING, ["00"])),
        ("quantrecipe.data.xxh3_128", GGUFValue.of(ValueType.UINT32, 7)),
        ("quantrecipe.header.xxh3_64", GGUFValue.of(ValueType.UINT32, 7)),
        ("quantrecipe.recipe", GGUFValue.of(ValueType.STRING, "rules: [" * 1000)),
        ("quantrecipe.recipe", GGUFValue.of(ValueType.UINT32, 1)),
    ):
        path = tmp_path / "hostile.gguf"
        path.write_bytes(encode_header({**header.metadata, key: value}, header.tensors) + data)
        try:
            assert not verify_file(path, registry=registry).ok
        except ModelError as error:
            assert key in str(error)


def test_shapes_are_no_source(small: Made, registry: Registry) -> None:
    with pytest.raises(ModelError, match="no weights"):
        verify_file(small.path, registry=registry, source=open_model("shapes/qwen3-14b", registry=registry))


def test_an_importance_matrix_is_no_model(tmp_path: Path, registry: Registry) -> None:
    write_gguf_imatrix(tmp_path / "imatrix.gguf", {"a.weight": (np.ones((1, 4), np.float32), [1.0])})
    with pytest.raises(ModelError, match="importance matrix"):
        verify_file(tmp_path / "imatrix.gguf", registry=registry)


def test_memory_does_not_grow_with_a_tensor(tiny: Made, registry: Registry, tmp_path: Path) -> None:
    """The buffers of hashing are small; a tensor is never held whole."""
    from quantrecipe.output.verify import hashing

    sizes: list[int] = []

    class Spy(hashing.TensorReader):
        def read(self, extents, begin, out, *, tensor=""):  # type: ignore[no-untyped-def]  # as the parent
            sizes.append(out.nbytes)
            super().read(extents, begin, out, tensor=tensor)

    extent = tiny.source.sources["token_embd.weight"].extents[0]
    with Spy() as reader:
        tensors = [t for t in tiny.source.tensors if t.name == "token_embd.weight"]
        from quantrecipe.output.progress import Silent

        hashing.hash_tensors(tensors, tiny.source.sources, reader, threads=1, progress=Silent())
    assert sum(sizes) == extent.nbytes
    assert max(sizes) <= 1 << 20


def test_what_interrupts_stops_at_once(tiny: Made, registry: Registry) -> None:
    from quantrecipe.output.progress import Silent

    class Impatient(Silent):
        def advance(self, weights: int, read: int, written: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_file(tiny.path, registry=registry, progress=Impatient())


def test_a_copy_of_the_file_elsewhere(tiny: Made, tmp_path: Path, registry: Registry) -> None:
    shutil.copy(tiny.path, tmp_path / "renamed.gguf")
    assert verify_file(tmp_path / "renamed.gguf", registry=registry).ok


@pytest.mark.parametrize("given", [(), ("source",), ("recipe",), ("source", "recipe"), ("lock",)])
def test_what_a_file_that_says_nothing_has_to_be_held_against(
    small: Made, tmp_path: Path, registry: Registry, given: tuple[str, ...]
) -> None:
    """Its source and its recipe together, or a lock."""
    bare = make(tmp_path / "bare", registry, small.source, provenance=False)
    everything = {
        "source": bare.source,
        "recipe": bare.recipe,
        "lock": make_lock(bare.plan, registry),
    }
    how: dict[str, Any] = {name: everything[name] for name in given}
    if given in (("source", "recipe"), ("lock",)):
        assert verify_file(bare.path, registry=registry, **how).ok
        return
    with pytest.raises(ModelError, match="doesn't say how it was made") as error:
        verify_file(bare.path, registry=registry, **how)
    assert error.value.problems[0].file == bare.path
