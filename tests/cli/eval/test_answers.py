"""eval --prompts: answers beside the reference's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.evaluated import REFERENCE, run
from support.pages import read_page

from quantrecipe.evaluate import requests as requests_module


class TestPrompts:
    @pytest.fixture
    def prompts(self, tmp_path: Path) -> list[str]:
        lines = [json.dumps({"prompt": f"<i>{number}</i> ```"}) for number in range(100)]
        (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return ["--prompts", "prompts.jsonl"]

    def test_the_table(self, calls: list[dict[str, object]], prompts: list[str]) -> None:
        result = run(["q4.gguf", "much-worse.gguf", *REFERENCE, *prompts])
        assert result.exit_code == 0, result.output
        assert "warning" not in result.output
        assert "100 prompts, answers of at most 128 tokens; with other batches, 0 % of the" in result.output
        rows = [
            re.split("  +", line)
            for line in result.output.splitlines()
            if " (0 to " in line or " (40 to " in line
        ]
        assert rows[0][:2] == ["q4.gguf", "0 (0 to 4)"]
        assert rows[1][:4] == ["much-worse.gguf", "50 (40 to 60)", "50 (40 to 60)", "1"]

    def test_json(self, calls: list[dict[str, object]], prompts: list[str]) -> None:
        args = ["q4.gguf", "much-worse.gguf", *REFERENCE, *prompts, "--answer-tokens", "7", "--json"]
        told = json.loads(run(args).output)["answers"]
        assert told["most_tokens"] == 7
        assert told["reference"]["ended"] == 100
        assert told["files"]["much-worse.gguf"]["differ"]["value"] == 0.5
        assert told["files"]["much-worse.gguf"]["first_difference"] == 1
        assert told["differ_between"]["q4.gguf"]["much-worse.gguf"]["value"] == 0.5
        assert told["differ_between"]["q4.gguf"].keys() == {"much-worse.gguf"}

    def test_the_reference_answers_first_and_once(
        self, calls: list[dict[str, object]], prompts: list[str]
    ) -> None:
        """A prompt may be too long for it, and a text takes hours."""
        for _ in range(2):
            run(["q4.gguf", *REFERENCE, *prompts])
        asked = [(Path(str(call["model"])).name, call.get("prompts") is not None) for call in calls]
        assert asked == [
            *(("bf16.gguf", True), ("bf16.gguf", True), ("bf16.gguf", False)),
            *(("q4.gguf", False), ("q4.gguf", True)),
            *(("q4.gguf", False), ("q4.gguf", True)),
        ]
        # Each model is loaded once, for texts and prompts.
        opened = requests_module.Session.opened  # type: ignore[attr-defined]  # the one of the tests
        assert opened == ["bf16.gguf", "q4.gguf", "q4.gguf"]
        again, other = (calls[number]["prompts"] for number in (1, 4))
        assert len(again[0]) == 32  # type: ignore[index]  # with fewer side by side
        assert again[-1] == 2  # type: ignore[index]
        assert other[3].prompts == tuple((line,) for line in range(1, 101))  # type: ignore[index]  # the same tokens

    def test_a_damaged_cache_is_made_again(
        self, calls: list[dict[str, object]], prompts: list[str], tmp_path: Path
    ) -> None:
        run(["q4.gguf", *REFERENCE, *prompts])
        (kept,) = (tmp_path / "cache/answers").iterdir()
        kept.write_bytes(kept.read_bytes()[:-9])
        run(["q4.gguf", *REFERENCE, *prompts])
        assert [Path(str(call["model"])).name for call in calls].count("bf16.gguf") == 5

    def test_few_prompts_are_a_warning(self, calls: list[dict[str, object]]) -> None:
        result = run(["q4.gguf", *REFERENCE, "--prompts", "code.txt"])
        assert "warning: code.txt has only one prompt" in result.stderr
        assert "give 100 or more" in result.stderr

    @pytest.mark.parametrize("kind", ["md", "html", "json"])
    def test_side_by_side(
        self, calls: list[dict[str, object]], prompts: list[str], tmp_path: Path, kind: str
    ) -> None:
        args = ["much-worse.gguf", *REFERENCE, *prompts, "--answers", f"a.{kind}"]
        assert run(args).exit_code == 0
        text = (tmp_path / f"a.{kind}").read_text(encoding="utf-8")
        if kind == "json":
            told = json.loads(text)
            assert [it["line"] for it in told["answers"]] == list(range(1, 101))
            first = told["answers"][0]
            assert first["prompt"] == "<i>0</i> ```"
            assert first["reference"] == {
                "text": "<b>1</b>",
                "tokens": [1],
                "ended": True,
                "first_difference": None,
            }
            assert first["files"]["much-worse.gguf"]["first_difference"] == 1
            assert told["answers"][1]["files"]["much-worse.gguf"]["first_difference"] is None
        elif kind == "html":
            assert "<pre>&lt;i&gt;0&lt;/i&gt; ```</pre>" in text
            assert "<pre>&lt;b&gt;1&lt;/b&gt;<mark> &lt;b&gt;90&lt;/b&gt;</mark></pre>" in text
            assert text.count("<tr>") == 200
            assert read_page(text).problems == []
        else:
            assert "## Prompt of line 1\n\n````\n<i>0</i> ```\n````" in text  # no fence in it ends the block
            assert "**much-worse.gguf**: differs from token 1 on\n\n```\n<b>1</b> <b>90</b>\n```" in text
            assert text.count("**much-worse.gguf**: the same") == 50
        assert run(args).exit_code == 1  # it exists
        assert run([*args, "--force"]).exit_code == 0
