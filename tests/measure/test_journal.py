"""What a stopped run leaves is used; what is damaged is refused, with the line to mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantrecipe.errors import SensitivityError
from quantrecipe.measure.journal import Journal
from quantrecipe.sensitivity.sensitivity import Loss, TensorSensitivity

KEY = {"analysis": "error 1"}


def tensor(name: str) -> TensorSensitivity:
    losses = {"Q4_K": Loss(error=0.01, standard_error=0.0, nbytes=144, version=1)}
    return TensorSensitivity(name=name, digest=name, weights=256, losses=losses, alpha=0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of three tensors: the key, a line for each, and one that says how much is on the disk."""
    path = tmp_path / "out.journal"
    with Journal(path, KEY) as journal:
        for name in "abc":
            journal.add_tensor(tensor(name))
    return path


def without_checks(path: Path) -> list[str]:
    """The lines as earlier versions wrote them."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [{key: line[key] for key in line.keys() - {"disk", "check"}} for line in lines]
    return [json.dumps(line) for line in kept if line]


def names(path: Path) -> list[str]:
    with Journal(path, KEY) as journal:
        return [it.name for it in journal.tensors]


def test_what_was_measured_is_known(path: Path) -> None:
    assert names(path) == ["a", "b", "c"]


def test_with_another_key_nothing_is(path: Path) -> None:
    with Journal(path, {"analysis": "imatrix 1"}) as journal:
        assert journal.tensors == []


@pytest.mark.parametrize("kept", [1, 20, -1], ids=["a byte", "some", "all but the end of the line"])
def test_a_line_that_was_cut_off_is_taken_away(path: Path, kept: int) -> None:
    whole = path.read_bytes()
    start, end = whole.rindex(b'{"tensor"'), whole.rindex(b'{"disk"')
    path.write_bytes(whole[: start + kept if kept > 0 else end - 1])
    assert names(path) == ["a", "b"]
    assert names(path) == ["a", "b"]  # the next run begins on a line of its own


def test_a_cut_off_line_of_an_earlier_version_is_no_damage(path: Path) -> None:
    lines = without_checks(path)
    path.write_text("\n".join([*lines[:3], lines[3][:30], *lines]) + "\n", encoding="utf-8")
    assert names(path) == ["a", "b", "a", "b", "c"]


@pytest.mark.parametrize("line", [1, 3, 4])
@pytest.mark.parametrize("damage", [b"", b"x", b'{"tensor": {}}', b"[]", b'{"tensor": \xff}'])
@pytest.mark.parametrize("earlier", [False, True], ids=["now", "earlier version"])
def test_a_damaged_line_is_refused(path: Path, line: int, damage: bytes, earlier: bool) -> None:
    lines = path.read_bytes().splitlines()
    if earlier:
        lines = [it.encode() for it in without_checks(path)]
    lines[line - 1] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    with pytest.raises(SensitivityError, match="damaged") as caught:
        names(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (path, line)
    assert "remove" in problem.remedy
    assert path.read_bytes() == before
    path.write_bytes(
        b"\n".join(lines[: line - 1] + lines[line:]) + b"\n"
    )  # as the remedy says; and it isn't locked
    assert len(names(path)) == (0 if line == 1 else 2)
