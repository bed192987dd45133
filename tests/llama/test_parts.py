"""Projectors and draft heads, as GGUFs of their own: llama.cpp takes them, a projector beside a language model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.recorded_architectures import DRAFT_HEADS, NAMES, PROJECTORS, VARIANTS, write_recorded

from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

pytestmark = pytest.mark.llama

ANY = "glm4v"
"""A language model for projectors without one: they all lead to vectors of 64."""

NOT_TAKEN = {"ministral3", "qwen3omni-hear"}
"""What the llama.cpp of llama-cpp-python 0.3.36 doesn't take, though its converter makes it.

Pixtral's lacks a vector that it wants (v.token_embd.img_break). In Qwen3-Omni's, what is seen has longer vectors than
what is heard, since outputs of several layers are joined.
"""

PROGRAM = """
import sys
import llama_cpp
from llama_cpp import mtmd_cpp

parameters = llama_cpp.llama_model_default_params()
parameters.load_mtp = True
model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), parameters)
assert model, "llama.cpp doesn't load the model"
if len(sys.argv) > 2:
    settings = mtmd_cpp.mtmd_context_params_default()
    settings.use_gpu, settings.warmup = False, False
    context = mtmd_cpp.mtmd_init_from_file(sys.argv[2].encode(), model, settings)
    assert context, "llama.cpp doesn't load the projector"
    print(mtmd_cpp.mtmd_support_vision(context), mtmd_cpp.mtmd_support_audio(context))
"""


def written(folder: Path, part: str) -> Path:
    """The GGUF of a part of a model, as it is."""
    registry = load_registry(plugins=False)
    recipe = folder / "plain.yaml"
    recipe.write_text("quantrecipe: 1\nname: plain\ndefault: keep\n")
    model = open_model(folder, part=part, registry=registry)
    plan = make_plan(load_recipe(recipe, registry=registry), model, registry=registry)
    return apply_plan(plan, folder / f"{part}.gguf", registry=registry).path


def run(*paths: Path) -> str:
    """What the program says; in a process of its own, since libllama ends it where it doesn't like a file."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("name", sorted(set(PROJECTORS) - NOT_TAKEN))
def test_projectors_are_taken(name: str, tmp_path: Path) -> None:
    folder = write_recorded(name, tmp_path / "projector")
    language = folder if name in NAMES else write_recorded(ANY, tmp_path / "language")
    said = run(written(language, "model"), written(folder, "mmproj"))
    metadata = open_model(folder, part="mmproj").metadata
    towers = [f"clip.has_{tower}_encoder" in metadata for tower in ("vision", "audio")]
    assert said == " ".join(map(str, towers))


@pytest.mark.parametrize("name", sorted(set(DRAFT_HEADS) - set(VARIANTS)))
def test_draft_heads_are_taken(name: str, tmp_path: Path) -> None:
    run(written(write_recorded(name, tmp_path), "mtp"))
