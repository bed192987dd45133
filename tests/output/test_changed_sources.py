"""A model that changes while it is read makes no file; one that was only touched does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.models import llama_tensors, write_gguf
from support.recipes import recipe

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output import apply
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.stream import Stream
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/out.gguf"


def flip(model: Model) -> None:
    """A low bit of a weight, which no check of values sees."""
    name = "blk.0.attn_q.weight"
    (extent,) = model.sources[name].extents
    with extent.path.open("r+b") as file:
        file.seek(extent.offset + 20)
        data = file.read(1)
        file.seek(extent.offset + 20)
        file.write(bytes([data[0] ^ 1]))


def replace(model: Model) -> None:
    """Another file in its place, as a download makes it."""
    (path,) = model.files
    new = path.with_name("new")
    shutil.copy(path, new)
    flip_in = open_model(new.rename(path.with_name("new.gguf")), registry=load_registry(plugins=False))
    flip(flip_in)
    path.with_name("new.gguf").replace(path)


def touch(model: Model) -> None:
    (path,) = model.files
    os.utime(path, ns=(1, 1))


def copy(model: Model) -> None:
    (path,) = model.files
    shutil.copy(path, path.with_name("same"))
    path.with_name("same").replace(path)


def remove(model: Model) -> None:
    if os.name != "posix":
        pytest.skip("elsewhere no open file is removed")
    (path,) = model.files
    path.unlink()


def run(
    source: Path,
    out: Path,
    registry: Registry,
    change: object,
    monkeypatch: pytest.MonkeyPatch,
    *,
    resume: bool,
) -> bytes:
    """Apply, and change the source when all of it has been read."""
    model = open_model(source, registry=registry)
    plan = make_plan(recipe(default="Q4_K"), model, registry=registry)
    ran = Stream.run

    def changing(self: Stream) -> None:
        ran(self)
        if callable(change):
            change(model)

    with monkeypatch.context() as patch:
        patch.setattr(apply.Stream, "run", changing)
        return apply_plan(plan, out, registry=registry, threads=1, resume=resume).path.read_bytes()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("change", [flip, replace])
def test_what_has_changed_makes_no_file(
    source: Path, out: Path, registry: Registry, change: object, resume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"blk\.0\.attn_q\.weight isn't what it was; wait until") as caught:
        run(source, out, registry, change, monkeypatch, resume=resume)
    assert caught.value.problems[0].file == source
    assert list(out.parent.iterdir()) == []  # neither the file nor what the next run would go on with


@pytest.mark.parametrize("change", [touch, copy, remove])
def test_what_is_the_same_does(
    source: Path, out: Path, registry: Registry, change: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    peace = run(source, out.with_name("peace.gguf"), registry, None, monkeypatch, resume=True)
    assert run(source, out, registry, change, monkeypatch, resume=True) == peace
