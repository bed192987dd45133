"""quantrecipe imatrix self: files, their side file, and what it says, with a model of bytes in llama.cpp's place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import xxhash
from click.testing import CliRunner, Result
from support.byte_model import ByteModel, SessionOfBytes
from support.chat_templates import CHATML
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli.app import app
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.open_model import open_model
from quantrecipe.texts import read_domain

TEMPLATE = {"tokenizer.chat_template": GGUFValue.of(ValueType.STRING, CHATML)}


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionOfBytes:
    monkeypatch.chdir(tmp_path)
    made = SessionOfBytes(ByteModel())
    monkeypatch.setattr("quantrecipe.calibration.self_written.Session", made)
    monkeypatch.setattr("quantrecipe.engine.require_engine", lambda engine: engine)
    write_gguf(tmp_path / "base.gguf", llama_tensors(layers=1), llama_metadata())
    write_gguf(tmp_path / "chat.gguf", llama_tensors(layers=1), llama_metadata() | TEMPLATE)
    return made


def run(*arguments: str) -> Result:
    common = ("--no-plugins", "imatrix", "self")
    return CliRunner().invoke(
        app, [*common, *arguments, *([] if "--tokens" in arguments else ["--tokens", "2k"])]
    )


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_model_with_a_template_writes_chats(tmp_path: Path) -> None:
    told = said(run("chat.gguf", "-o", "self.jsonl"))
    domain = read_domain("self.jsonl")
    assert all(it.is_chat and it.messages[-1].role == "assistant" for it in domain.documents)
    assert any(it.tools for it in read_domain("self.jsonl").documents) or len(domain.documents) < 40
    assert f"self.jsonl: {len(domain.documents)} documents" in told
    assert re.search(r"[\d,]+ tokens in \d+ answers", told)
    assert sorted(it.name for it in tmp_path.glob("self*")) == ["self.about.json", "self.jsonl"]


def test_another_goes_on_with_openings() -> None:
    said(run("base.gguf"))
    documents = read_domain("base.self.jsonl").documents
    assert documents
    assert not any(it.is_chat for it in documents)


def test_a_side_file_says_what_it_was_made_with() -> None:
    result = run("chat.gguf", "-o", "self.jsonl", "--seed", "7", "--min-p", "0.1", "--json")
    about = json.loads(Path("self.about.json").read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == about
    assert about["fingerprint"] == str(fingerprint(open_model("chat.gguf")))
    assert about["xxh3_128"] == xxhash.xxh3_128(Path("chat.gguf").read_bytes()).hexdigest()
    assert about["settings"] == {
        "tokens": 2048,
        "seed": 7,
        "temperature": 1.0,
        "min_p": 0.1,
        "answer_tokens": 1024,
    }
    data = Path("self.jsonl").read_bytes()
    assert about["files"] == {
        "self.jsonl": {"documents": data.count(b"\n"), "xxh3_128": xxhash.xxh3_128(data).hexdigest()}
    }
    assert about["files"]["self.jsonl"]["xxh3_128"] == read_domain("self.jsonl").digest
    assert about["answers"]["kept"] == data.count(b"\n")
    assert about["engine"] == "of bytes"


def test_the_same_seed_writes_the_same_file() -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        said(run("chat.gguf", "-o", f"{name}.jsonl", "--seed", seed))
    a, b, c = (Path(f"{name}.jsonl").read_bytes() for name in "abc")
    assert a == b != c


def test_parts_have_no_prompt_in_common(tmp_path: Path) -> None:
    told = said(run("chat.gguf", "-o", "self.jsonl", "--split", "50/30/20", "--tokens", "20k"))
    parts = [
        {it.messages[:-1][-1].content for it in read_domain(f"self.{part}.jsonl").documents}
        for part in ("calibration", "search", "held-out")
    ]
    assert all(parts)
    assert parts[0].isdisjoint(parts[1] | parts[2])
    assert parts[1].isdisjoint(parts[2])
    assert len(read_domain("self.calibration.jsonl").documents) > len(parts[0]), (
        "each is asked more than once"
    )
    assert not (tmp_path / "self.jsonl").exists()
    assert "self.held-out.jsonl" in told


def test_a_part_to_which_no_prompt_falls_isn_t_written() -> None:
    Path("mine.jsonl").write_text('{"text": "once upon a time "}\n', encoding="utf-8")
    told = said(run("base.gguf", "--prompts", "mine.jsonl", "-o", "self.jsonl", "--split", "98/1/1"))
    assert "no prompt fell to self.search.jsonl, which isn't written" in told
    assert [it.name for it in sorted(Path().glob("self*"))] == ["self.about.json", "self.calibration.jsonl"]


def test_prompts_of_your_own() -> None:
    Path("mine.jsonl").write_text('{"messages": [{"role": "user", "content": "Ahoy"}]}\n', encoding="utf-8")
    said(run("chat.gguf", "--prompts", "mine.jsonl", "-o", "self.jsonl"))
    assert {it.messages[0].content for it in read_domain("self.jsonl").documents} == {"Ahoy"}
    result = run("base.gguf", "--prompts", "mine.jsonl", "-o", "other.jsonl")
    assert result.exit_code == 1
    assert "mine.jsonl:1: is a chat, and the model has no chat template" in " ".join(result.output.split())


def test_what_is_left_out_is_counted(session: SessionOfBytes) -> None:
    session.model.script = lambda prompt: b"again " * 20 if len(prompt) % 2 else b"a text for " + prompt[:9]
    told = said(run("base.gguf", "-o", "self.jsonl"))
    assert re.search(r"left out: \d+ that end in loops", told)
    assert re.search(r"\d+% of the answers end in loops; a --temperature above 1", told)
    about = json.loads(Path("self.about.json").read_text(encoding="utf-8"))
    assert about["answers"]["loop"] > 0


def test_a_stopped_run_goes_on(session: SessionOfBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    said(run("chat.gguf", "-o", "whole.jsonl"))
    whole = len(session.model.asked)
    session.model.asked.clear()
    real = ByteModel.generate

    def dies(self: ByteModel, *arguments: object, **more: object) -> object:
        if self.asked:
            raise KeyboardInterrupt
        return real(self, *arguments, **more)  # type: ignore[arg-type]  # as it was called

    with monkeypatch.context() as patch:
        patch.setattr(ByteModel, "generate", dies)
        assert run("chat.gguf", "-o", "self.jsonl").exit_code != 0
    assert not Path("self.jsonl").exists()
    assert Path("self.jsonl.answers").exists()
    said(run("chat.gguf", "-o", "self.jsonl"))
    assert len(session.model.asked) == whole
    assert Path("self.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not Path("self.jsonl.answers").exists()


def test_files_that_exist_are_kept(session: SessionOfBytes) -> None:
    Path("self.about.json").write_text("mine", encoding="utf-8")
    result = run("chat.gguf", "-o", "self.jsonl")
    assert result.exit_code == 1
    assert session.model.asked == []
    assert Path("self.about.json").read_text(encoding="utf-8") == "mine"
    said(run("chat.gguf", "-o", "self.jsonl", "--force"))
