"""Headers have the hashes that are known when all tensors are made, in the order of the tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.shared_work import plan_of_kind

from quantrecipe.errors import OutputError
from quantrecipe.gguf.header import read_header
from quantrecipe.output.headers import write_headers
from quantrecipe.output.partfile import PartFile
from quantrecipe.plan.metadata import DATA_HASHES, REMARKED, SOURCE_HASHES
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import load_registry


def write(plan: Plan, out: Path) -> None:
    (file,) = plan.files
    names = [a.tensor.name for a in file.assignments]
    sources = {name: f"{number:032x}" for number, name in enumerate(names)}
    written = {name: f"{number:032X}" for number, name in enumerate(names)}
    with PartFile(out, file.nbytes) as part:
        write_headers(plan, [part], sources, written, {names[3]: 7})
        part.finish()


def test_hashes_stand_in_the_order_of_the_tensors(tmp_path: Path) -> None:
    plan = plan_of_kind("factors", tmp_path, load_registry(plugins=False))
    write(plan, tmp_path / "out.gguf")
    header = read_header(tmp_path / "out.gguf")
    names = [a.tensor.name for a in plan.assignments]
    owners = [names.index(a.owner or a.tensor.name) for a in plan.assignments]
    assert header.metadata[SOURCE_HASHES].decode() == [f"{number:032x}" for number in owners]
    assert header.metadata[DATA_HASHES].decode() == [f"{number:032X}" for number in range(len(names))]
    if REMARKED in header.metadata:
        assert list(header.metadata[REMARKED].decode())[3] == 7


def test_a_header_of_another_length_than_planned_is_an_error(tmp_path: Path) -> None:
    plan = plan_of_kind("dense", tmp_path, load_registry(plugins=False))
    (file,) = plan.files
    wrong = replace(plan, files=(replace(file, header=file.header - 32),))
    with pytest.raises(OutputError, match="the header came out at"):
        write(wrong, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
