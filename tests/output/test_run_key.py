"""What a run's bytes depend on, and how the difference to another run is called."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model
from quantrecipe.output import run_key as module
from quantrecipe.output.run_key import difference, run_key
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))


def plan_of(source: Path, registry: Registry, type_: str = "Q4_K") -> Plan:
    return make_plan(recipe(rule("head", "F16"), default=type_), open_model(source), registry=registry)


def test_the_same_run_has_the_same_key_wherever_the_model_lies(
    source: Path, tmp_path: Path, registry: Registry
) -> None:
    key = run_key(plan_of(source, registry), nan="error")
    assert run_key(plan_of(source, registry), nan="error") == key
    (tmp_path / "moved").mkdir()
    moved = source.rename(tmp_path / "moved/m.gguf")
    assert run_key(plan_of(moved, registry), nan="error") == key


@pytest.mark.parametrize("place", [0, -1])
def test_both_ends_of_a_file_are_looked_at(source: Path, registry: Registry, place: int) -> None:
    plan = plan_of(source, registry)
    before, status = run_key(plan, nan="error"), source.stat()
    data = bytearray(source.read_bytes())
    data[place] ^= 1
    source.write_bytes(data)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert difference(before, run_key(plan, nan="error")).startswith("another model, or of files")


def test_what_differs_is_named_by_what_matters_most(
    source: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(source, registry)
    key = run_key(plan, nan="error")
    assert difference(key, run_key(plan, nan="allow")) == "another --nan"
    assert difference(key, run_key(plan_of(source, registry, "Q5_K"), nan="allow")) == "another plan"
    assert difference(key, run_key(replace(plan, recipe_digest="x"), nan="error")) == "another recipe"
    os.utime(source, ns=(0, 0))
    assert "another model" in difference(key, run_key(replace(plan, recipe_digest="x"), nan="error"))
    monkeypatch.setattr(module, "__version__", "0.0.0")
    assert difference(key, run_key(plan, nan="error")) == "another version of quantrecipe"
    assert difference({}, key) == "another version of quantrecipe"


def test_a_model_that_is_gone(source: Path, registry: Registry) -> None:
    plan = plan_of(source, registry)
    source.unlink()
    with pytest.raises(ModelError, match=r"m.gguf: can't be read: No such file"):
        run_key(plan, nan="error")


@dataclass
class Elsewhere:
    """A remote file: the bytes of a local one."""

    data: bytes
    identity: str
    held: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def head(self, start: int, count: int) -> bytes:
        return self.data[start : start + count]


@pytest.mark.parametrize(
    ("identity", "other", "same"), [("a@1", "a@1", True), ("a@1", "a@2", False), ("", "", False)]
)
def test_files_elsewhere_are_known_by_what_they_say(
    source: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    identity: str,
    other: str,
    same: bool,
) -> None:
    """Not by the time of the file that stands for them here."""
    plan, data = plan_of(source, registry), source.read_bytes()
    source.write_bytes(b"")
    keys = []
    for said in (identity, other):
        os.utime(source, ns=(0, len(keys)))
        monkeypatch.setattr(module, "remote_file", lambda path, said=said: Elsewhere(data, said))
        keys.append(run_key(plan, nan="error"))
    assert (keys[0] == keys[1]) is same
    if not same:
        assert difference(*keys) == "another model, or of files that have changed since"


def test_a_copy_of_another_time_is_the_same_where_copies_are_meant(source: Path, registry: Registry) -> None:
    keys = []
    for when in (1, 2):
        os.utime(source, (when, when))
        plan = plan_of(source, registry)
        keys.append([run_key(plan, nan="error", copies=copies) for copies in (False, True)])
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]


def test_the_middle_of_a_file_is_looked_at_where_copies_are_meant(tmp_path: Path) -> None:
    path, size = tmp_path / "file", 1 << 22
    path.write_bytes(bytes(size))
    before = module.file_key(path, copies=True)
    for number in range(16):
        data = bytearray(size)
        data[size * (2 * number + 1) // 32 + 4000] = 1
        path.write_bytes(data)
        assert module.file_key(path, copies=True) != before
