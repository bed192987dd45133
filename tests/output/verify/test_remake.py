"""What is made again: which tensors, and where they differ from the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.made_files import Made, damaged, findings, made_file

from quantrecipe.output import row_units
from quantrecipe.output.verify.remake import sample
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    return made_file(tmp_path_factory.mktemp("remake"), registry)


class TestSample:
    def names(self, made: Made, count: int | None, *always: str) -> list[str]:
        return [a.tensor.name for a in sample(made.plan.assignments, count, always)]

    def test_all_or_none(self, made: Made) -> None:
        everything = [a.tensor.name for a in made.plan.assignments]
        assert self.names(made, None) == self.names(made, 1000) == everything
        assert self.names(made, 0) == []

    def test_all_types_come_before_a_second_of_any(self, made: Made) -> None:
        """F32, Q6_K and Q8_0; then the second role of each, and so on."""
        types = {a.tensor.name: a.type for a in made.plan.assignments}
        assert sorted(types[name] for name in self.names(made, 3)) == ["F32", "Q6_K", "Q8_0"]
        assert sorted(types[name] for name in self.names(made, 6)) == [
            "F32",
            "F32",
            "Q6_K",
            "Q6_K",
            "Q8_0",
            "Q8_0",
        ]
        roles = {made.assignment(name).tensor.role for name in self.names(made, 8) if types[name] == "Q8_0"}
        assert len(roles) == len([name for name in self.names(made, 8) if types[name] == "Q8_0"])

    def test_layers_are_spread(self, tmp_path: Path, registry: Registry) -> None:
        """The middle first, then the middles of what is left on both sides."""
        a = made_file(tmp_path, registry).assignment("blk.0.attn_v.weight")
        many = [
            replace(a, tensor=replace(a.tensor, name=f"blk.{i}.attn_v.weight", layer=i)) for i in range(9)
        ]
        order = [4, 2, 7, 1, 3, 6, 8, 0, 5]
        for count in range(10):
            assert [it.tensor.layer for it in sample(many, count, ())] == sorted(order[:count])

    def test_suspects_come_on_top(self, made: Made) -> None:
        plain = self.names(made, 2)
        suspect = next(a.tensor.name for a in made.plan.assignments if a.tensor.name not in plain)
        assert set(self.names(made, 2, suspect)) == {*plain, suspect}


@pytest.mark.parametrize("chunk", [1 << 19, 256 * 3])
def test_differences_are_counted_over_all_units(
    made: Made, registry: Registry, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Whatever order the threads come in: so many bytes, the first of them first."""
    monkeypatch.setattr(row_units.split, "__defaults__", (1, chunk))
    up = made.assignment("blk.1.ffn_up.weight")
    raw = bytearray(made.path.read_bytes())
    places = [up.offset + place for place in (5, 6, 34 * 8 * 100 + 2, up.nbytes - 1)]
    for place in places:
        raw[place] ^= 1
    path = made.path.with_name("several.gguf")
    path.write_bytes(raw)
    for threads in (1, 5):
        verification = verify_file(path, registry=registry, source=made.source, sample=0, threads=threads)
        (finding,) = findings(verification, "payload")
        assert finding.what.startswith(
            f"its data isn't what was written: 4 bytes differ, the first at byte {places[0]:,} (row 0, block 0)"
        )
        assert (finding.tensor, finding.offset, finding.row, finding.block) == (
            up.tensor.name,
            places[0],
            0,
            0,
        )
        assert verification.requantized == (up.tensor.name,)


@pytest.mark.parametrize(("row", "block"), [(0, 7), (511, 0), (17, 3)])
def test_the_place_of_a_difference(made: Made, registry: Registry, row: int, block: int) -> None:
    up = made.assignment("blk.1.ffn_up.weight")
    at = up.offset + row * 8 * 34 + block * 34 + 33
    verification = verify_file(damaged(made.path, at), registry=registry, source=made.source, sample=0)
    (finding,) = findings(verification, "payload")
    assert (finding.offset, finding.row, finding.block) == (at, row, block)
    assert f"1 byte differs, the first at byte {at:,} (row {row}, block {block})" in finding.what


def test_what_was_read(made: Made, registry: Registry) -> None:
    """The file and the source once for their hashes; of tensors that are made again, both a second time."""
    source = {name: sum(e.nbytes for e in it.extents) for name, it in made.source.sources.items()}
    hashed = sum(a.nbytes for a in made.plan.assignments) + sum(source.values())
    nothing = verify_file(made.path, registry=registry, source=made.source, sample=0)
    assert nothing.read == hashed
    some = verify_file(made.path, registry=registry, source=made.source, sample=5)
    assert len(some.requantized) == 5
    assert some.read == hashed + sum(made.assignment(name).nbytes + source[name] for name in some.requantized)
