"""What we take llama-quantize's commands to mean, and what we write as commands, held against llama-quantize itself.

QUANTRECIPE_LLAMA_BIN names its folder (`.ci/llama_tools` builds it).
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.zoo import ZOO, write_model

from quantrecipe.errors import PlanError, RecipeError
from quantrecipe.exchange.from_commands.llama_quantize import from_llama_quantize
from quantrecipe.exchange.from_commands.read_command import read_command
from quantrecipe.exchange.to_commands.llama_quantize import to_llama_quantize
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

BIN = os.environ.get("QUANTRECIPE_LLAMA_BIN", "")
pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(
        not BIN, reason="QUANTRECIPE_LLAMA_BIN isn't set: .ci/run builds llama-quantize and sets it"
    ),
]
MODELS = [path for path in ZOO if path.stem not in ("clip-8", "bert-12", "t5-12")]
MANY = int(os.environ.get("QUANTRECIPE_MANY_COMMANDS", "2"))
"""Commands for each model."""

_BASES = (
    "Q4_K_M",
    "Q3_K_M",
    "Q5_K_S",
    "Q2_K",
    "IQ3_S",
    "IQ4_XS",
    "Q8_0",
    "Q4_0",
    "F16",
    "MXFP4_MOE",
    "Q3_K_L",
)
_TYPES = ("q8_0", "Q6_K", "q5_k", "Q4_K", "iq4_xs", "q4_0", "f16", "bf16", "mxfp4")
_PATTERNS = (
    "attn_v", r"blk\.([0-3])\.ffn_down", r"attn_(k|q)", "ffn_down", r"blk\.\D*[0-9]\.attn_v", "FFN_UP",
    r"token_embd", r"output\.weight", r"blk\..*[13579]\..*", "_exps", "ffn_gate_inp", "norm", r"^blk\.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.mark.parametrize("shapes", MODELS, ids=[path.stem for path in MODELS])
def test_a_command_means_what_llama_quantize_does(shapes: Path, registry: Registry, tmp_path: Path) -> None:
    write_model(shapes, tmp_path / "in.gguf")
    model = open_model(tmp_path / "in.gguf", registry=registry)
    rng = random.Random(shapes.stem)
    for _ in range(MANY):
        options = some_options(rng)
        command = f"llama-quantize {shlex.join(options)} in.gguf out.gguf {rng.choice(_BASES)}"
        theirs = run(command, tmp_path, registry)
        if theirs is None:  # it refuses some types for some shapes
            continue
        made = from_llama_quantize(
            read_command(command, tmp_path, file="command"),
            registry,
            model=model,
            name="made",
            file="command",
        )
        plan = make_plan(load_recipe_text(made.text, registry=registry), model, registry=registry)
        ours = {a.tensor.name: a.type for a in plan.assignments}
        different = {name: (type_, theirs[name]) for name, type_ in ours.items() if theirs[name] != type_}
        assert not different, f"(ours, llama-quantize's) of {command}\n{made.text}"


@pytest.mark.parametrize("shapes", MODELS, ids=[path.stem for path in MODELS])
def test_an_exported_command_gives_the_plan(shapes: Path, registry: Registry, tmp_path: Path) -> None:
    write_model(shapes, tmp_path / "in.gguf")
    model = open_model(tmp_path / "in.gguf", registry=registry)
    rng = random.Random(shapes.stem)
    for _ in range(MANY):
        recipe = load_recipe_text(some_recipe(rng), registry=registry)
        try:
            plan = make_plan(recipe, model, registry=registry)
        except PlanError:  # rules that hide each other
            continue
        exported = to_llama_quantize(plan, recipe, registry)
        words = shlex.split(exported.text.replace("\\\n", " "))
        words[-2] = "out.gguf"
        theirs = run(shlex.join(words), tmp_path, registry)
        assert theirs == {a.tensor.name: a.type for a in plan.assignments}, exported.text
        made = open_model(tmp_path / "out.gguf", registry=registry)
        label = made.metadata["general.file_type"].decode()
        assert label == plan.metadata["general.file_type"].decode(), exported.text


def some_options(rng: random.Random) -> list[str]:
    options: list[str] = []
    for _ in range(rng.randrange(4)):
        options += ["--tensor-type", f"{rng.choice(_PATTERNS)}={rng.choice(_TYPES)}"]
    if rng.random() < 0.2:
        options += ["--output-tensor-type", rng.choice(_TYPES[:4])]
    if rng.random() < 0.2:
        options += ["--token-embedding-type", rng.choice(_TYPES[:2])]
    if rng.random() < 0.15:
        options.append("--pure")
    if rng.random() < 0.1:
        options.append("--leave-output-tensor")
    return options


def some_recipe(rng: random.Random) -> str:
    rules = [
        f"- {{tensors: {rng.choice(['attn_v', 'head', 'ffn_down', 'token_embd', '*_exps', 'attn_[kq]', '*'])!r}, "
        f"layers: {rng.choice(['first 3', 'last 1/8', 'every 2', '0, 2-4'])!r}, optional: true, "
        f"type: {rng.choice(['Q8_0', 'Q6_K', 'Q5_K', 'Q4_K', 'IQ4_XS', 'Q4_0', 'F16'])}}}"
        for _ in range(rng.randrange(1, 4))
    ]
    base = rng.choice(
        ["extends: llama.cpp/Q4_K_M", "extends: llama.cpp/Q3_K_L", "default: Q5_K", "default: IQ4_XS"]
    )
    return "\n".join(["quantrecipe: 1", base, "rules:", *rules, ""])


def run(command: str, folder: Path, registry: Registry) -> dict[str, str] | None:
    """The types in the file that llama-quantize writes; None where it refuses, or aborts."""
    words: Sequence[str] = shlex.split(command)
    (folder / "out.gguf").unlink(missing_ok=True)
    done = subprocess.run(
        [str(Path(BIN) / "llama-quantize"), *words[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    return {
        tensor.name: tensor.dtype for tensor in open_model(folder / "out.gguf", registry=registry).tensors
    }


@pytest.mark.parametrize(
    "behind",
    ["--override-kv general.author=str:Ann", "x", "--pure", "-8", "8 --tensor-type attn_v=q8_0", "8 9", "7x"],
)
def test_what_stands_behind_the_type(behind: str, registry: Registry, tmp_path: Path) -> None:
    """llama-quantize takes a number of threads there, and looks at nothing behind it."""
    write_model(ZOO[0].parent / "llama-4-tied.json", tmp_path / "in.gguf")
    plain = run("llama-quantize in.gguf out.gguf Q4_K_M", tmp_path, registry)
    theirs = run(f"llama-quantize in.gguf out.gguf Q4_K_M {behind}", tmp_path, registry)
    try:
        read_command(f"llama-quantize in.gguf out.gguf Q4_K_M {behind}", tmp_path, file="command")
    except RecipeError:
        assert theirs is None
    else:
        assert theirs == plain


@pytest.mark.parametrize(
    "words",
    [
        *(
            "in.gguf Q4_0",
            "in.gguf q4_0",
            "in.gguf 2",
            "in.gguf 2x.gguf Q5_0",
            "in.gguf 2x.gguf",
            "in.gguf out.gguf 2x",
        ),
        *(
            "in.gguf out.gguf Q9_K",
            "in.gguf --pure out.gguf Q4_0",
            "in.gguf out.gguf x Q4_0",
            "in.gguf 2 8",
            "in.gguf +2",
        ),
    ],
)
def test_where_the_type_stands(words: str, registry: Registry, tmp_path: Path) -> None:
    """Also where the name of a file begins with a number, which counts as a type."""
    write_model(ZOO[0].parent / "llama-4-tied.json", tmp_path / "in.gguf")
    done = subprocess.run(
        [str(Path(BIN) / "llama-quantize"), *words.split()], cwd=tmp_path, capture_output=True, check=False
    )
    try:
        mixture = read_command(f"llama-quantize {words}", tmp_path, file="command").mixture
    except RecipeError:
        assert done.returncode
        return
    assert not done.returncode
    (out,) = [path for path in tmp_path.glob("*.gguf") if path.name != "in.gguf"]
    label = open_model(out, registry=registry).metadata["general.file_type"].decode()
    assert FILE_TYPES[mixture] == label
