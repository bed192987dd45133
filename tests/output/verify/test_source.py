"""A file held against the model that it was made from: what differs in shapes, metadata, encodings and digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from support.imatrix_files import write_gguf_imatrix
from support.made_files import MIX, Made, findings, made_file, rewritten
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output.verify.verification import Finding, Verification
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

WEIGHTED = "quantrecipe: 1\nname: weighted\ndefault: Q4_K\n"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    return made_file(tmp_path_factory.mktemp("source"), registry)


def verified(path: Path, made: Made, registry: Registry, **how: Any) -> Verification:
    return verify_file(path, registry=registry, **{"source": made.source, "sample": None, **how})


def matrix(folder: Path, seed: int = 0, roles: tuple[str, ...] = ("attn_q", "ffn_up")) -> Importance:
    rng = np.random.default_rng(seed)
    entries = {
        f"blk.{i}.{role}.weight": (rng.random((1, 256), np.float32) + 1, [8.0])
        for i in (0, 1)
        for role in roles
    }
    folder.mkdir(exist_ok=True)
    return read_importance(write_gguf_imatrix(folder / "matrix.gguf", entries))


def test_all_is_right(made: Made, registry: Registry) -> None:
    verification = verified(made.path, made, registry)
    said = {check.name: (check.status, check.said) for check in verification.checks}
    count = len(made.plan.assignments)
    assert said["types"] == ("ok", f"{count} tensors")
    assert said["plan"] == ("ok", "names, shapes, metadata and how each tensor was encoded")
    assert said["source"] == ("ok", f"the content of {count} tensors")
    assert said["bytes"] == ("ok", f"{count} of {count} tensors, quantized again")


def test_a_source_that_lacks_a_tensor_and_one_that_has_more(
    made: Made, tmp_path: Path, registry: Registry
) -> None:
    tensors = llama_tensors()
    tensors["blk.0.attn_z.weight"] = tensors.pop("blk.0.attn_v.weight")
    source = open_model(write_gguf(tmp_path / "other.gguf", tensors))
    found = findings(verified(made.path, made, registry, source=source), "types")
    assert found == (
        Finding(what="the file doesn't have it (expected: Q8_0)", tensor="blk.0.attn_z.weight"),
        Finding(what="the source has no such tensor", tensor="blk.0.attn_v.weight"),
    )


def test_a_source_of_other_shapes(made: Made, tmp_path: Path, registry: Registry) -> None:
    source = open_model(write_gguf(tmp_path / "other.gguf", llama_tensors(vocab=96)))
    found = findings(verified(made.path, made, registry, source=source), "types")
    assert found == tuple(
        Finding(what="has the shape (64, 256), and (96, 256) in the source", tensor=name)
        for name in ("token_embd.weight", "output.weight")
    )


@pytest.mark.parametrize("experts", [0, 2])
def test_companions_are_no_surplus(tmp_path: Path, registry: Registry, experts: int) -> None:
    made = made_file(tmp_path, registry, "quantrecipe: 1\nname: x\ndefault: NVFP4\n", experts=experts)
    verification = verified(made.path, made, registry)
    assert verification.ok
    assert {a.tensor.name for a in made.plan.assignments} == set(verification.requantized)


class TestMetadata:
    def test_a_value_that_isn_t_the_source_s(self, made: Made, tmp_path: Path, registry: Registry) -> None:
        pairs = llama_metadata(context_length=4096) | {"llama.block_count": GGUFValue.of(ValueType.UINT32, 2)}
        del pairs["llama.attention.head_count_kv"]
        source = open_model(write_gguf(tmp_path / "other.gguf", llama_tensors(), pairs))
        found = findings(verified(made.path, made, registry, source=source), "plan")
        assert found == (
            Finding(
                what="the metadata 'llama.context_length' is not there, and should be 4096", file=made.path
            ),
            Finding(
                what="the metadata 'llama.attention.head_count_kv' is 2, and should be not there",
                file=made.path,
            ),
        )

    def test_arrays_are_told_by_their_length(self, made: Made, tmp_path: Path, registry: Registry) -> None:
        pairs = llama_metadata() | {"x.tokens": GGUFValue.array(ValueType.STRING, ["a"] * 1234)}
        source = open_model(write_gguf(tmp_path / "other.gguf", llama_tensors(), pairs))
        (finding,) = findings(verified(made.path, made, registry, source=source), "plan")
        assert finding.what == "the metadata 'x.tokens' is not there, and should be an array of 1,234"

    def test_without_provenance_it_is_somebody_else_s(self, tmp_path: Path, registry: Registry) -> None:
        made = made_file(tmp_path, registry, provenance=False)
        path = rewritten(
            made.path,
            lambda pairs, tensors: (
                pairs | {"llama.block_count": GGUFValue.of(ValueType.UINT32, 2)},
                tensors,
            ),
        )
        recipe = load_recipe_text(MIX, registry=registry)
        verification = verified(path, made, registry, recipe=recipe)
        assert verification.ok
        (plan,) = (check for check in verification.checks if check.name == "plan")
        assert plan.said == "shapes"


class TestEncodings:
    @pytest.fixture
    def weighted(self, tmp_path: Path, registry: Registry) -> tuple[Made, Importance]:
        importance = matrix(tmp_path / "matrix")
        return made_file(tmp_path, registry, WEIGHTED, importance=importance), importance

    def test_with_its_matrix(self, weighted: tuple[Made, Importance], registry: Registry) -> None:
        made, importance = weighted
        verification = verified(made.path, made, registry, importance=importance)
        assert verification.ok
        assert len(verification.requantized) == len(made.plan.assignments)

    def test_without_it(self, weighted: tuple[Made, Importance], registry: Registry) -> None:
        made, _ = weighted
        verification = verified(made.path, made, registry)
        assert verification.ok
        used = {a.tensor.name for a in made.plan.assignments if a.importance}
        assert {name.split(".")[2] for name in used} == {
            "attn_q",
            "ffn_up",
            "ffn_gate",
        }  # the gate by what ffn_up saw
        assert {a.tensor.name for a in made.plan.assignments} - used == set(verification.requantized)
        (check,) = (it for it in verification.checks if it.name == "bytes")
        count = len(made.plan.assignments)
        assert check.said == (
            f"{count - 6} of {count} tensors, quantized again; 6 can't be without the importance matrix (--imatrix)"
        )

    def test_with_another(
        self, weighted: tuple[Made, Importance], tmp_path: Path, registry: Registry
    ) -> None:
        made, importance = weighted
        other = matrix(tmp_path / "other", seed=5)
        found = findings(verified(made.path, made, registry, importance=other), "plan")
        strange = [it.tensor for it in found if it.what.startswith("it records another encoding")]
        assert set(strange) == {a.tensor.name for a in made.plan.assignments if a.importance}
        digests = [it for it in found if it.what.startswith("it was made with another importance matrix")]
        said = f"it was made with another importance matrix: its digest is {importance.digest}, this one's "
        assert digests == [Finding(what=said + other.digest, file=other.path)]

    def test_a_matrix_that_covers_more_than_was_used(
        self, weighted: tuple[Made, Importance], tmp_path: Path, registry: Registry
    ) -> None:
        """Tensors that were made without are made again without."""
        made, _ = weighted
        more = matrix(tmp_path / "more", roles=("attn_q", "ffn_up", "attn_k"))
        verification = verified(made.path, made, registry, importance=more)
        assert {"blk.0.attn_k.weight", "blk.1.attn_k.weight"} <= set(verification.requantized)
        assert findings(verification, "bytes") == ()

    def test_a_record_of_another_encoding(self, made: Made, registry: Registry) -> None:
        def change(pairs, tensors):  # type: ignore[no-untyped-def]  # as rewritten says
            records = pairs["quantrecipe.encoding.xxh3_128"].decode()
            records[3] = "0" * 32
            return pairs | {
                "quantrecipe.encoding.xxh3_128": GGUFValue.array(ValueType.STRING, records)
            }, tensors

        path = rewritten(made.path, change)
        verification = verified(path, made, registry)
        found = findings(verification, "plan")
        assert [it.tensor for it in found if it.tensor] == [made.plan.assignments[3].tensor.name]
        (digest,) = (it for it in found if not it.tensor)
        assert digest.what.startswith("the plan's digest is ")
        assert digest.what.endswith(
            f"but the file says {made.plan.digest}: source types, recipe or encodings differ"
        )
        assert digest.file == path
        assert made.plan.assignments[3].tensor.name not in verification.requantized


def test_a_source_of_another_type_is_another_plan(made: Made, tmp_path: Path, registry: Registry) -> None:
    source = open_model(write_gguf(tmp_path / "f16.gguf", llama_tensors(), type_="F16"))
    found = findings(verified(made.path, made, registry, source=source), "plan")
    assert [it.what[:21] for it in found] == ["the plan's digest is "]


def test_the_source_s_content(made: Made, tmp_path: Path, registry: Registry) -> None:
    tensors = llama_tensors()
    tensors["blk.1.attn_q.weight"][100, 7] += 5
    source = open_model(write_gguf(tmp_path / "other.gguf", tensors))
    (finding,) = findings(verified(made.path, made, registry, source=source, sample=0), "source")
    extent = source.sources["blk.1.attn_q.weight"].extents[0]
    a = made.assignment("blk.1.attn_q.weight")
    assert finding == Finding(
        what=finding.what, tensor=a.tensor.name, file=extent.path, offset=extent.offset, row=100, block=0
    )
    assert finding.what.endswith(
        f"it shows in the result from row 100, block 0 on; its content begins at byte {extent.offset:,}"
    )


def test_other_bytes_than_the_source_gives(made: Made, registry: Registry) -> None:
    """The file's record of its data has been changed with the data."""
    a = made.assignment("blk.1.attn_q.weight")
    raw = bytearray(made.path.read_bytes())
    raw[a.offset + 34] ^= 1
    place = [it.tensor.name for it in made.plan.assignments].index(a.tensor.name)

    def change(pairs, tensors):  # type: ignore[no-untyped-def]  # as rewritten says
        records = pairs["quantrecipe.data.xxh3_128"].decode()
        records[place] = xxhash.xxh3_128_hexdigest(bytes(raw[a.offset : a.offset + a.nbytes]))
        return pairs | {"quantrecipe.data.xxh3_128": GGUFValue.array(ValueType.STRING, records)}, tensors

    path = rewritten(made.path, change)
    whole = bytearray(path.read_bytes())
    whole[a.offset + 34] ^= 1
    path.write_bytes(whole)
    verification = verified(path, made, registry)
    assert findings(verification, "payload") == ()
    (finding,) = findings(verification, "bytes")
    said = f"its data isn't what the source gives: 1 byte differs, the first at byte {a.offset + 34:,} (row 0, block 1)"
    assert finding == Finding(
        what=said, tensor=a.tensor.name, file=path, offset=a.offset + 34, row=0, block=1
    )
