"""What stands in the wrong place is called what it is, with what to do, by everything that reads a file."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.errors import ImportanceError, ModelError, QuantrecipeError, RecipeError
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.misplaced import Role, kind_of
from quantrecipe.model.open_model import open_model
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

DATA = Path(__file__).parent / "data"
EXAMPLE = Path(__file__).parents[1] / "examples/tiny-code"
REGISTRY = load_registry(plugins=False)
SAFETENSORS = struct.pack("<Q", 2) + b"{}"

FILES: dict[str, tuple[bytes, Role | None, str]] = {
    "recipe.yaml": (b"# mine\nquantrecipe: 1\n", "recipe", "a recipe"),
    "release.yaml": (b"release: 1\nfiles: [Q8_0]\n", "release", "the description of a release"),
    "recipe.json": (b'{\n  "quantrecipe": 1}', "recipe", "a recipe"),
    "weights.bin": (b"PK\3\4....archive/data.pkl", None, "PyTorch pickle"),
    "old.pt": (b"\x80\x02}q\0", None, "PyTorch pickle"),
    "model.zip": (b"PK\3\4....model.gguf", None, "an archive"),
    "model.gguf.gz": (b"\x1f\x8b\x08\0", None, "an archive"),
    "pointer.gguf": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", None, "Git LFS"),
    "page.safetensors": (b"\n<!DOCTYPE html><html>", None, "a web page"),
    "ggml.bin": (b"tjgg\1\0\0\0", None, "before GGUF"),
    "empty.gguf": (b"", None, "an empty file"),
    "any.safetensors": (SAFETENSORS, "model", "a safetensors file"),
    "x.safetensors.index.json": (b'{"weight_map": {}}', "model", "the index of a model's safetensors"),
    "m.shapes.json": (b'{"quantrecipe_shapes": 1}', "model", "a shape file"),
    "config.json": (b'{"model_type": "llama"}', None, "a model's configuration"),
    "mine.lock": (b"# A plan, frozen by `quantrecipe lock` of 0.1.0\n", "lock", "a lock file"),
    "m.losses": (b'{"quantrecipe_sensitivity": 1}\n', "losses", "what `quantrecipe sensitivity` wrote"),
    "q.sh": (b"#!/bin/sh\nllama-quantize a.gguf b.gguf Q4_0\n", None, "a command for llama-quantize"),
}
READERS: dict[Role, tuple[Callable[[str], object], type[QuantrecipeError]]] = {
    "recipe": (lambda ref: load_recipe(ref, registry=REGISTRY), RecipeError),
    "model": (lambda ref: open_model(ref, registry=REGISTRY), ModelError),
    "importance matrix": (read_importance, ImportanceError),
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (content, _, _) in FILES.items():
        Path(name).write_bytes(content)
    write_gguf(Path("model.gguf"), llama_tensors(), llama_metadata())


@pytest.mark.parametrize("place", READERS)
@pytest.mark.parametrize("name", FILES)
def test_files_are_known_by_their_content(name: str, place: Role) -> None:
    _, role, what = FILES[name]
    kind = kind_of(name)
    assert kind is not None
    assert (kind.role, what in kind.what) == (role, True)
    assert kind.remedy
    if role == place:
        return
    read, error = READERS[place]
    with pytest.raises(error) as caught:
        read(name)
    (problem,) = caught.value.problems
    assert str(problem.file) == name
    if name.endswith(".gguf") and place == "model" and FILES[name][0]:
        assert problem.what.startswith("is not a GGUF file: it begins with b'")
        assert problem.remedy == f"it is {kind.what}: {kind.remedy}"
        return
    assert problem.what.startswith(f"is not a{'n' if place[0] == 'i' else ''} {place}, but ")
    assert what in problem.what
    assert problem.remedy == kind.remedy


@pytest.mark.parametrize("place", ["recipe", "importance matrix"])
def test_a_model_is_told(place: Role) -> None:
    read, error = READERS[place]
    with pytest.raises(error, match=r"model\.gguf: is (a model, not|not a recipe, but)"):
        read("model.gguf")
    with pytest.raises(
        error, match=f"is not an? {place}, but a folder with a model in it; give it where .* MODEL"
    ):
        read(str(EXAMPLE))


@pytest.mark.parametrize("name", ["imatrix.code.gguf", "imatrix.code.dat"])
@pytest.mark.parametrize("place", ["recipe", "model"])
def test_an_importance_matrix_is_told(name: str, place: Role) -> None:
    read, error = READERS[place]
    with pytest.raises(
        error,
        match=r"is (an importance matrix, not a|not a \w+, but an importance matrix).*; give it as --imatrix",
    ):
        read(str(DATA / "imatrix" / name))


@pytest.mark.parametrize("place", READERS)
def test_folders_and_urls(place: Role) -> None:
    read, error = READERS[place]
    Path("ggufs").mkdir()
    for name in ("a.gguf", "b.gguf"):
        Path("ggufs", name).write_bytes(b"GGUF")
    with pytest.raises(error, match=r"a folder of GGUF files.*give the file: .*a\.gguf.* another of its 2"):
        read("ggufs")
    with pytest.raises(error, match="is a URL; download it"):
        read("https://huggingface.co/org/name/tree/main")
    with pytest.raises(error, match="is a page on the hub; write hf://org/name for the model"):
        read("https://huggingface.co/org/name")


def test_a_name_on_hugging_face(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    says = r"org/name: is no file or folder here, but looks like a name on Hugging Face; hf download org/name"
    with pytest.raises(ModelError, match=says):
        open_model("org/name", registry=REGISTRY)
    snapshot = tmp_path / "hub/models--org--name/snapshots/0123"
    snapshot.mkdir(parents=True)
    with pytest.raises(ModelError, match=f"it is in the cache: give {snapshot}"):
        open_model("org/name:Q4_K_M", registry=REGISTRY)
    Path("org").mkdir()  # a folder of ours, and a mistyped name in it
    with pytest.raises(ModelError, match="there is no such file or folder"):
        open_model("org/name", registry=REGISTRY)


@pytest.mark.parametrize("content", [b"\n" * 60_000, b"{ \t" * 20_000, b"llama-quantize " * 4_000])
def test_what_is_one_thing_many_times_takes_no_time(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "many"
    path.write_bytes(content)
    start = time.process_time()
    assert kind_of(path) is None
    assert time.process_time() - start < 1


def test_what_isnt_known_is_left_to_its_reader() -> None:
    Path("notes.txt").write_text("hello")
    Path("list.json").write_text(json.dumps([1]))
    assert kind_of("notes.txt") is kind_of("list.json") is kind_of("nothing.gguf") is None
    assert kind_of("x" * 5000) is None


def test_a_user_without_a_home_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As whoever runs a container under a number of their own; a shipped recipe has a name of this form, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "~nobody-has-this-name/huggingface")
    found = kind_of("llama.cpp/Q4_K_M")
    assert found is not None
    assert "looks like a name on Hugging Face" in found.what
