"""The real libraries through our bindings: the same figures wherever they are, and what they say of themselves."""

from __future__ import annotations

import ctypes
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.long_chunks import whole_and_in_pieces

from quantrecipe.engine import Session, engine_facts, find_engine
from quantrecipe.engine.bindings import Llama
from quantrecipe.engine.graph import Ggml
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.structs import Override, callback_offset, model_fields
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import make_reference, read_text, score
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests/data/texts/code.val.txt"


@pytest.fixture(scope="module")
def package() -> Path:
    """llama-cpp-python's libraries."""
    spec = find_spec("llama_cpp")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "lib"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    registry = load_registry(plugins=False)
    model = open_model(ROOT / "examples/tiny-code", registry=registry)
    for name in ("BF16", "Q4_0"):
        plan = make_plan(load_recipe(f"llama.cpp/{name}", registry=registry), model, registry=registry)
        apply_plan(plan, folder / f"{name}.gguf", registry=registry)
    return folder


def test_a_copy_of_the_folder_gives_the_same_bits(models: Path, package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(package, copy, symlinks=True)
    figures = []
    for engine in (package, copy):
        reference = make_reference(
            models / "BF16.gguf",
            read_text(TEXT),
            tmp_path / f"{engine.name}.reference",
            chunks=4,
            engine=engine,
        )
        figures.append(score(models / "Q4_0.gguf", reference, engine=engine).stacked())
    assert np.array_equal(*figures)
    assert find_engine(copy).digest == find_engine(package).digest


def test_what_it_says_of_itself(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANTRECIPE_ENGINE", raising=False)
    said = engine_facts(find_engine())
    assert said.engine.folder == package
    assert said.label.startswith("llama-cpp-python ")
    assert re.search(r"ggml \d+\.\d+\.\d+", said.version)
    assert said.sealed == ""
    assert any(device.is_cpu and device.name == "CPU" and device.total > 1 << 20 for device in said.devices)


def test_offsets_are_those_of_llama_cpp_python_s_own_structs(package: Path) -> None:
    """Its bindings are written for the libraries that it brings."""
    import llama_cpp

    llama = Llama(find_engine(package))
    model, context = llama_cpp.llama_model_params, llama_cpp.llama_context_params
    assert llama.gpu_layers == model.n_gpu_layers.offset
    defaults = bytes(llama.llama_model_default_params())
    fields = model_fields(defaults, llama.gpu_layers, load_mode=llama.has("llama_load_mode_name"))
    assert fields.load_mode == model.load_mode.offset
    assert fields.kv_overrides == model.kv_overrides.offset
    assert fields.use_extra_bufts == model.use_extra_bufts.offset
    assert callback_offset(bytes(llama.llama_context_default_params())) == context.cb_eval.offset
    assert ctypes.sizeof(Override) == ctypes.sizeof(llama_cpp.llama_model_kv_override)
    for name, offset in llama.context.items():
        assert offset == getattr(llama_cpp.llama_context_params, name).offset
    assert ctypes.sizeof(llama_cpp.llama_context_params) < 512


def test_another_struct_of_tensors_is_refused_with_the_version(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = Llama(find_engine(package))
    assert Ggml(llama).mul_mat != Ggml(llama).mul_mat_id
    real = llama.ggml_get_name
    monkeypatch.setitem(llama.__dict__, "ggml_get_name", lambda tensor: real(tensor) + b"?")
    with pytest.raises(
        EvaluationError, match=r"this llama\.cpp \(.*\) has other structs .*: name of ggml_tensor is"
    ):
        Ggml(llama)


def test_parts_of_weights_are_read_and_written(models: Path, package: Path) -> None:
    model = LanguageModel(models / "BF16.gguf", find_engine(package), writable=True, tell=lambda text: None)
    name = "blk.1.attn_k.weight"
    with model:
        exact = model.read(name)
        model.write(name, ~exact[128:192], offset=128)
        assert np.flatnonzero(model.read(name) != exact).tolist() == list(range(128, 192))
        assert np.array_equal(model.read(name, slice(128, 192)), ~exact[128:192])
        for offset in (-1, exact.size - 63):
            with pytest.raises(EvaluationError, match=r"was to get 64 at byte"):
                model.write(name, exact[:64], offset=offset)
        model.swap(name, exact[::-1].copy())
        model.restore()  # what it was before the exchange
        assert np.flatnonzero(model.read(name) != exact).tolist() == list(range(128, 192))
        with pytest.raises(EvaluationError, match=r"doesn't use a tensor blk\.9"):
            model.read("blk.9.attn_k.weight")


def test_a_long_chunk_says_the_same_piece_by_piece(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    text = TEXT.read_bytes()
    with Session(models / "BF16.gguf") as session:
        whole, pieces = session.call(whole_and_in_pieces, text, 2048)
    assert [len(piece) for piece in pieces] == [512, 511]
    assert np.abs(np.concatenate(pieces) - whole).max() < 1e-3
