"""quantrecipe imatrix compute, with llama.cpp's part played by a graph that a test makes."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from support.fake_graph import FakeModel, FakeSession, tensors
from support.fake_workers import install
from support.models import llama_metadata, write_gguf

from quantrecipe.calibration import CalibrationSettings
from quantrecipe.cli.app import app
from quantrecipe.cli.imatrix.calibrating import _experts
from quantrecipe.errors import EvaluationError, OutputError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.open_model import open_model

EXPERTS = {"llama.expert_count": GGUFValue.of(ValueType.UINT32, 4)}
WORDS = "every word of this text is read by the model, one after the other. "


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quantrecipe.calibration.compute.Session", FakeSession)
    FakeSession.models.clear()
    write_gguf(tmp_path / "model.gguf", tensors(), {**llama_metadata(), **EXPERTS})
    (tmp_path / "long.txt").write_text(WORDS * 600, encoding="utf-8")
    (tmp_path / "short.txt").write_text(WORDS * 60, encoding="utf-8")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--no-plugins", "imatrix", "compute", "model.gguf", *arguments])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_matrix_is_written_with_where_it_comes_from(here: Path) -> None:
    result = run("--text", "code=long.txt", "--skip", "2", "--chunks", "70")
    assert result.exit_code == 0, result.output
    assert "reading code 35,840 tokens in 70 chunks; takes about" in said(result)
    assert "model.imatrix.gguf: 6 entries, 70 chunks of 512" in said(result)
    assert "covers 6 of 8 tensors" in said(result)
    matrix = read_importance(here / "model.imatrix.gguf")
    assert matrix.entries["blk.0.attn_k.weight"].counts == (35_840,)
    found = matrix.provenance
    assert found is not None
    assert found.fingerprint == str(fingerprint(open_model("model.gguf")))
    assert (found.contexts, found.skip, found.chunks, found.engine) == ((512,), 2, 70, "none")
    assert [(text.name, text.tokens, text.weight) for text in found.texts] == [("code", 35_840, 1.0)]
    assert not list(here.glob("*.sums*"))


def test_json_is_all_that_stdout_has(here: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["--no-plugins", "imatrix", "compute", "model.gguf", "--text", "long.txt", "--json", "-o", "m.gguf"],
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["file"] == "m.gguf"
    assert document["domains"] == {"long.txt": {"tokens": 39_936, "chunks": 78, "factor": 1.0}}
    assert document["missing_tensors"] == ["output.weight", "token_embd.weight"]
    assert document["uncovered_experts"]["blk.0.ffn_down_exps.weight"] == {"3": 0}
    assert document["provenance"]["contexts"] == [512]


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (["--text", "short.txt"], "3,584 tokens are few"),
        (["--text", "long.txt", "--chunks", "40"], "40 samples are few"),
        (["--text", "long.txt"], "trained with contexts of 8,192 tokens, and reads 512 at a time here"),
        (["--text", "long.txt", "--text", "short.txt"], "long.txt, short.txt have no weights"),
        (
            ["--text", "long.txt", "--held-out", "short.txt"],
            "of the passages of short.txt are in long.txt, too",
        ),
        (["--text", "long.txt"], "blk.0: few tokens reached expert 3 (0)"),
    ],
)
def test_what_is_warned_of(arguments: Sequence[str], warning: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert warning in said(result)


def test_what_was_done_is_no_remedy() -> None:
    few = ("--text", "long.txt", "--min-expert-tokens", "1000000")
    assert "more text of other kinds, or --all-experts" in said(run(*few, "-o", "a.gguf"))
    filled = said(run(*few, "--all-experts", "-o", "b.gguf"))
    assert "more text of other kinds" in filled
    assert "or --all-experts" not in filled


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([3], "expert 0 (3)"),
        ([3, 0], "experts 0 (3), 1 (0)"),
        ([0, 0, 0, 0], "4 experts (0 each): 0-3"),
        ([1, 0, 0, 2000], "4 experts (0 to 2,000): 0-3"),
    ],
)
def test_experts_in_words(counts: list[int], words: str) -> None:
    assert _experts(dict(enumerate(counts))) == words


def test_what_is_right_isn_t_warned_of() -> None:
    result = run("--text", "long.txt", "--context", "512,4096", "--all-experts")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    assert "note" not in result.output
    assert "2 experts got what all tokens give" in said(result)
    assert [model.all_experts for model in FakeSession.models] == [False, True]


def test_texts_are_divided_and_only_one_part_is_read(here: Path) -> None:
    (here / "many.jsonl").write_text(
        "".join(json.dumps({"text": f"{number} {WORDS}" * 20}) + "\n" for number in range(100)),
        encoding="utf-8",
    )
    result = run("--text", "many.jsonl", "--split", "70/20/10", "-o", "mine.imatrix.gguf")
    assert result.exit_code == 0, result.output
    parts = {
        part: [
            json.loads(line)["text"]
            for line in (here / f"mine.{part}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for part in ("calibration", "search", "held-out")
    }
    everything = [text for texts in parts.values() for text in texts]
    assert len(everything) == len(set(everything)) == 100
    assert 60 <= len(parts["calibration"]) <= 80
    found = read_importance(here / "mine.imatrix.gguf").provenance
    assert found is not None
    assert found.texts[0].tokens <= sum(len(text) for text in parts["calibration"])
    assert "for eval --text, fit --verify" in said(result)
    again = run("--text", "mine.calibration.jsonl", "-o", "again.gguf")
    assert again.exit_code == 0, again.output
    assert read_importance(here / "again.gguf").digest == read_importance(here / "mine.imatrix.gguf").digest


def test_a_run_with_parts_goes_on_when_it_is_given_again(here: Path) -> None:
    """The parts that it has written are its own; those of another text aren't."""
    many = [json.dumps({"text": f"{number} {WORDS}" * 20}) for number in range(100)]
    (here / "many.jsonl").write_text("\n".join(many), encoding="utf-8")
    arguments = ("--text", "many.jsonl", "--split", "70/20/10", "-o", "m.gguf")
    stopped = run(*arguments, "--context", "512,512")
    assert stopped.exit_code == 1
    parts = {path: path.read_bytes() for path in here.glob("m.*.jsonl")}
    assert len(parts) == 3
    assert run(*arguments).exit_code == 0
    (here / "m.gguf").unlink()
    (here / "many.jsonl").write_text("\n".join(many[1:]), encoding="utf-8")
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert re.search(r"m\.[a-z-]+\.jsonl exists; say --force", said(refused))
    assert {path: path.read_bytes() for path in here.glob("m.*.jsonl")} == parts


def test_parts_without_texts_are_said_and_not_written(here: Path) -> None:
    texts = [json.dumps({"text": f"{number} {WORDS * 20}"}) for number in range(9)]
    (here / "few.jsonl").write_text("\n".join(texts), encoding="utf-8")
    result = run("--text", "few.jsonl", "--split", "99/1/0", "-o", "m.gguf")
    assert result.exit_code == 0, result.output
    assert "the search part got none of the texts" in said(result)
    assert "held-out" not in said(result)
    assert [path.name for path in here.glob("m.*.jsonl")] == ["m.calibration.jsonl"]


def test_a_domain_that_isn_t_in_the_calibration_part_is_named(here: Path) -> None:
    texts = [json.dumps({"text": f"{number} {WORDS * 20}"}) for number in range(60)]
    (here / "many.jsonl").write_text("\n".join(texts), encoding="utf-8")
    (here / "one.jsonl").write_text(json.dumps({"text": "one more"}), encoding="utf-8")
    result = run("--text", "many.jsonl", "--text", "one.jsonl", "--split", "50/50/0", "-o", "m.gguf")
    assert result.exit_code == 0, result.output
    assert "nothing of one.jsonl is in the calibration part: the matrix doesn't know it" in said(result)


def test_it_stops_at_a_change_unless_experts_lack_tokens() -> None:
    document = json.loads(run("--text", "long.txt", "--until", "99%", "--json").stdout)
    assert document["enough"]
    assert document["tokens"] < 39_936
    tokens = [text["tokens"] for text in document["provenance"]["texts"]]
    assert tokens == [document["tokens"]]
    waits = run("--text", "long.txt", "--until", "0.99", "--min-expert-tokens", "1", "--json", "-o", "m.gguf")
    document = json.loads(waits.stdout)
    assert not document["enough"]
    assert document["tokens"] == 39_936


def test_of_a_run_that_was_enough_the_tokens_of_each_text_are_exact() -> None:
    """The last group was of one of the texts: no share of all tokens gives the numbers."""
    arguments = (
        "--text",
        "long.txt:1",
        "--text",
        "short.txt:1",
        "--context",
        "64",
        "--until",
        "99%",
        "--json",
    )
    document = json.loads(run(*arguments).stdout)
    tokens = {text["name"]: text["tokens"] for text in document["provenance"]["texts"]}
    assert document["enough"]
    assert sum(tokens.values()) == document["tokens"]
    assert all(count % 64 == 0 for count in tokens.values())


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "Say with --text what the model is to read"),
        (["--text", "none.txt"], 1, "none.txt"),
        (["--text", "short.txt", "--context", "8k"], 1, "short.txt has 4,020 tokens: 0 chunks of 8,192"),
        (["--text", "short.txt", "--context", "8"], 1, "a context of 8 tokens is too short; use 16 or more"),
        (["--text", "short.txt", "--context", "512,512"], 1, "all different"),
        (["--text", "short.txt", "--context", "x"], 2, "--context"),
        (["--text", "short.txt", "--chunks", "9" * 20], 1, "no texts of so many chunks"),
        (["--text", "short.txt", "--skip", "9" * 20], 1, "no texts of so many chunks"),
        (["--text", "short.txt", "--until", "120%"], 2, "no share between 0 and 100 %"),
        (["--text", "short.txt", "--split", "80/20"], 2, "no three parts of a hundred"),
        (["--text", "short.txt", "--split", "80/18/²"], 2, "no three parts of a hundred"),
        (["--text", "short.txt", "-o", "m.txt"], 2, "--to gguf or --to dat"),
        (["--text", "short.txt", "-o", "long.txt/m.gguf"], 1, "isn't a folder|is no folder|doesn't exist"),
    ],
)
def test_what_is_refused(arguments: Sequence[str], status: int, message: str, here: Path) -> None:

    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert re.search(message, said(result)) or message in said(result)
    assert not list(here.glob("*.imatrix.gguf"))


def test_of_a_run_that_stops_it_is_said_what_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("--text", "long.txt", "-o", "whole.gguf")
    assert whole.exit_code == 0
    monkeypatch.setattr("quantrecipe.calibration.collect._SMALLEST_SHARE", 0)
    monkeypatch.setitem(CalibrationSettings.__init__.__kwdefaults__, "save_every", 0.0)
    real = FakeModel.run

    def dies(self: FakeModel, chunks: NDArray[np.int32], watch: object) -> None:
        if len(self.seen) > 200:
            raise EvaluationError("llama.cpp crashed")
        real(self, chunks, watch)

    with monkeypatch.context() as patch:
        patch.setattr(FakeModel, "run", dies)
        stopped = run("--text", "long.txt", "-o", "m.gguf")
    assert stopped.exit_code == 1
    assert "what was read is kept in m.gguf.sums; the same command goes on from there" in said(stopped)
    assert not (here / "m.gguf").exists()
    again = run("--text", "long.txt", "-o", "m.gguf")
    assert again.exit_code == 0, again.output
    assert re.search(r"goes on after [1-9][\d,]* tokens, which an earlier run has read", said(again)), said(
        again
    )
    assert (here / "m.gguf").read_bytes() == (here / "whole.gguf").read_bytes()


def test_a_disk_that_is_full_at_the_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost: neither what was read, nor that it was enough, nor that experts got all tokens."""
    arguments = ("--text", "long.txt", "--until", "99%", "--all-experts")
    assert run(*arguments, "-o", "whole.gguf").exit_code == 0

    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("quantrecipe.cli.imatrix.output.write_file", full)
        stopped = run(*arguments, "-o", "m.gguf")
    assert stopped.exit_code == 1
    assert "what was read is kept in m.gguf.sums; the same command goes on from there" in said(stopped)
    again = run(*arguments, "-o", "m.gguf")
    assert "2 experts got what all tokens give" in said(again)
    assert (here / "m.gguf").read_bytes() == (here / "whole.gguf").read_bytes()


def test_what_another_run_has_read_is_named_before_it_is_lost(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose experts got all tokens, besides: nothing of that is in the matrix of one that didn't ask for it."""

    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    assert run("--text", "long.txt", "-o", "whole.gguf").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr("quantrecipe.cli.imatrix.output.write_file", full)
        assert run("--text", "long.txt", "--all-experts", "-o", "m.gguf").exit_code == 1
    result = run("--text", "long.txt", "-o", "m.gguf")
    assert re.search(
        r"m\.gguf\.sums is of a run with other .* read 39,936 tokens: it will be rep", said(result)
    )
    assert (here / "m.gguf").read_bytes() == (here / "whole.gguf").read_bytes()


def test_a_reader_that_goes_away_takes_nothing_along(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix is there, and the sums are gone, before anything is said to `| head`."""

    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("quantrecipe.cli.context.Context.say", closed)
    result = run("--text", "long.txt", "-o", "m.gguf")
    assert "is kept" not in said(result)
    assert read_importance(here / "m.gguf").entries
    assert not list(here.glob("m.gguf.*"))


def test_two_runs_don_t_write_one_matrix(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[Result] = []
    real = FakeModel.run

    def during(self: FakeModel, chunks: NDArray[np.int32], watch: object) -> None:
        if not seconds:
            seconds.append(run("--text", "short.txt", "-o", "m.gguf"))
        real(self, chunks, watch)

    monkeypatch.setattr(FakeModel, "run", during)
    first = run("--text", "long.txt", "-o", "m.gguf")
    assert first.exit_code == 0, first.output
    assert seconds[0].exit_code == 1
    assert "another run computes m.gguf; wait for it" in said(seconds[0])
    assert read_importance(here / "m.gguf").datasets == ("long.txt",)
    assert not list(here.glob("m.gguf.*"))


def test_a_run_that_fails_doesn_t_wait_until_the_model_is_hashed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread reads the model's files, which may take hours."""

    def dies(self: FakeModel, chunks: NDArray[np.int32], watch: object) -> None:
        raise EvaluationError("llama.cpp crashed")

    class Endless:
        digested = 0

        def update(self, data: bytes) -> None:
            self.digested += 1
            time.sleep(0.01)

        def hexdigest(self) -> str:
            return "all"

    endless = Endless()
    with (here / "model.gguf").open("ab") as file:
        file.truncate(1 << 28)  # 256 pieces
    hashes = SimpleNamespace(xxh3_128=lambda: endless)
    monkeypatch.setattr("quantrecipe.calibration.compute.xxhash", hashes)
    monkeypatch.setattr(FakeModel, "run", dies)
    assert "llama.cpp crashed" in said(run("--text", "long.txt", "-o", "m.gguf"))
    assert endless.digested < 256


@pytest.mark.parametrize("out", ["model.gguf", "link.gguf"])
def test_the_model_isn_t_replaced_by_its_matrix(here: Path, out: str) -> None:
    os.link(here / "model.gguf", here / "link.gguf")
    before = (here / "model.gguf").read_bytes()
    result = run("--text", "long.txt", "-o", out, "--force")
    assert result.exit_code == 1
    assert f"{out} is a file of the model, and would be written over" in said(result)
    assert (here / "model.gguf").read_bytes() == before


def test_a_text_isn_t_replaced_by_a_part_of_it(here: Path) -> None:
    texts = [json.dumps({"text": f"{number} {WORDS * 20}"}) for number in range(60)]
    (here / "m.calibration.jsonl").write_text("\n".join(texts), encoding="utf-8")
    result = run("--text", "m.calibration.jsonl", "--split", "50/50/0", "-o", "m.gguf", "--force")
    assert result.exit_code == 1
    assert "m.calibration.jsonl is a text that is read, and would be written over" in said(result)
    assert (here / "m.calibration.jsonl").read_text(encoding="utf-8") == "\n".join(texts)
    assert not (here / "m.search.jsonl").exists()


def test_a_matrix_that_is_there_is_kept(here: Path) -> None:
    (here / "m.gguf").write_text("mine", encoding="utf-8")
    result = run("--text", "long.txt", "-o", "m.gguf")
    assert result.exit_code == 1
    assert (here / "m.gguf").read_text(encoding="utf-8") == "mine"
    assert FakeSession.models == []
    assert run("--text", "long.txt", "-o", "m.gguf", "--force").exit_code == 0
    assert read_importance(here / "m.gguf").entries


class TestByAnExecutor:
    @pytest.fixture(autouse=True)
    def workers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, tmp_path / "startup")

    def test_the_matrix_is_the_same_file(self, here: Path) -> None:
        text = ("--text", "code=long.txt", "--context", "512,1024")
        assert run(*text, "-o", "one.gguf").exit_code == 0
        result = run(*text, "-o", "two.gguf", "--executor", "threads", "--executor-option", "workers=3")
        assert result.exit_code == 0, result.output
        assert re.search(r"takes about [0-9.]+ \w+ of memory for each worker", said(result))
        assert (here / "two.gguf").read_bytes() == (here / "one.gguf").read_bytes()
        assert not list(here.glob("*.sums*"))

    def test_what_becomes_of_workers_is_noted(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_LOSES", str(here / "lost"))
        result = run("--text", "long.txt", "--executor", "threads", "--executor-option", "workers=1")
        assert result.exit_code == 0, result.output
        assert re.search(r"note: .*llama\.cpp was killed while it ran it", said(result))

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ("--executor-option workers=2", "--executor-option is for --executor"),
            ("--executor threads --threads 2", "--threads is for this process"),
            ("--executor nobody", "no such executor 'nobody'"),
        ],
    )
    def test_what_can_t_be_is_told_at_once(self, arguments: str, why: str) -> None:
        result = run("--text", "long.txt", *arguments.split())
        assert result.exit_code != 0
        assert why in said(result)
