"""Every byte after the header is a tensor's, or padding that is zero."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash
from support.made_files import Made, damaged, findings, made_file

from quantrecipe.output.verify.verification import Finding
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.registry import Registry, load_registry

NVFP4 = "quantrecipe: 1\nname: x\ndefault: NVFP4\n"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def made(tmp_path: Path, registry: Registry) -> Made:
    """With factors of four bytes, behind which padding is."""
    return made_file(tmp_path, registry, NVFP4)


def found(path: Path, registry: Registry) -> list[Finding]:
    return list(findings(verify_file(path, registry=registry), "payload"))


def test_what_was_checked(made: Made, registry: Registry) -> None:
    (check,) = (it for it in verify_file(made.path, registry=registry).checks if it.name == "payload")
    nbytes = made.plan.nbytes - made.plan.files[0].header
    assert check.said == f"{nbytes:,} bytes of data in {len(made.plan.assignments)} tensors"


@pytest.mark.parametrize("place", [0, 27])
def test_padding_between_tensors(made: Made, registry: Registry, place: int) -> None:
    scale = made.assignment("blk.0.attn_q.scale")
    at = scale.offset + 4 + place
    path = damaged(made.path, at)
    said = "the padding after blk.0.attn_q.scale isn't zero; no tensor's data is affected"
    assert found(path, registry) == [Finding(what=said, file=path, offset=at)]


def test_padding_after_the_last_tensor(tmp_path: Path, registry: Registry) -> None:
    made = made_file(tmp_path, registry, NVFP4, split=SplitLimits(max_tensors=1))
    number = next(n for n, file in enumerate(made.plan.files, 1) if file.assignments[0].owner)
    shard = made.path.with_name(f"made-{number:05}-of-{len(made.plan.files):05}.gguf")
    whole = shard.read_bytes()
    name = made.plan.files[number - 1].assignments[0].tensor.name
    shard.write_bytes(whole[:-1] + b"x")
    said = f"the padding after {name} isn't zero; no tensor's data is affected"
    assert found(made.path, registry) == [Finding(what=said, file=shard, offset=len(whole) - 1)]
    shard.write_bytes(whole[:-1])
    said = f"ends at byte {len(whole) - 1:,}, within its last padding (expected: {len(whole):,} bytes)"
    assert found(made.path, registry) == [Finding(what=said, file=shard, offset=len(whole) - 1)]
    shard.write_bytes(whole + bytes(4))
    said = f"32 bytes after {name} that belong to no tensor"
    assert found(made.path, registry) == [Finding(what=said, file=shard, offset=len(whole) - 28)]
    shard.write_bytes(whole)
    assert found(made.path, registry) == []


@pytest.mark.parametrize(("count", "said"), [(32, "32 bytes"), (5000, "5,000 bytes")])
def test_bytes_at_the_end(made: Made, registry: Registry, count: int, said: str) -> None:
    whole = made.path.read_bytes()
    last = made.plan.assignments[-1]
    end = last.offset + last.nbytes
    made.path.write_bytes(whole + bytes(count))
    (finding,) = found(made.path, registry)
    assert finding.offset == end
    assert f" bytes after {last.tensor.name} that belong to no tensor" in finding.what


def test_data_that_isn_t_what_was_written(made: Made, registry: Registry) -> None:
    """Without the source, the bytes that it has are told, and both hashes."""
    up = made.assignment("blk.1.ffn_up.weight")
    path = damaged(made.path, up.offset + up.nbytes - 1)
    (finding,) = found(path, registry)
    assert finding == Finding(what=finding.what, tensor="blk.1.ffn_up.weight", file=path, offset=up.offset)
    assert finding.what.startswith(
        f"its data, bytes {up.offset:,} to {up.offset + up.nbytes - 1:,}, isn't what was"
    )
    data = path.read_bytes()[up.offset : up.offset + up.nbytes]
    recorded = made.path.read_bytes()[up.offset : up.offset + up.nbytes]
    digests = [xxhash.xxh3_128_hexdigest(it) for it in (data, recorded)]
    assert finding.what.endswith(f"(XXH3-128 {digests[0]}, recorded {digests[1]})")


def test_several_tensors_are_each_named_in_the_order_of_the_file(made: Made, registry: Registry) -> None:
    raw = bytearray(made.path.read_bytes())
    names = ["blk.1.ffn_up.weight", "blk.0.attn_q.weight", "token_embd.weight"]
    for name in names:
        raw[made.assignment(name).offset] ^= 1
    made.path.write_bytes(raw)
    order = [a.tensor.name for a in made.plan.assignments if a.tensor.name in names]
    assert [it.tensor for it in found(made.path, registry)] == order
