"""What is said of a tensor that differs, and where in it the difference is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_files import Made, damaged, findings, made_file
from support.models import llama_tensors, write_gguf

from quantrecipe.model.open_model import open_model
from quantrecipe.output.verify import findings as module
from quantrecipe.output.verify.verification import Finding
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    """With experts, so that rows are told within their matrix."""
    return made_file(tmp_path_factory.mktemp("findings"), registry, experts=2)


UP = "blk.1.ffn_up_exps.weight"  # 2 experts of 512 rows of 8 blocks
ROW, BLOCK = 8 * 34, 34


def found(path: Path, made: Made, registry: Registry, **how: Any) -> Finding:
    (finding,) = findings(verify_file(path, registry=registry, **how), "payload")
    return finding


class TestScales:
    """Of a number that must be finite, it is said what the damage means to whoever loads the file."""

    @pytest.mark.parametrize(("high", "value"), [(0x7E, "NaN"), (0x7C, "infinite"), (0xFC, "infinite")])
    @pytest.mark.parametrize("piece", [1 << 20, 700])
    def test_in_any_piece(
        self,
        made: Made,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        high: int,
        value: str,
        piece: int,
    ) -> None:
        """Row 200 of expert 1 is in another piece than row 0."""
        monkeypatch.setattr(module, "_PIECE", piece)
        at = made.assignment(UP).offset + 712 * ROW + 3 * BLOCK
        raw = bytearray(made.path.read_bytes())
        raw[at : at + 2] = bytes([0, high])
        path = made.path.with_name("scales.gguf")
        path.write_bytes(raw)
        said = f"; the scale d of expert 1, row 200, block 3 is {value}, which llama.cpp refuses with --check-tensors"
        alone = found(path, made, registry)
        assert alone.what.endswith(said)
        assert (alone.tensor, alone.file, alone.offset) == (UP, path, made.assignment(UP).offset)
        located = found(path, made, registry, source=made.source, sample=0)
        assert located.what.endswith(said)
        assert "(expert 1, row 200, block 3)" in located.what
        assert (located.row, located.block) == (712, 3)

    def test_damage_that_leaves_all_finite(self, made: Made, registry: Registry) -> None:
        path = damaged(made.path, made.assignment(UP).offset + 5)
        assert "check-tensors" not in found(path, made, registry).what


@pytest.mark.parametrize(
    ("place", "row", "block", "said"),
    [
        (0, 0, 0, "expert 0, row 0, block 0"),
        (ROW - 1, 0, 7, "expert 0, row 0, block 7"),
        (ROW, 1, 0, "expert 0, row 1, block 0"),
        (512 * ROW + BLOCK + 3, 512, 1, "expert 1, row 0, block 1"),
        (1024 * ROW - 1, 1023, 7, "expert 1, row 511, block 7"),
    ],
)
def test_places(made: Made, registry: Registry, place: int, row: int, block: int, said: str) -> None:
    at = made.assignment(UP).offset + place
    path = damaged(made.path, at)
    finding = found(path, made, registry, source=made.source, sample=0)
    what = f"its data isn't what was written: 1 byte differs, the first at byte {at:,} ({said})"
    # what a flipped bit of a scale does besides is told behind it
    assert finding.what.startswith(what)
    assert (finding.tensor, finding.file, finding.offset, finding.row, finding.block) == (
        UP,
        path,
        at,
        row,
        block,
    )


class TestChanges:
    """Of the source."""

    def changed(self, made: Made, folder: Path, registry: Registry, value: float) -> Finding:
        tensors = llama_tensors(experts=2)
        before = tensors[UP][1, 3, 70]
        tensors[UP][1, 3, 70] = before + np.float32(value)
        source = open_model(write_gguf(folder / "other.gguf", tensors))
        verification = verify_file(made.path, registry=registry, source=source, sample=0)
        (finding,) = findings(verification, "source")
        extent = source.sources[UP].extents[0]
        assert (finding.tensor, finding.file, finding.offset) == (UP, extent.path, extent.offset)
        assert finding.what.endswith(f"; its content begins at byte {extent.offset:,}")
        return finding

    def test_that_show(self, made: Made, tmp_path: Path, registry: Registry) -> None:
        finding = self.changed(made, tmp_path, registry, 1.0)
        assert "; it shows in the result from expert 1, row 3, block 2 on; " in finding.what
        assert (finding.row, finding.block) == (515, 2)

    def test_that_are_too_small_to_show(self, made: Made, tmp_path: Path, registry: Registry) -> None:
        finding = self.changed(
            made, tmp_path, registry, float(llama_tensors(experts=2)[UP][1, 3, 70]) * 2**-7
        )
        assert "; it gives the same bytes, so the difference is too small to show; " in finding.what
        assert (finding.row, finding.block) == (None, None)
