"""Every byte of a header is checked, and what isn't as it was written is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.made_files import MIX, Made, damaged, findings, made_file, rewritten

from quantrecipe.gguf.header import read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.output.verify.verification import Finding
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def made(tmp_path: Path, registry: Registry) -> Made:
    return made_file(tmp_path, registry)


def found(path: Path, registry: Registry) -> list[Finding]:
    return list(findings(verify_file(path, registry=registry), "header"))


def test_a_whole_header(made: Made, registry: Registry) -> None:
    (check,) = (it for it in verify_file(made.path, registry=registry).checks if it.name == "header")
    assert (check.status, check.said) == ("ok", f"{made.plan.files[0].header:,} bytes of header")


def test_the_headers_of_all_shards_are_counted(tmp_path: Path, registry: Registry) -> None:
    made = made_file(tmp_path, registry, split=SplitLimits(max_tensors=5))
    (check,) = (it for it in verify_file(made.path, registry=registry).checks if it.name == "header")
    assert check.said == f"{sum(file.header for file in made.plan.files):,} bytes of header"
    second = made.path.with_name("made-00002-of-00005.gguf")
    raw = second.read_bytes()
    name = made.plan.files[1].assignments[0].tensor.name
    second.write_bytes(raw.replace(name.encode(), name.replace("blk.0", "blk.9").encode(), 1))
    (finding,) = found(made.path, registry)
    assert (finding.file, finding.tensor) == (second, name.replace("blk.0", "blk.9"))


def test_a_value_that_was_changed(made: Made, registry: Registry) -> None:
    path = rewritten(
        made.path,
        lambda pairs, tensors: (pairs | {"llama.block_count": GGUFValue.of(ValueType.UINT32, 3)}, tensors),
    )
    said = "the metadata 'llama.block_count', or its hash, isn't what was written"
    assert found(path, registry) == [Finding(what=said, file=path)]


def test_an_entry_that_was_changed(made: Made, registry: Registry) -> None:
    path = rewritten(
        made.path,
        lambda pairs, tensors: (
            pairs,
            [replace(t, shape=t.shape[::-1]) if "attn_k" in t.name else t for t in tensors],
        ),
    )
    said = "its name, shape, type or offset in the header, or their hash, isn't what was written"
    names = ["blk.0.attn_k.weight", "blk.1.attn_k.weight"]
    assert [it for it in found(path, registry) if it.what == said] == [
        Finding(what=said, tensor=name, file=path) for name in names
    ]


def test_a_hash_that_was_changed(made: Made, registry: Registry) -> None:
    """Of the last entry: its place is the last one."""

    def change(pairs, tensors):  # type: ignore[no-untyped-def]  # as rewritten says
        hashes = pairs["quantrecipe.header.xxh3_64"].decode()
        hashes[-1] = "0" * 16
        pairs["quantrecipe.header.xxh3_64"] = GGUFValue.array(ValueType.STRING, hashes)
        return pairs, tensors

    (finding,) = found(rewritten(made.path, change), registry)
    assert finding.tensor == made.plan.assignments[-1].tensor.name


@pytest.mark.parametrize("more", [True, False])
def test_another_number_of_values(made: Made, registry: Registry, more: bool) -> None:
    def change(pairs, tensors):  # type: ignore[no-untyped-def]  # as rewritten says
        if more:
            return {**pairs, "general.name": GGUFValue.of(ValueType.STRING, "x")}, tensors
        del pairs["llama.attention.head_count"]
        return pairs, tensors

    path = rewritten(made.path, change)
    recorded = len(read_header(made.path).metadata) - 1 + len(made.plan.assignments)
    now = recorded + 1 if more else recorded - 1
    (finding,) = found(path, registry)
    assert finding.what.startswith(
        f"the header has {now} values and tensors, and quantrecipe.header.xxh3_64 {recorded} hashes: another program"
    )
    assert finding.file == path


def test_values_in_another_order_are_told_in_one_line(made: Made, registry: Registry) -> None:
    path = rewritten(made.path, lambda pairs, tensors: (dict(sorted(pairs.items())), tensors))
    (finding,) = found(path, registry)
    assert finding.what.startswith("another program has written the header anew: ")
    assert finding.file == path


def test_values_in_another_order_of_which_one_was_changed(made: Made, registry: Registry) -> None:
    def change(pairs, tensors):  # type: ignore[no-untyped-def]  # as rewritten says
        pairs["llama.block_count"] = GGUFValue.of(ValueType.UINT32, 3)
        return dict(sorted(pairs.items())), tensors

    path = rewritten(made.path, change)
    first, second = found(path, registry)
    assert "another program has written the header anew" in first.what
    assert "'llama.block_count'" in second.what


@pytest.mark.parametrize(
    "key", ["quantrecipe.versiom", "quantrecipe.strange", "quantrecipf.version", "puantrecipf.version"]
)
def test_keys_that_nobody_writes(made: Made, registry: Registry, key: str) -> None:
    """A letter or two of one of ours is different, or it begins as ours do."""
    path = rewritten(
        made.path,
        lambda pairs, tensors: (
            {key if k == "quantrecipe.version" else k: v for k, v in pairs.items()},
            tensors,
        ),
    )
    said = f"the key {key!r} isn't one that quantrecipe writes"
    assert Finding(what=said, file=path) in found(path, registry)


def test_a_key_of_somebody_else_is_theirs(made: Made, registry: Registry) -> None:
    """Three letters are different."""
    path = rewritten(
        made.path,
        lambda pairs, tensors: (
            {"xyzntrecipe.version" if k == "quantrecipe.version" else k: v for k, v in pairs.items()},
            tensors,
        ),
    )
    assert not any("isn't one that quantrecipe writes" in it.what for it in found(path, registry))


def test_padding_and_version(made: Made, registry: Registry) -> None:
    header = made.plan.files[0].header
    assert made.path.read_bytes()[header - 1] == 0, "there is padding"
    path = damaged(made.path, header - 1, 0x41)
    said = f"byte {header - 1:,} of the header is 0x41 (expected: 0x00)"
    assert found(path, registry) == [Finding(what=said, file=path, offset=header - 1)]
    path = damaged(made.path, 4, 2)
    said = "byte 4 of the header is 0x02 (expected: 0x03)"
    assert found(path, registry) == [Finding(what=said, file=path, offset=4)]


def test_a_file_of_somebody_else_has_nothing_to_hold_it_against(tmp_path: Path, registry: Registry) -> None:
    made = made_file(tmp_path, registry, provenance=False)
    verification = verify_file(
        made.path, registry=registry, source=made.source, recipe=load_recipe_text(MIX, registry=registry)
    )
    (check,) = (it for it in verification.checks if it.name == "header")
    assert (check.status, check.said) == ("skipped", "it records no hashes of its header")
