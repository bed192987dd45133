"""quantrecipe plan: what a person sees, what a machine gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.huggingface import write_model
from support.models import llama_metadata, llama_tensors, write_gguf
from support.quantized_checkpoints import write_checkpoint

from quantrecipe.cli import main
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.safetensors import read_safetensors_header

Output = pytest.CaptureFixture[str]

RECIPE = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - tensors: attn_v
    layers: first 1
    type: Q6_K
    why: values matter [most] in front
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Paths of a recipe and a model of 60 layers."""
    monkeypatch.chdir(tmp_path)
    Path("mix.yaml").write_text(RECIPE, encoding="utf-8")
    tensors = llama_tensors(layers=60, hidden=256, vocab=32)
    write_gguf(Path("model.gguf"), tensors, llama_metadata(block_count=60))
    return "mix.yaml", "model.gguf"


def test_sixty_layers_fit_on_a_screen(files: tuple[str, str], capsys: Output) -> None:
    assert main(["plan", *files]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 45
    assert "0-59" in out
    assert "1-59" in out
    assert "values matter [most] in front" in out
    assert "mix.yaml:5" in out
    assert "bits per weight" in out


def test_all_shows_every_tensor(files: tuple[str, str], capsys: Output) -> None:
    assert main(["plan", *files, "--all"]) == 0
    out = capsys.readouterr().out
    assert all(f"blk.{i}.ffn_up.weight" in out for i in range(60))


def test_json_adds_up(files: tuple[str, str], capsys: Output) -> None:
    assert main(["plan", *files, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["recipe"] == "mix"
    assert len(plan["tensors"]) == 60 * 9 + 3
    assert plan["tensors"][-1]["offset"] + plan["tensors"][-1]["nbytes"] <= plan["nbytes"]
    assert {t["because"] for t in plan["tensors"] if t["type"] == "Q6_K"} == {"mix.yaml:5"}


def test_nothing_is_written(files: tuple[str, str], tmp_path: Path, capsys: Output) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    main(["plan", *files])
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_fallbacks_are_shown(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(Path("odd.gguf"), llama_tensors(cols=96, hidden=256, layers=1))
    Path("r.yaml").write_text("quantrecipe: 1\nname: r\ndefault: Q6_K\n", encoding="utf-8")
    assert main(["plan", "r.yaml", "odd.gguf"]) == 0
    out = capsys.readouterr().out
    assert "instead of Q6_K" in out
    assert "96 columns don't divide" in out
    assert main(["plan", "r.yaml", "odd.gguf", "--strict"]) == 1
    assert "fallbacks are refused by --strict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml", "model.gguf"], "nothing.yaml"),
        (["mix.yaml", "nothing.gguf"], "there is no such file or folder"),
        (["mix.yaml", "model.gguf", "--imatrix", "nothing.dat"], "nothing.dat"),
        (["mix.yaml", "mix.yaml"], "mix.yaml"),
    ],
)
def test_what_is_not_there_is_named(
    files: tuple[str, str], capsys: Output, arguments: list[str], message: str
) -> None:
    assert main(["plan", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


LLAMA = "shapes/meta-llama-3.1-8b-instruct"


def test_what_it_takes_where_it_runs(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plan", "llama.cpp/Q4_K_M", LLAMA, "--vram", "8", "--context", "16k"]) == 0
    out = capsys.readouterr().out
    assert "where it runs (GiB): VRAM 8 GiB, context 16,384 tokens, KV cache f16" in out
    block = out.split("where it runs")[1]
    assert max(len(line) for line in block.splitlines()) <= 80
    assert "all on the GPU       4.30     2.00     0.26     6.56    +1.04     0.31" in block
    assert "it fits: 1.04 GiB are left" in block


def test_what_does_not_fit_is_a_warning(capsys: Output) -> None:
    """Nothing is left to choose, so that the file is what it is."""
    assert main(["plan", "llama.cpp/Q6_K", LLAMA, "--vram", "8", "--context", "16k"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "! it doesn't fit: 0.39 GiB too much for the GPU; it runs with a context of 12,288 tokens" in out
    assert "or with --kv q8_0, or with 31 of 33 layers on the GPU (-ngl 31)" in out


def test_a_context_alone_is_enough(capsys: Output) -> None:
    assert main(["plan", "llama.cpp/Q4_K_M", LLAMA, "--context", "200k", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    (way,) = runs["ways"]
    assert way["gpu"]["kv_cache"] == 25 << 30
    assert way["gpu"]["left"] is way["ram"]["left"] is way["fits"] is None
    assert runs["warnings"] == [
        "a context of 204,800 tokens is longer than the 131,072 that the model was made for"
    ]


def test_experts_are_shown_beside_the_gpu_too(capsys: Output) -> None:
    arguments = ["plan", "llama.cpp/Q4_K_M", "shapes/qwen3-30b-a3b", "--vram", "8", "--ram", "32"]
    assert main([*arguments, "--json"]) == 0
    whole, beside = json.loads(capsys.readouterr().out)["runs"]["ways"]
    assert (whole["way"], whole["fits"]) == ("gpu", False)
    assert (beside["way"], beside["fits"]) == ("experts beside it", True)
    assert main([*arguments, "--cpu-moe", "--json"]) == 0
    assert [way["way"] for way in json.loads(capsys.readouterr().out)["runs"]["ways"]] == [
        "experts beside it"
    ]


def test_a_dry_run_says_it_too(capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q4_K_M", LLAMA, "--dry-run", "--vram", "8"]) == 0
    assert "it fits: " in capsys.readouterr().out


def test_apply_and_lock_warn_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    model = str(Path(__file__).parents[2] / "examples/tiny-code")
    monkeypatch.chdir(tmp_path)
    for command in ("lock", "apply"):
        arguments = [
            command,
            "llama.cpp/Q8_0",
            model,
            "--vram",
            "10M",
            "--context",
            "1k",
            "-o",
            f"{command}.out",
        ]
        assert main(arguments) == 0
        err = " ".join(capsys.readouterr().err.split())
        assert "warning: Q8_0: it doesn't fit: 3.23 MiB too much for the GPU" in err
        assert (tmp_path / f"{command}.out").exists()


def test_other_limits_still_hold(capsys: Output) -> None:
    assert main(["plan", "llama.cpp/Q6_K", LLAMA, "--vram", "8", "--size", "4GB"]) == 1
    assert "takes more than the budget allows: size" in capsys.readouterr().err


def test_what_was_understood_of_sizes(capsys: Output) -> None:
    assert main(["plan", "llama.cpp/Q2_K", LLAMA, "--size", "5.2GB", "--split-max-size", "2G"]) == 0
    out = capsys.readouterr().out
    assert (
        "understood: a file of at most 5.2 GB (4.84 GiB), split into files of at most 2 GB (1.86 GiB)" in out
    )
    assert main(["plan", "llama.cpp/Q2_K", LLAMA, "--size", "5"]) == 2
    assert "did you mean 5GB?" in capsys.readouterr().err


def test_a_matrix_that_is_not_there_yet(capsys: Output) -> None:
    assert main(["plan", "llama.cpp/IQ2_M", LLAMA]) == 1
    capsys.readouterr()
    assert main(["plan", "llama.cpp/IQ2_M", LLAMA, "--assume-imatrix"]) == 0
    assert "planned as if there were an importance matrix" in capsys.readouterr().out
    assert main(["plan", "llama.cpp/IQ2_M", LLAMA, "--assume-imatrix", "--imatrix", "x"]) == 2


def test_what_a_pruned_file_takes_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    tensors = llama_tensors(layers=4, hidden=256, vocab=32)
    pairs = llama_metadata(block_count=4)
    text = GGUFValue.of(ValueType.STRING, "gemma3")
    pairs = {key.replace("llama.", "gemma3."): value for key, value in pairs.items()}
    pairs |= {
        "general.architecture": text,
        "gemma3.attention.sliding_window": GGUFValue.of(ValueType.UINT32, 256),
        "gemma3.attention.sliding_window_pattern": GGUFValue.array(ValueType.BOOL, [True, False, True, True]),
    }
    write_gguf(Path("model.gguf"), tensors, pairs)
    Path("half.yaml").write_text("quantrecipe: 1\nname: half\ndefault: Q8_0\nprune: '0'\n", encoding="utf-8")
    assert main(["plan", "half.yaml", "model.gguf", "--vram", "8", "--context", "8k", "--json"]) == 0
    (way,) = json.loads(capsys.readouterr().out)["runs"]["ways"]
    row = 2 * 2 * 128  # keys and values, in F16
    assert way["gpu"]["kv_cache"] == (8192 + 2 * 768) * row  # all tokens, and two windows with a batch


def test_what_transposing_takes_is_told(tmp_path: Path, capsys: Output) -> None:
    """GPTQ has a row for each input; the slab of 16 MiB is more than these small matrices need."""
    folder = write_model("qwen2", tmp_path)
    file = folder / "model.safetensors"
    dtypes: dict[str, tuple[str, tuple[int, ...]]] = {}
    for tensor in read_safetensors_header(file).tensors.values():
        if not tensor.name.endswith("mlp.up_proj.weight"):
            dtypes[tensor.name] = (tensor.dtype, tensor.shape)
            continue
        base, (outputs, inputs) = tensor.name.removesuffix("weight"), tensor.shape
        dtypes[f"{base}qweight"] = ("I32", (inputs // 8, outputs))
        dtypes[f"{base}qzeros"] = ("I32", (inputs // 32, outputs // 8))
        dtypes[f"{base}scales"] = ("F16", (inputs // 32, outputs))
        dtypes[f"{base}g_idx"] = ("I32/32", (inputs,))
    write_checkpoint(file, dtypes)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["plan", "llama.cpp/Q8_0", str(folder)]) == 0
    told = "2 tensors are transposed while apply reads: up to 48.00 KiB more memory for each thread"
    assert told in capsys.readouterr().out


def test_nothing_is_told_where_nothing_is_transposed(files: tuple[str, str], capsys: Output) -> None:
    assert main(["plan", *files]) == 0
    assert "transposed" not in capsys.readouterr().out


def test_tables_that_are_much_of_the_data_are_told_of(tmp_path: Path, capsys: Output) -> None:
    """Of a small model with a large vocabulary, whose head is another tensor."""
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(vocab=4096), llama_metadata())
    assert main(["plan", "llama.cpp/Q8_0", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1.06 MiB of it (32 %) are tables of which a token reads a row, 8.500 bits per weight" in out
    tied = write_gguf(tmp_path / "tied.gguf", llama_tensors(vocab=4096, tied=True), llama_metadata())
    assert main(["plan", "llama.cpp/Q8_0", str(tied)]) == 0
    assert "tables" not in capsys.readouterr().out
    assert main(["plan", "llama.cpp/Q8_0", str(tied), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tables"] == {"tensors": 0, "weights": 0, "nbytes": 0, "bits_per_weight": 0.0}
    assert told["without_tables"]["nbytes"] == sum(tensor["nbytes"] for tensor in told["tensors"])
