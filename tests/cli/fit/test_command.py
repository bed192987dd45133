"""quantrecipe fit: a recipe in a file or on standard output, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.gram_statistics import write_statistics
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import StandIn

from quantrecipe.cli import main
from quantrecipe.cli.options.limits import KV_TYPES as OFFERED
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.engine import Engine
from quantrecipe.model.open_model import open_model
from quantrecipe.recipe.budget import KV_TYPES
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity.file import read_sensitivity, write_sensitivity
from quantrecipe.sensitivity.prior import estimate

Output = pytest.CaptureFixture[str]

TINY = str(Path(__file__).parents[3] / "examples/tiny-code")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_recipe_in_a_file_that_plans_as_promised(capsys: Output) -> None:
    assert main(["fit", TINY, "--prior", "--size", "2MB", "-o", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert "less loss is expected than of Q3_K_S" in out
    assert "wrote mine.yaml" in out
    assert "prior, version 1" in out
    assert main(["plan", "mine.yaml", TINY, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["recipe"] == "mine"
    assert 1_980_000 < plan["nbytes"] <= 2_000_000
    assert main(["check", "--strict", "mine.yaml"]) == 0


def test_where_a_preset_wins_the_mix_that_isn_t_taken_is_named_so(capsys: Output) -> None:
    """By a file that says that Q4_0 loses nothing here."""
    registry = load_registry(plugins=False)
    known = estimate(open_model(TINY, registry=registry), registry)
    tensors = {
        name: replace(t, losses={**t.losses, "Q4_0": replace(t.losses["Q4_0"], error=1e-9)})
        for name, t in known.tensors.items()
    }
    write_sensitivity(replace(known, tensors=tensors), Path("known.json"))
    command = ["fit", TINY, "--sensitivity", "known.json", "--bpw", "5.1", "-o", "mine.yaml"]
    assert main(command) == 0
    said, _, below = capsys.readouterr().out.partition("the mix that was found, and that the recipe is not:")
    assert "surely loses less than the preset Q4_0, so the recipe is that preset" in " ".join(said.split())
    assert "expected loss" in below
    assert "extends: llama.cpp/Q4_0" in Path("mine.yaml").read_text()
    assert main([*command, "--force", "--bpw", "4"]) == 0
    assert "that the recipe is not" not in capsys.readouterr().out


def test_without_a_file_the_recipe_is_all_of_standard_output(capsys: Output) -> None:
    assert main(["fit", TINY, "--prior", "--bpw", "4.5", "--name", "piped"]) == 0
    out, err = capsys.readouterr()
    Path("piped.yaml").write_text(out, encoding="utf-8")
    assert "name: piped" in out
    assert "less loss is expected" in err
    assert main(["plan", "piped.yaml", TINY]) == 0


def test_the_smallest_by_the_estimate(capsys: Output) -> None:
    assert main(["fit", TINY, "--prior", "--kld", "0.01", "-o", "small.yaml"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "nothing was measured on a text, so it may lose more or less: --text measures it" in out
    assert "of at most 0.01 (KL divergence in nats" in out
    assert "kld 0.01" in Path("small.yaml").read_text(encoding="utf-8")
    assert main(["fit", TINY, "--prior", "--kld", "0.01", "--size", "1.5MB"]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "keeps the limits (size 1,500,000 bytes) and loses at most 0.01" in err
    assert "the best one loses 0.0" in err


def test_json(capsys: Output) -> None:
    assert main(["fit", TINY, "--prior", "--like", "Q4_K_M", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    stock = {mix["name"]: mix for mix in said["stock"]}
    assert said["best_stock"] == "Q4_K_M"
    assert said["stock_wins"] is None
    assert said["loss"] == said["fitted"]["loss"] < stock["Q4_K_M"]["loss"]
    assert said["bits_per_weight"] <= stock["Q4_K_M"]["bits_per_weight"]
    assert sum(len(decision["tensors"]) for decision in said["decisions"]) == 29
    assert said["recipe"].count("why:") == len(said["decisions"]) - 1  # the default has a comment


def test_by_what_was_measured(capsys: Output) -> None:
    registry = load_registry(plugins=False)
    write_sensitivity(estimate(open_model(TINY, registry=registry), registry), "tiny.sensitivity.jsonl")
    assert main(["fit", TINY, "--bpw", "4.5", "--sensitivity", "tiny.sensitivity.jsonl", "-o", "a.yaml"]) == 0
    assert main(["fit", TINY, "--bpw", "4.5", "--prior", "-o", "b.yaml"]) == 0
    rules = [Path(name).read_text(encoding="utf-8").split("rules:")[1] for name in ("a.yaml", "b.yaml")]
    assert rules[0] == rules[1]
    out = capsys.readouterr().out
    assert "typical errors, weighed by prior" in out


def test_shapes_alone(capsys: Output) -> None:
    args = ["--vram", "12GiB", "--context", "32768", "--kv", "q8_0", "-o", "big.yaml"]
    assert main(["fit", "shapes/qwen3-14b", *args]) == 0
    out, err = capsys.readouterr()
    assert "a shape file has no weights to measure" in err
    assert "memory of the GPU  12.00 GiB" in out


def test_a_target_and_floors(capsys: Output) -> None:
    args = [
        "--bpw",
        "4.6",
        "--target",
        "llama.cpp@b7000:cpu",
        "--floor",
        "attn_v=Q6_K",
        "--tie",
        "ffn_gate,ffn_up",
    ]
    assert main(["fit", TINY, "--prior", *args, "-o", "cpu.yaml"]) == 0
    text = Path("cpu.yaml").read_text(encoding="utf-8")
    assert "target: {engine: llama.cpp, build: b7000, device: cpu}" in text
    assert "IQ" not in text.split("quantrecipe: 1")[1]
    capsys.readouterr()
    assert main(["plan", "cpu.yaml", TINY, "--json"]) == 0
    types = {t["name"]: t["type"] for t in json.loads(capsys.readouterr().out)["tensors"]}
    assert {types[f"blk.{n}.attn_v.weight"] for n in range(4)} <= {"Q6_K", "Q8_0"}
    assert all(types[f"blk.{n}.ffn_gate.weight"] == types[f"blk.{n}.ffn_up.weight"] for n in range(4))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "Say how large"),
        (["--bpw", "4", "--like", "Q4_K_M"], "--like and --bpw exclude each other"),
        (["--bpw", "4", "--context", "4096"], "--context goes with --vram"),
        (["--bpw", "4", "--cpu-moe"], "--cpu-moe goes with --vram"),
        (["--bpw", "4", "--prior", "--text", "a.txt"], "--prior and --text exclude each other"),
        (["--bpw", "4", "--prior", "--sensitivity", "a"], "--sensitivity and --prior exclude each other"),
        (["--kld", "0"], "0.0 is not in the range"),
        (["--perplexity", "+1%"], "--perplexity is measured on a text: give it with --text"),
        (["--perplexity", "1"], "'1' is no share in per cent, such as +1%"),
        (["--perplexity", "-1%", "--text", "a.txt"], "'-1%' is no share in per cent"),
        (
            ["--perplexity", "+1%", "--kld", "0.1", "--text", "a.txt"],
            "--perplexity and --kld exclude each other",
        ),
        (["--bpw", "4", "--minutes", "3"], "--minutes goes with --text"),
        (["--bpw", "4", "--executor", "processes"], "--executor goes with --text"),
        (["--bpw", "4", "--executor-option", "workers=2"], "--executor-option is for --executor"),
        (["--bpw", "4", "--evaluations", "-1"], "-1 is not in the range"),
        (["--bpw", "4", "--floor", "attn_v"], "is no PATTERN=TYPE"),
        (["--bpw", "4", "--target", "vllm"], "there is no engine 'vllm'"),
        (["--bpw", "4", "--target", "llama.cpp:tpu"], "there is no device 'tpu'"),
        (["--size", "4 bananas"], "is no size"),
    ],
)
def test_what_makes_no_sense(capsys: Output, args: list[str], said: str) -> None:
    assert main(["fit", TINY, *args]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("option", ["--text", "--verify"])
def test_chats_need_a_template_before_anything_is_measured(capsys: Output, option: str) -> None:
    line = '{"messages": [{"role": "user", "content": "hi"}]}\n'
    Path("talk.jsonl").write_text(line, encoding="utf-8")
    assert main(["fit", TINY, "--bpw", "4", option, "talk.jsonl"]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "talk.jsonl:1: is a chat, and the model has no chat template" in err
    assert sorted(path.name for path in Path().iterdir()) == ["talk.jsonl"]


def test_a_budget_that_can_t_be_kept(capsys: Output) -> None:
    assert main(["fit", TINY, "--prior", "--size", "1MB"]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "the budget can't be kept: size is 1,000,000 bytes" in err
    assert "allow at least 1,2" in err


def test_nothing_is_replaced_unasked(capsys: Output) -> None:
    Path("mine.yaml").write_text("precious", encoding="utf-8")
    assert main(["fit", TINY, "--prior", "--bpw", "4", "-o", "mine.yaml"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["fit", TINY, "--prior", "--bpw", "4", "-o", "mine.yaml", "--force"]) == 0
    assert "quantrecipe: 1" in Path("mine.yaml").read_text(encoding="utf-8")


def test_plan_and_apply_choose_within_what_the_command_line_allows(capsys: Output) -> None:
    recipe = (
        'quantrecipe: 1\nbudget: {bpw: 6}\nrules:\n  - tensors: "regex:."\n    choose: [Q3_K, Q4_K, Q8_0]\n'
    )
    Path("open.yaml").write_text(recipe, encoding="utf-8")
    assert main(["plan", "open.yaml", TINY, "--size", "1.9MB", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["nbytes"] <= 1_900_000
    assert plan["budget"]["limits"][0]["key"] == "size"
    assert main(["plan", "open.yaml", TINY]) == 0
    out = capsys.readouterr().out
    assert "open.yaml:4 (chosen)" in out
    assert "expected loss" in out
    assert main(["apply", "open.yaml", TINY, "--size", "1.9MB", "-o", "out.gguf"]) == 0
    assert Path("out.gguf").stat().st_size == plan["nbytes"]


def test_the_types_of_a_cache_are_those_of_recipes() -> None:
    assert OFFERED == KV_TYPES


def test_models_of_which_nothing_can_be_chosen(tmp_path: Path, capsys: Output) -> None:
    write_gguf(tmp_path / "norms.gguf", {"output_norm.weight": np.ones(256, np.float32)})
    for arguments in (["--bpw", "40"], ["--bpw", "40", "--prior"], ["--size", "1MB", "--prior"]):
        assert main(["fit", "norms.gguf", *arguments]) == 1
        err = capsys.readouterr().err
        assert "none of its 1 tensors is a matrix that recipes quantize" in " ".join(err.split())


def test_rows_of_any_length(tmp_path: Path, capsys: Output) -> None:
    write_gguf(tmp_path / "odd.gguf", llama_tensors(layers=2, cols=576, heads=9, kv_heads=3, hidden=96))
    assert main(["fit", "odd.gguf", "--prior", "--bpw", "6.5", "-o", "odd.yaml"]) == 0
    assert main(["plan", "odd.yaml", "odd.gguf"]) == 0
    capsys.readouterr()


def test_the_encoder_of_what_it_is_to_be_like_is_no_part_of_it(tmp_path: Path, capsys: Output) -> None:
    """Losses are those of plain encoding, and nothing else is said in silence."""
    mix = tmp_path / "mine.yaml"
    mix.write_text("quantrecipe: 1\nname: mine\ndefault: Q4_K\nencoder: feedback\n", encoding="utf-8")
    assert main(["fit", TINY, "--prior", "--like", str(mix), "--json"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "fit measures what types lose without an encoder, and takes nothing but the size of" in told
    assert "--statistics FOLDER makes it measure and choose with the encoder" in told


@pytest.mark.parametrize(
    ("of", "limits"),
    [
        ("tensors", ["bpw"]),
        ("file", ["size"]),
        ("without-tables", ["tables", "without_tables"]),
    ],
)
def test_as_many_bytes_of_what(of: str, limits: list[str], tmp_path: Path, capsys: Output) -> None:
    """Of the file, of the tensors, or of tables and of all else: none of these is exceeded."""
    model = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=4, vocab=3000))
    args = ["fit", str(model), "--prior", "--like", "Q4_K_M", "--like-bytes", of]
    assert main(["plan", "llama.cpp/Q4_K_M", str(model), "--no-provenance", "--json"]) == 0
    stock = json.loads(capsys.readouterr().out)
    assert main([*args, "-o", "mine.yaml"]) == 0
    assert "understood: as many bytes as Q4_K_M has in its" in capsys.readouterr().out
    assert main([*args, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [limit["key"] for limit in told["budget"]["limits"]] == limits
    assert main(["plan", "mine.yaml", str(model), "--no-provenance", "--json"]) == 0
    mine = json.loads(capsys.readouterr().out)
    if of == "file":
        assert mine["nbytes"] <= stock["nbytes"]
    elif of == "tensors":
        assert sum(it["nbytes"] for it in mine["tensors"]) <= sum(it["nbytes"] for it in stock["tensors"])
    else:
        for part in ("tables", "without_tables"):
            assert mine[part]["nbytes"] <= stock[part]["nbytes"]
        assert stock["tables"]["nbytes"] == next(
            it["nbytes"] for it in stock["tensors"] if it["name"] == "token_embd.weight"
        )


@pytest.mark.parametrize(
    ("of", "option"), [("tensors", "--bpw"), ("file", "--size"), ("without-tables", "--tables")]
)
def test_the_same_limit_twice_is_refused(of: str, option: str, capsys: Output) -> None:
    value = "4" if option == "--bpw" else "5MB"
    assert main(["fit", TINY, "--prior", "--like", "Q4_K_M", "--like-bytes", of, option, value]) == 2
    assert f"--like and {option} exclude each other" in capsys.readouterr().err


class TestEncoder:
    """With statistics, losses are those of the encoder, and so is the recipe."""

    @pytest.fixture
    def grams(self, here: None) -> str:
        write_gguf(Path("m.gguf"), llama_tensors(layers=1), llama_metadata(block_count=1))
        inputs = {f"blk.0.{role}.weight": (256, (600,)) for role in ("attn_q", "ffn_up")}
        write_statistics(Path("grams"), inputs)
        return "grams"

    ARGS = ("fit", "m.gguf", "--bpw", "4.6", "--types", "Q3_K,Q4_K,Q6_K,Q8_0")

    def test_the_recipe_has_the_encoder(self, grams: str, capsys: Output) -> None:
        assert main([*self.ARGS, "--statistics", grams, "-o", "mine.yaml"]) == 0
        assert "encoder: feedback" in Path("mine.yaml").read_text(encoding="utf-8")
        found = read_sensitivity("m.feedback.sensitivity.jsonl")
        assert (
            f"encoded by feedback {Feedback.version} (by mean, damping auto, rounds 2), statistics"
            in found.provenance.analysis
        )
        assert not Path("m.sensitivity.jsonl").exists()
        capsys.readouterr()
        assert main(["plan", "mine.yaml", "m.gguf", "--statistics", grams, "--json"]) == 0
        tensors = {it["name"]: it for it in json.loads(capsys.readouterr().out)["tensors"]}
        assert tensors["blk.0.attn_q.weight"]["encoder"] == "feedback"
        assert tensors["blk.0.attn_v.weight"]["encoder"] is None

    @pytest.mark.slow
    def test_options_are_those_of_what_it_is_to_be_like(self, grams: str, capsys: Output) -> None:
        mix = "quantrecipe: 1\nname: mine\ndefault: Q4_K\nencoder: {name: feedback, damping: 0.1}\n"
        Path("like.yaml").write_text(mix, encoding="utf-8")
        args = [
            "fit",
            "m.gguf",
            "--types",
            "Q3_K,Q4_K,Q6_K,Q8_0",
            "--like",
            "like.yaml",
            "--statistics",
            grams,
        ]
        assert main([*args, "-o", "mine.yaml"]) == 0
        assert "encoder: {name: feedback, damping: 0.1}" in Path("mine.yaml").read_text(encoding="utf-8")
        assert "without an encoder" not in capsys.readouterr().err

    def test_a_folder_that_is_none(self, grams: str, capsys: Output) -> None:
        Path("empty").mkdir()
        assert main([*self.ARGS, "--statistics", "empty"]) == 1
        assert "is no folder of Gram matrices" in capsys.readouterr().err


class TestSearch:
    """Mixes are tried on the text. The engine is a stand-in."""

    @pytest.fixture
    def engine(self, here: None, monkeypatch: pytest.MonkeyPatch) -> StandIn:
        engine = StandIn()
        engine.hard = np.random.default_rng(3).uniform(0.5, 1.5, engine.chunks)
        engine.install(monkeypatch)
        named = Engine(library=Path("libllama.so"), source="--engine")
        monkeypatch.setattr("quantrecipe.engine.require_engine", lambda path: named)
        write_gguf(Path("m.gguf"), llama_tensors(layers=2), llama_metadata(block_count=2))
        Path("code.txt").write_text("some words\n" * 1000, encoding="utf-8")
        Path("other.txt").write_text("other words\n" * 1000, encoding="utf-8")
        return engine

    ARGS = ("fit", "m.gguf", "--bpw", "4.6", "--types", "Q3_K,IQ4_XS,Q4_K,Q5_K,Q6_K,Q8_0", "--probes", "3")

    @pytest.mark.slow
    def test_what_was_tried_is_shown_and_resumed(self, engine: StandIn, capsys: Output) -> None:
        args = [*self.ARGS, "--text", "code.txt", "--evaluations", "6"]
        assert main([*args, "-o", "mine.yaml"]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "tried" in out and "to the best so far" in out
        assert "tried on code.txt (32 positions): all 6 evaluations are used up" in out
        text = Path("mine.yaml").read_text(encoding="utf-8")
        assert text.startswith("# Tried on code.txt (32 positions), 6 mixes: the best diverges by")
        assert Path("m.evaluations.jsonl").read_text(encoding="utf-8").count('"mix"') == 6
        runs = len(engine.runs)
        assert main([*args, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)["search"]
        assert len(engine.runs) == runs
        assert (len(said["tried"]), said["text"], said["positions"]) == (6, "code.txt", 32)
        assert said["tried"][0]["mix"] == "fitted"
        assert said["ended"] == "all 6 evaluations are used up"

    def test_by_a_sensitivity_mixes_are_tried_and_nothing_is_probed(
        self, engine: StandIn, capsys: Output
    ) -> None:
        assert main([*self.ARGS, "--text", "code.txt", "--evaluations", "0", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["search"] is None
        assert not Path("m.evaluations.jsonl").exists()
        runs = len(engine.runs)
        known = ["--sensitivity", "m.sensitivity.jsonl", "--text", "code.txt", "--evaluations", "2"]
        assert main([*self.ARGS, *known, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["search"]["tried"]) == 2
        assert len(engine.runs) == runs + 3  # the model itself, and two mixes

    @pytest.mark.slow
    def test_the_smallest_within_a_loss(self, engine: StandIn, capsys: Output) -> None:
        args = ["fit", "m.gguf", *self.ARGS[4:], "--text", "code.txt", "-o", "small.yaml", "--json"]
        assert main([*args, "--kld", "0.01"]) == 0
        said = json.loads(capsys.readouterr().out)
        found = said["search"]
        assert found["target"] == "kld" and found["most"] == 0.01
        assert 0.005 < found["value"] <= 0.01
        assert found["ended"].startswith("--kld binds")
        assert main(["plan", "small.yaml", "m.gguf", "--json"]) == 0
        small = json.loads(capsys.readouterr().out)["bits_per_weight"]
        assert main([*args, "--kld", "0.01", "--bpw", str(small - 0.25), "--force"]) == 0
        found = json.loads(capsys.readouterr().out)["search"]
        assert found["ended"].startswith(
            "--bpw binds: the best mix within it has a mean KL divergence of 0.0"
        )
        assert found["value"] > 0.01
        assert main([*args, "--perplexity", "+1%", "--force"]) == 0
        found = json.loads(capsys.readouterr().out)["search"]
        assert found["target"] == "perplexity" and 0.005 < found["value"] <= 0.01
        assert main([*args[:-3], "--kld", "1e-9"]) == 1
        assert "lose so little: kld is 1e-09" in capsys.readouterr().err

    def test_an_engine_that_dies_half_way(self, engine: StandIn, capsys: Output) -> None:
        engine.dies_after = 7
        assert main([*self.ARGS, "--text", "code.txt"]) == 1
        err = " ".join(capsys.readouterr().err.split())
        assert "what was evaluated is kept in m.evaluations.jsonl; the same command goes on from there" in err

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--text", "short.txt"], "short.txt of --text is too short for ten chunks of 512 tokens"),
            (["--text", "code.txt", "--verify", "code.txt"], "code.txt of --verify is in code.txt of --text"),
            (["--text", "code.txt", "--verify", "short.txt"], "short.txt of --verify is too short"),
        ],
    )
    def test_texts_that_say_nothing(
        self, engine: StandIn, capsys: Output, args: list[str], said: str
    ) -> None:
        Path("short.txt").write_text("no more than this", encoding="utf-8")
        assert main([*self.ARGS, *args]) == 1
        assert said in " ".join(capsys.readouterr().err.split())
        assert not engine.runs and not list(Path().glob("*.jsonl"))
