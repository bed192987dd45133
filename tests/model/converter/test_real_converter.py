"""The real converter, where $QUANTRECIPE_CONVERTER names a checkout of llama.cpp and a Python with PyTorch is there.

    QUANTRECIPE_CONVERTER=llama.cpp QUANTRECIPE_CONVERTER_PYTHON=…/bin/python pytest tests/model/converter

What it hands over is held against what it wrote when the folders were recorded. Their vocabularies are tiny, and it
looks pre-tokenizers up by a hash, so that a script around it answers for that, as when they were recorded.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from support.recorded_architectures import inexact, read_recorded, write_recorded

from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import load_registry

CHECKOUT = os.environ.get("QUANTRECIPE_CONVERTER", "")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="no checkout of llama.cpp in QUANTRECIPE_CONVERTER")

REGISTRY = load_registry(plugins=False)
NAMES = (
    "arcee", "bailingmoe2", "bert", "bitnet", "bloom", "command-r", "dbrx", "deepseek2", "falcon-h1", "gemma3n",
    "gpt-oss", "mamba", "qwen3moe", "t5",
)  # fmt: skip
AROUND = """
import json, runpy, sys
sys.path[:0] = [{checkout!r}, {checkout!r} + "/gguf-py"]
import conversion.base
conversion.base.TextModel.get_vocab_base_pre = lambda model, tokenizer: {pre!r}
sys.argv[0] = {checkout!r} + "/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", NAMES)
def test_its_tensors_are_those_that_it_wrote(name: str, tmp_path: Path) -> None:
    folder, around = write_recorded(name, tmp_path), tmp_path / "around"
    around.mkdir()
    (around / "gguf-py").symlink_to(Path(CHECKOUT).resolve() / "gguf-py")
    recorded = read_recorded(name)
    pre = next((value for key, _, value in recorded["metadata"] if key == "tokenizer.ggml.pre"), "default")
    text = AROUND.format(checkout=str(Path(CHECKOUT).resolve()), pre=pre)
    (around / "convert_hf_to_gguf.py").write_text(text, "utf-8")
    model = open_model(folder, converter=around, registry=REGISTRY)
    assert [it.name for it in model.tensors] == [tensor[0] for tensor in recorded["tensors"]]
    assert list(model.metadata) == [key for key, *_ in recorded["metadata"]]
    keep = load_recipe_text("quantrecipe: 1\ndefault: keep\n", registry=REGISTRY)
    out = apply_plan(make_plan(keep, model, registry=REGISTRY), tmp_path / "out.gguf", registry=REGISTRY).path
    made = open_model(out, registry=REGISTRY)
    for stored, _, type_, sha256 in recorded["tensors"]:
        (extent,) = made.sources[stored].extents
        with out.open("rb") as file:
            file.seek(extent.offset)
            data = file.read(extent.nbytes)
        assert made.sources[stored].dtype == type_
        if stored not in inexact(name):
            assert hashlib.sha256(data).hexdigest() == sha256, stored
