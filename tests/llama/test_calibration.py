"""Importance matrices by the real llama.cpp, beside those of its own llama-imatrix."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from support.engine_jobs import calibrate, engines, with_a_weight_of_zeros
from support.huggingface import write_model
from support.latent_attention import write_latent_attention

from quantrecipe.calibration import CalibrationSettings, Ran, Refill, compute_importance
from quantrecipe.calibration.collect import tokenize
from quantrecipe.calibration.sums import SumsFile
from quantrecipe.cli.app import app
from quantrecipe.cli.imatrix import calibrating
from quantrecipe.engine import Session
from quantrecipe.errors import EvaluationError
from quantrecipe.gguf.header import read_header
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.texts import read_domain, render

pytestmark = pytest.mark.llama

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests/data/texts/code.val.txt"
TINY = ROOT / "examples/tiny-code"


def bf16(source: Path, out: Path) -> Path:
    registry = load_registry(plugins=False)
    model = open_model(source, registry=registry)
    return apply_plan(
        make_plan(load_recipe("llama.cpp/BF16", registry=registry), model, registry=registry), out
    ).path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example; random weights with experts, and with latent attention."""
    folder = tmp_path_factory.mktemp("models")
    bf16(TINY, folder / "tiny.gguf")
    for name in ("mixtral", "qwen3moe", "qwen2"):
        bf16(write_model(name, folder), folder / f"{name}.gguf")
    write_latent_attention(folder / "latent.gguf", folder / "tiny.gguf")
    (folder / "text.txt").write_bytes(TEXT.read_bytes()[:40_000])
    return folder


def compute(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["--no-plugins", "imatrix", "compute", *map(str, arguments)])


def ours(out: Path, *arguments: str | Path) -> Importance:
    result = compute(*arguments, "-o", out)
    assert result.exit_code == 0, result.output
    return read_importance(out)


def theirs(out: Path, *arguments: str | Path) -> Importance:
    tool = Path(os.environ["QUANTRECIPE_LLAMA_BIN"]) / "llama-imatrix"
    command = [str(it) for it in (tool, *arguments, "-o", out, "--no-ppl")]
    subprocess.run(command, check=True, capture_output=True)
    return read_importance(out)


def assert_same(mine: Importance, other: Importance) -> None:
    """Counts are equal, and sums are but for the rounding of theirs, which are added up in float32."""
    assert mine.entries.keys() == other.entries.keys()
    for name, entry in other.entries.items():
        assert mine.entries[name].counts == entry.counts, name
        worst = np.abs(mine.entries[name].sums - entry.sums).max() / entry.sums.max()
        assert worst < 1e-4, f"{name}: {worst}"


@pytest.mark.parametrize(
    ("model", "context", "chunks"),
    [("tiny", 512, 24), ("mixtral", 128, 12), ("qwen3moe", 128, 12), ("qwen2", 700, 4), ("latent", 128, 12)],
)
def test_a_matrix_is_llama_imatrix_s(
    models: Path, tmp_path: Path, model: str, context: int, chunks: int
) -> None:
    file, text = models / f"{model}.gguf", models / "text.txt"
    mine = ours(
        tmp_path / "mine.gguf", file, "--text", text, "--context", str(context), "--chunks", str(chunks)
    )
    other = theirs(
        tmp_path / "theirs.gguf", "-m", file, "-f", text, "-c", str(context), "--chunks", str(chunks)
    )
    assert_same(mine, other)
    assert (mine.chunks, mine.chunk_size) == (other.chunks, other.chunk_size)


def test_output_and_skipped_chunks_are_llama_imatrix_s(models: Path, tmp_path: Path) -> None:
    file, text = models / "latent.gguf", models / "text.txt"
    mine = ours(
        tmp_path / "mine.gguf",
        *(file, "--text", text, "--context", "128", "--chunks", "8", "--skip", "3", "--output-tensor"),
    )
    other = theirs(
        tmp_path / "theirs.gguf",
        *("-m", file, "-f", text, "-c", "128", "--chunks", "8", "--chunk", "3", "--process-output"),
    )
    assert "output.weight" in mine.entries
    assert_same(mine, other)


def test_a_quantized_model_and_a_folder_are_computed_too(models: Path, tmp_path: Path) -> None:
    """The folder's BF16 file is made and removed; the fingerprint is the same, and so are the sums."""
    arguments = ("--text", models / "text.txt", "--chunks", "4")
    file = ours(tmp_path / "file.gguf", models / "tiny.gguf", *arguments)
    folder = ours(tmp_path / "folder.gguf", TINY, *arguments)
    assert folder.digest == file.digest
    assert file.provenance is not None
    assert folder.provenance is not None
    assert folder.provenance.fingerprint == file.provenance.fingerprint != ""
    assert folder.provenance.model != file.provenance.model
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.gguf", "folder.gguf"]
    kept = ours(tmp_path / "again.gguf", TINY, *arguments, "--keep")
    assert kept.digest == file.digest
    assert (tmp_path / "tiny-code.bf16.gguf").read_bytes() == (models / "tiny.gguf").read_bytes()


def test_the_sums_of_the_first_layer_are_those_of_arithmetic(models: Path, tmp_path: Path) -> None:
    """Its input is the embedding of each token, normed: nothing else of llama.cpp is in it."""
    found = ours(tmp_path / "m.gguf", models / "tiny.gguf", "--text", TEXT, "--chunks", "24", "--embeddings")
    vectors = embeddings(models / "tiny.gguf")
    metadata = read_header(models / "tiny.gguf").metadata
    chunks = tokens_of(models / "tiny.gguf", TEXT)[: 24 * 512].reshape(24, 512)
    if "tokenizer.ggml.add_bos_token" in metadata and metadata["tokenizer.ggml.add_bos_token"].decode():
        chunks[:, 0] = metadata["tokenizer.ggml.bos_token_id"].decode()
    rows = vectors["token_embd"][chunks.ravel()].astype(np.float64)
    epsilon = metadata["llama.attention.layer_norm_rms_epsilon"].decode()
    normed = rows / np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + epsilon) * vectors["attn_norm"]
    expected = np.square(normed).sum(axis=0)
    sums = found.entries["blk.0.attn_q.weight"].sums[0]
    assert np.abs(sums / expected - 1).max() < 1e-5
    looked_up = found.entries["token_embd.weight"].sums[0]
    assert np.abs(looked_up / np.square(rows).sum(axis=0) - 1).max() < 1e-5


def embeddings(path: Path) -> dict[str, NDArray[np.float32]]:
    header = read_header(path)
    found = {}
    for entry in header.tensors:
        role = entry.name.removesuffix(".weight").removeprefix("blk.0.")
        if role in ("token_embd", "attn_norm"):
            dtype = np.uint16 if entry.ggml_type == 30 else np.float32
            raw = np.fromfile(path, dtype, int(np.prod(entry.shape)), offset=header.data_start + entry.offset)
            floats = (raw.astype(np.uint32) << 16).view(np.float32) if dtype is np.uint16 else raw
            found[role] = floats.reshape(entry.shape)
    return found


def tokens_of(model: Path, text: Path) -> NDArray[np.int32]:
    with Session(model) as session:
        return session.call(tokenize, render(read_domain(str(text)), None))[0]


class TestDomains:
    def test_weights_say_what_share_each_has(self, models: Path, tmp_path: Path) -> None:
        (tmp_path / "short.txt").write_bytes(b"short words, again and again. " * 400)
        alone = [
            ours(tmp_path / f"{n}.gguf", models / "tiny.gguf", "--text", text, "--chunks", "16")
            for n, text in enumerate((models / "text.txt", tmp_path / "short.txt"))
        ]
        both = ours(
            tmp_path / "both.gguf",
            *(models / "tiny.gguf", "--chunks", "16"),
            *("--text", f"code={models / 'text.txt'}:3", "--text", f"{tmp_path / 'short.txt'}:1"),
        )
        for name, entry in both.entries.items():
            expected = 0.75 * alone[0].entries[name].values + 0.25 * alone[1].entries[name].values
            assert np.allclose(entry.values, expected, rtol=1e-3, atol=1e-6 * expected.max())
        assert both.datasets == ("code", "short.txt")
        assert both.provenance is not None
        assert [text.name for text in both.provenance.texts] == ["code", "short.txt"]

    def test_several_contexts_are_added(self, models: Path, tmp_path: Path) -> None:
        arguments = (models / "tiny.gguf", "--text", models / "text.txt")
        short, long, both = (
            ours(tmp_path / f"{name}.gguf", *arguments, "--context", name, "--chunks", "4")
            for name in ("128", "512", "128,512")
        )
        for name, entry in both.entries.items():
            assert entry.counts[0] == short.entries[name].counts[0] + long.entries[name].counts[0]
            parts = short.entries[name].sums + long.entries[name].sums
            assert np.allclose(entry.sums, parts, rtol=1e-4)

    def test_chats_are_read_as_the_template_writes_them(self, models: Path, tmp_path: Path) -> None:
        chats = [
            {"messages": [{"role": "user", "content": f"def f{n}(): return {n}" * 9}]} for n in range(60)
        ]
        (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, chats)), encoding="utf-8")
        refused = compute(models / "tiny.gguf", "--text", tmp_path / "talk.jsonl", "-o", tmp_path / "m.gguf")
        assert refused.exit_code == 1
        assert "talk.jsonl:1: is a chat, and the model has no chat template" in " ".join(
            refused.output.split()
        )
        assert not (tmp_path / "m.gguf").exists()
        recipe = tmp_path / "chat.yaml"
        recipe.write_text(
            f"quantrecipe: 1\nextends: llama.cpp/BF16\nmetadata:\n  tokenizer.chat_template: '{TEMPLATE}'\n"
        )
        made = CliRunner().invoke(app, ["apply", str(recipe), str(TINY), "-o", str(tmp_path / "chat.gguf")])
        assert made.exit_code == 0, made.output
        chat = ours(tmp_path / "chat.imatrix.gguf", tmp_path / "chat.gguf", "--text", tmp_path / "talk.jsonl")
        assert chat.provenance is not None
        assert chat.provenance.template != ""
        written = "".join(f"<user>{it['messages'][0]['content']}</user>" for it in chats)
        (tmp_path / "written.txt").write_text(written, encoding="utf-8")
        same = ours(tmp_path / "same.gguf", tmp_path / "chat.gguf", "--text", tmp_path / "written.txt")
        assert same.entries["blk.0.attn_q.weight"].counts == chat.entries["blk.0.attn_q.weight"].counts
        assert np.allclose(
            same.entries["blk.3.ffn_down.weight"].values,
            chat.entries["blk.3.ffn_down.weight"].values,
            rtol=0.2,
        )
        raw = ours(tmp_path / "raw.gguf", models / "tiny.gguf", "--text", tmp_path / "talk.jsonl", "--raw")
        assert raw.provenance is not None
        assert raw.provenance.template == ""


class TestExperts:
    def test_their_pass_is_told(self, models: Path, tmp_path: Path) -> None:
        domain, told = read_domain(str(models / "text.txt")), list[object]()
        settings = CalibrationSettings(contexts=(64,), chunks=2, expert_tokens=60, all_experts=True)
        documents = [(domain, render(domain, None))]
        found = compute_importance(
            models / "mixtral.gguf", documents, tmp_path / "m.gguf", settings, hear=told.append
        )
        assert found.filled > 0
        at = told.index(Refill(tokens=128))
        assert [it.tokens for it in told[at:] if isinstance(it, Ran)] == [128]

    def test_those_without_tokens_are_named_and_filled(self, models: Path, tmp_path: Path) -> None:
        arguments = (
            models / "mixtral.gguf",
            "--text",
            models / "text.txt",
            "--context",
            "64",
            "--chunks",
            "1",
        )
        few = ("--min-expert-tokens", "60")
        result = compute(*arguments, *few, "-o", tmp_path / "few.gguf", "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert said["uncovered_experts"]
        filled = ours(tmp_path / "filled.gguf", *arguments, *few, "--all-experts")
        plain = read_importance(tmp_path / "few.gguf")
        assert filled.provenance is not None
        assert filled.provenance.all_experts
        for name, entry in plain.entries.items():
            new = filled.entries[name]
            if len(entry.counts) == 1:
                assert new.counts == entry.counts
                continue
            for expert, count in enumerate(entry.counts):
                if count >= 60:
                    assert new.counts[expert] == count
                    assert np.array_equal(new.sums[expert], entry.sums[expert])
                else:
                    assert new.counts[expert] == 64
                    assert (new.sums[expert] > 0).any()

    def test_of_all_tokens_through_all_experts_each_sees_the_same(self, models: Path, tmp_path: Path) -> None:
        found = ours(
            tmp_path / "m.gguf",
            *(models / "latent.gguf", "--text", models / "text.txt", "--context", "64", "--chunks", "2"),
            *("--min-expert-tokens", "100000", "--all-experts"),
        )
        sums = found.entries["blk.1.ffn_gate_exps.weight"].sums
        assert np.array_equal(sums, np.broadcast_to(sums[0], sums.shape))
        assert not np.array_equal(*found.entries["blk.1.ffn_down_exps.weight"].sums[:2])


def test_it_stops_when_more_changes_little(models: Path, tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_bytes(b"the same words, over and over, and never another one. " * 4000)
    result = compute(
        models / "tiny.gguf",
        "--text",
        tmp_path / "same.txt",
        "--until",
        "5%",
        "-o",
        tmp_path / "m.gguf",
        "--json",
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["enough"]
    assert said["change"]["share"] < 0.05
    assert said["tokens"] < said["domains"]["same.txt"]["tokens"]
    assert read_importance(tmp_path / "m.gguf").entries["blk.0.attn_q.weight"].counts == (said["tokens"],)


def test_a_killed_run_goes_on_and_gives_the_same_file(models: Path, tmp_path: Path) -> None:
    """Killed after its first save; the engine's process ends as soon as nobody listens."""
    arguments = [str(models / "tiny.gguf"), str(TEXT)]
    whole = calibrate(*arguments, str(tmp_path / "whole.gguf"))
    code = "import sys; from support.engine_jobs import calibrate; calibrate(*sys.argv[1:])"
    out = str(tmp_path / "killed.gguf")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments, out], env=environment)
    sums = tmp_path / "killed.gguf.sums"
    deadline = time.monotonic() + 60
    while not (found := SumsFile.read(sums)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert found is not None
    assert 0 < found.about["groups"] < 7, "it was killed too late to show anything"
    again = calibrate(*arguments, out)
    assert again[0] == found.about["groups"], "it began anew"
    assert again[1] == whole[1]
    assert whole[0] == 0


def test_numbers_that_are_none_are_located(models: Path, tmp_path: Path) -> None:
    write_latent_attention(tmp_path / "broken.gguf", models / "tiny.gguf", broken="blk.0.ffn_norm")
    result = compute(
        *(
            tmp_path / "broken.gguf",
            "--text",
            models / "text.txt",
            "--context",
            "64",
            "-o",
            tmp_path / "m.gguf",
        )
    )
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    assert "the input of blk.0.ffn_gate.weight is NaN or Inf (chunk 1, token 1)" in said
    assert not (tmp_path / "m.gguf").exists()


def test_weights_are_swapped_and_restored_to_the_bit(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    with Session(models / "tiny.gguf", writable=True) as session:
        before, changed, after = session.call(with_a_weight_of_zeros, "blk.1.ffn_down.weight")
        with pytest.raises(EvaluationError, match=r"doesn't use a tensor blk\.9\.x"):
            session.call(with_a_weight_of_zeros, "blk.9.x")
    assert np.array_equal(before, after)
    assert np.abs(before - changed).max() > 0.1
    with Session(models / "tiny.gguf") as session, pytest.raises(EvaluationError, match="can't be written"):
        session.call(with_a_weight_of_zeros, "blk.1.ffn_down.weight")


@pytest.mark.parametrize("model", ["tiny", "mixtral"])
def test_an_executor_s_matrix_is_the_same_file_whatever_dies(
    models: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed while it works, and so is a process of llama.cpp; then no process of either is left."""
    arguments = (models / f"{model}.gguf", "--text", models / "text.txt", "--context", "128,512")
    ours(tmp_path / "one.gguf", *arguments, "--threads", "1", "--all-experts")
    victims = ["worker", "engine"]
    seen: set[psutil.Process] = set()
    real = calibrating.CalibrationBar.read

    def read(self: Any, tokens: int) -> None:
        found = engines()
        seen.update(found)
        if victims and found:
            process = min(found, key=lambda it: it.pid)
            with suppress(psutil.NoSuchProcess):  # it may have ended, as its worker was killed before
                (process.parent() if victims[-1] == "worker" else process).kill()
                victims.pop()
        real(self, tokens)

    monkeypatch.setattr(calibrating.CalibrationBar, "read", read)
    ours(
        tmp_path / "two.gguf",
        *(*arguments, "--all-experts", "--executor", "processes", "--executor-option", "workers=2"),
    )
    assert (tmp_path / "two.gguf").read_bytes() == (tmp_path / "one.gguf").read_bytes()
    assert victims == []
    _, left = psutil.wait_procs(list(seen), timeout=20)
    assert left == []
