"""quantrecipe inspect: what it shows of GGUFs and safetensors, to people and to machines."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.huggingface import MODELS, write_model
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.cli.app import app
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.open_model import open_model
from quantrecipe.recipe.terms.globs import written_out

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny-code"
RECIPE = "quantrecipe: 1\nname: tiny\ndefault: Q4_K  # because\n"


def inspect(*args: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, args)])


def lines_of(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """Two blocks of Q4_K and F32, a tensor of an unknown type, a vocabulary, a recipe."""
    shapes = {"token_embd.weight": (4, 256, 0), "odd.weight": (2, 256, 250)}
    for i in range(3):
        shapes |= {f"blk.{i}.attn_v.weight": (4, 256, 0 if i == 1 else 12)}
    sizes = {0: 4096, 12: 576, 250: 320}
    tensors, offset = [], 0
    for name, (rows, cols, ggml_type) in shapes.items():
        tensors.append(TensorEntry(name=name, shape=(rows, cols), ggml_type=ggml_type, offset=offset))
        offset += sizes[ggml_type]
    texts = {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "chat_template": "{{ x }}\n" * 60,
        "quantrecipe.version": "0.1.0",
        "quantrecipe.recipe.name": "tiny",
        "quantrecipe.recipe": RECIPE,
    }
    metadata = {key: GGUFValue.of(ValueType.STRING, text) for key, text in texts.items()}
    words = ["a", "\x1b[31mred", *map(str, range(998))]
    metadata |= {
        "general.file_type": GGUFValue.of(ValueType.UINT32, 15),
        "tokenizer.ggml.tokens": GGUFValue.array(ValueType.STRING, words),
        "scores": GGUFValue.array(ValueType.FLOAT32, [0.5, np.inf]),
        "add_bos": GGUFValue.of(ValueType.BOOL, True),
    }
    file = tmp_path_factory.mktemp("inspect") / "tiny.gguf"
    file.write_bytes(encode_header(metadata, tensors) + bytes(offset))
    return file


def test_the_overview_says_what_the_file_holds(path):
    lines = lines_of(inspect(path))
    assert lines[0] == "tiny.gguf Tiny"
    assert lines[1].startswith("GGUF version 3 · llama · 4.61 K weights in 5 tensors · ")
    assert "general.file_type uint32 15 Q4_K_M" in lines
    assert "add_bos bool true" in lines
    assert "token_embd.weight 1 4 × 256 F32 32.00 4.00 KiB" in lines
    assert "blk.*.attn_v.weight 0, 2 2 4 × 256 Q4_K 4.50 1.12 KiB" in lines
    assert "blk.1.attn_v.weight 1 4 × 256 F32 32.00 4.00 KiB" in lines
    assert "odd.weight 1 2 × 256 type 250 ≤ 5.00 ≤ 320 B" in lines
    assert "F32 2 2.05 K 32.00 8.00 KiB 84.8" in lines
    assert lines[-1] == (
        "says it was made by quantrecipe 0.1.0 with the recipe tiny; --recipe prints it, `quantrecipe verify` checks it"
    )


def test_long_values_are_abridged_and_can_not_drive_the_terminal(path):
    result = inspect(path, "--metadata")
    items = '"a", "\\u001b[31mred", "0", "1", "2", "3", "4", "5", …'
    assert f"tokenizer.ggml.tokens string[1000] {items}" in lines_of(result)
    assert "(480 characters)" in result.stdout
    assert "\x1b" not in result.stdout
    assert "blk." not in result.stdout


def test_every_tensor_can_be_listed(path):
    lines = lines_of(inspect(path, "--tensors"))
    assert [line.split()[0] for line in lines if ".weight" in line] == [
        "token_embd.weight",
        "odd.weight",
        "blk.0.attn_v.weight",
        "blk.1.attn_v.weight",
        "blk.2.attn_v.weight",
    ]
    assert not any("general" in line for line in lines)


def test_a_filter_shows_what_it_names(path):
    lines = lines_of(inspect(path, "--filter", "*attn_v*"))
    assert sum("attn_v" in line for line in lines) == 3
    assert not any("token_embd" in line or "general.name" in line for line in lines)
    lines = lines_of(inspect(path, "--filter", "general.*", "--metadata"))
    assert sum("general." in line for line in lines) == 3


def test_a_filter_that_matches_nothing_is_an_error(path):
    result = inspect(path, "--filter", "attn_q")
    assert result.exit_code == 1
    assert "tiny.gguf: has no tensor and no metadata key that matches 'attn_q'" in result.stderr


def test_machines_get_everything(path):
    result = inspect(path, "--json")
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert found["container"] == "GGUF version 3"
    assert found["files"] == [{"path": str(path), "nbytes": path.stat().st_size}]
    assert found["recipe"] == RECIPE
    assert found["metadata"]["general.file_type"] == {"type": "uint32", "value": 15}
    assert found["metadata"]["scores"] == {"type": "float32[2]", "value": [0.5, "inf"]}
    assert len(found["metadata"]["tokenizer.ggml.tokens"]["value"]) == 1000
    last = found["tensors"][-1]
    assert last.pop("offset") == path.stat().st_size - 576
    assert last == {
        "name": "blk.2.attn_v.weight",
        "recipe_name": "blk.2.attn_v",
        "shape": [4, 256],
        "type": "Q4_K",
        "nbytes": 576,
        "nbytes_exact": True,
        "bits_per_weight": 4.5,
        "file": "tiny.gguf",
    }
    assert [tensor["nbytes_exact"] for tensor in found["tensors"]] == [True, False, True, True, True]


def test_the_recipe_comes_out_as_it_went_in(path):
    assert inspect(path, "--recipe").stdout == RECIPE


def test_a_file_without_a_recipe_says_so():
    result = inspect(EXAMPLE, "--recipe")
    assert result.exit_code == 1
    assert "has no recipe recorded in it; only files that quantrecipe made" in result.stderr
    assert lines_of(inspect(EXAMPLE))[-1] == "no recipe is recorded in it"


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_a_checkpoint_is_shown_under_the_names_that_recipes_use(name):
    lines = lines_of(inspect(EXAMPLE / name))
    assert lines[1] == "safetensors · 3.67 M weights in 38 tensors · 7.01 MiB · 16.000 bits per weight"
    assert "format string pt" in lines
    assert "blk.*.ffn_down.weight 0-3 4 256 × 768 BF16 16.00 1.50 MiB mlp.down_proj" in lines
    assert "token_embd.weight 1 2048 × 256 BF16 16.00 1.00 MiB model.embed_tokens" in lines


def test_machines_get_both_names():
    tensors = json.loads(inspect(EXAMPLE, "--json").stdout)["tensors"]
    names = {it["name"]: it["recipe_name"] for it in tensors}
    assert names["model.layers.3.self_attn.q_proj.weight"] == "blk.3.attn_q"
    assert names["model.norm.weight"] == "output_norm"
    assert len(names) == 38


@pytest.mark.parametrize("glob", ["attn_v", "blk.*.attn_v", "*attn_v.weight", "*self_attn.v_proj*"])
def test_a_filter_takes_either_name(glob):
    (lines, document) = (inspect(EXAMPLE, "--filter", glob), inspect(EXAMPLE, "--filter", glob, "--json"))
    assert sum("attn_v.weight" in line for line in lines_of(lines)) == 4
    assert len(json.loads(document.stdout)["tensors"]) == 4


@pytest.mark.parametrize("name", MODELS)
def test_every_stored_tensor_has_its_name_in_recipes(name, tmp_path):
    """Experts that are stacked, that come stacked, that lie in several files."""
    folder = write_model(name, tmp_path)
    tensors = json.loads(inspect(folder, "--json").stdout)["tensors"]
    planned = {t.name.removesuffix(".weight") for t in open_model(folder).tensors}
    found = [name for it in tensors if it["recipe_name"] for name in written_out(it["recipe_name"])]
    assert set(found) <= planned
    assert planned - set(found) <= {"rope_freqs"}  # follows from config.json
    assert all(it["recipe_name"] for it in tensors if "inv_freq" not in it["name"])
    for it in tensors:
        if "experts." in it["name"]:
            assert it["recipe_name"].endswith("_exps"), it["name"]


def test_roles_are_what_patterns_are_compared_with():
    lines = lines_of(inspect("shapes/qwen3-30b-a3b", "--roles"))
    assert "ffn_down_exps 48 128 × 2048 × 768 BF16 31.7 31.6" in lines
    roles = json.loads(inspect("shapes/qwen3-30b-a3b", "--roles", "--json").stdout)
    known = {t.role for t in open_model("shapes/qwen3-30b-a3b").tensors}
    assert {it["role"] for it in roles} == known
    assert sum(it["weights"] for it in roles) == 30_532_122_624


def test_shapes_are_shown_by_name_and_from_files(tmp_path):
    by_name = lines_of(inspect("shapes/qwen3-14b"))
    assert by_name[1].startswith("shapes, without weights · qwen3 · 14.77 B weights in 443 tensors · ")
    assert "blk.*.attn_v.weight 0-39 40 1024 × 5120 BF16 16.00 400.00 MiB" in by_name
    file = tmp_path / "mine.shapes.json"
    file.write_text(inspect("shapes/qwen3-14b", "--shapes").stdout)
    assert lines_of(inspect(file))[1:] == by_name[1:]
    assert "did you mean shapes/qwen3-14b?" in inspect("shapes/qwen3-14").stderr


def test_a_checkpoint_that_cant_be_converted_says_so(tmp_path):
    folder = shutil.copytree(EXAMPLE, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["Unheard"]}))
    result = inspect(folder)
    assert "model.layers.*.mlp.down_proj.weight 0-3 4 256 × 768 BF16 16.00 1.50 MiB" in lines_of(result)
    assert "these are the names of the files, and not those that recipes use" in result.stderr


def test_safetensors_that_can_not_be_converted_are_shown(tmp_path):
    entries = {
        f"experts.{i}.w": {"dtype": "F8_E4M3", "shape": [2, 4], "data_offsets": [8 * i, 8 * i + 8]}
        for i in range(3)
    }
    raw = json.dumps(entries).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(24))
    assert "experts.*.w 0-2 3 2 × 4 F8_E4M3 8.00 24 B" in lines_of(inspect(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("content", "says"), [(b"hello", "is neither a GGUF nor safetensors"), (None, "no such file")]
)
def test_what_is_no_model_file_is_an_error(tmp_path, content, says):
    path = tmp_path / "notes.txt"
    if content is not None:
        path.write_bytes(content)
    result = inspect(path)
    assert result.exit_code == 1
    assert f"error: {path}: " in result.stderr
    assert says in result.stderr


def test_a_label_that_the_types_contradict_is_told(tmp_path: Path) -> None:
    tensors = llama_tensors(layers=4)
    for number, told in ((15, True), (32, False)):  # Q4_K_M, BF16
        label = {"general.file_type": GGUFValue.of(ValueType.UINT32, number)}
        write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(block_count=4) | label)
        err = " ".join(inspect(tmp_path / "m.gguf").stderr.split())
        assert (
            "mostly Q4_K_M (general.file_type), but 100 % of the weights in its layers are BF16" in err
        ) == told


@pytest.mark.parametrize("command", ["inspect"])
@pytest.mark.parametrize("name", ["nowhere.gguf", "Q4_K_M", "nowhere/"])
def test_a_file_that_isnt_there(
    command: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command, name]) == 1
    assert capsys.readouterr().err.endswith(": there is no such file or folder; check the path\n")


def test_headers_of_a_folder_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of 74,000 tensors take a second."""
    from quantrecipe.model import checkpoint

    read, usual = [], checkpoint.read_safetensors_header

    def counted(path: Path) -> object:
        read.append(path)
        return usual(path)

    monkeypatch.setattr(checkpoint, "read_safetensors_header", counted)
    assert "blk.0.attn_v" in inspect(EXAMPLE, "--tensors").stdout
    assert read == [EXAMPLE / "model.safetensors"]
