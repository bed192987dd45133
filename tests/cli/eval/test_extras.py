"""eval --continuations and --questions: what models do besides reading texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar

import pytest
from support.evaluated import REFERENCE, run


class TestContinuations:
    ARGS: ClassVar[list[str]] = ["q4.gguf", "much-worse.gguf", *REFERENCE, "--continuations", "5"]

    def test_the_table(self, calls: list[dict[str, object]]) -> None:
        out = " ".join(run(self.ARGS).output.split())
        assert "5 continuations of the texts, 128 tokens each, beside the reference's" in out
        assert "q4.gguf 100.0 100.0 67.2 0.0 86.0" in out
        assert "much-worse.gguf 100.0 100.0 54.7 0.0 70.0 -16.0" in out

    def test_json(self, calls: list[dict[str, object]]) -> None:
        told = json.loads(run([*self.ARGS, "--json"]).output)
        assert told["questions"] is None
        assert told["continuations"]["places"] == 5
        of_q4 = told["continuations"]["files"]["q4.gguf"]
        assert [its["length"] for its in of_q4["agreement"]] == [32, 128]
        assert of_q4["agreement"][1]["until"]["value"] == 86
        assert of_q4["beside"] is None
        assert json.loads(run(["q4.gguf", *REFERENCE, "--json"]).output)["continuations"] is None

    def test_the_reference_goes_on_once_and_each_file_at_the_same_places(
        self, calls: list[dict[str, object]]
    ) -> None:
        run(self.ARGS)
        asked = [(Path(str(call["model"])).name, call["places"]) for call in calls if "places" in call]
        assert [name for name, _ in asked] == ["bf16.gguf", "q4.gguf", "much-worse.gguf"]
        assert len({places for _, places in asked}) == 1
        calls.clear()
        run(self.ARGS)
        again = [Path(str(call["model"])).name for call in calls if "places" in call]
        assert again == ["q4.gguf", "much-worse.gguf"]  # the reference's are in the cache


class TestQuestions:
    @pytest.fixture
    def questions(self, tmp_path: Path) -> list[str]:
        line = json.dumps({"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": "B"})
        (tmp_path / "questions.jsonl").write_text("\n".join([line] * 120), encoding="utf-8")
        return ["q4.gguf", "much-worse.gguf", *REFERENCE, "--questions", "questions.jsonl"]

    def test_the_table_and_what_is_sure(self, calls: list[dict[str, object]], questions: list[str]) -> None:
        out = " ".join(run(questions).output.split())
        assert "120 questions of questions.jsonl" in out
        assert "the reference 100.0 (97 to 100)" in out
        assert "q4.gguf 66.7 (58 to 74) 40 0 -33.3 (-41.4 to -24.2)" in out
        assert re.search(
            r"much-worse\.gguf 33\.3 \(26 to 42\) 80 0 -66\.7 \(-7\d\.\d to -5\d\.\d\) -33\.3", out
        )
        assert "q4.gguf has surely fewer right than the reference (p = 1.8e-12, McNemar)." in out
        assert "much-worse.gguf has surely fewer right than the first file" in out

    def test_json_and_the_cache(self, calls: list[dict[str, object]], questions: list[str]) -> None:
        told = json.loads(run([*questions, "--json"]).output)["questions"]
        assert told["reference"]["right"]["value"] == 1
        assert told["files"]["q4.gguf"]["beside_reference"]["lost"] == 40
        assert told["files"]["q4.gguf"]["beside_first"] is None
        calls.clear()
        run(questions)
        asked = [Path(str(call["model"])).name for call in calls if "questions" in call]
        assert asked == ["q4.gguf", "much-worse.gguf"]

    def test_few_are_a_warning_and_bad_ones_an_error(
        self, calls: list[dict[str, object]], questions: list[str], tmp_path: Path
    ) -> None:
        path = tmp_path / "questions.jsonl"
        path.write_text(path.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
        result = run(questions)
        assert result.exit_code == 0
        assert "has only 1 question: shares of them say little" in " ".join(result.output.split())
        path.write_text('{"prompt": "x"}\n{"question": 3, "choices": ["a", "b"]}\n', encoding="utf-8")
        calls.clear()
        result = run(questions)
        assert result.exit_code == 1
        assert "questions.jsonl:1: has neither choices nor an answer nor a pattern" in result.output
        assert "questions.jsonl:2: has choices, and no question" in result.output
        assert calls == []  # nothing was run

    @pytest.mark.parametrize("option", [["--questions", "questions.jsonl"], ["--continuations", "3"]])
    def test_a_saved_reference_can_not_answer(
        self, calls: list[dict[str, object]], questions: list[str], option: list[str]
    ) -> None:
        run([*REFERENCE, "--save-reference", "mine.reference"])
        result = run(["q4.gguf", "--reference", "mine.reference", *option])
        assert result.exit_code == 2
        assert "Give the model itself: it is to" in " ".join(result.output.split())
