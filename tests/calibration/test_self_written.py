"""Text that a model writes: what it is asked, what is kept of its answers, and that the same seed writes the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.byte_model import ByteModel, SessionOfBytes
from support.chat_templates import CHATML, GEMMA, THINKING

from quantrecipe.calibration import self_written
from quantrecipe.calibration.self_written import (
    Prompt,
    WritingSettings,
    Written,
    Wrote,
    ends_in_a_loop,
    own_prompts,
    prompts_for,
    write_texts,
)
from quantrecipe.errors import EvaluationError, OutputError, TextError
from quantrecipe.texts import ChatTemplate, Document, Message, json_lines_of, read_domain

Tokens = NDArray[np.int32]

Start = Callable[..., Written]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    def run(model: ByteModel, *changes: Any, journal: str = "journal", **fields: Any) -> Written:
        monkeypatch.setattr(self_written, "Session", SessionOfBytes(model))
        hear, prompts = fields.pop("hear", None), fields.pop("prompts", PROMPTS)
        told = fields.pop("told", None)
        settings = WritingSettings(**{"tokens": 600, "answer_tokens": 60} | fields)
        return write_texts("model.gguf", prompts, tmp_path / journal, settings, told=told, hear=hear)

    return run


def plain(*texts: str) -> tuple[Prompt, ...]:
    return prompts_for([Document(place=f"p:{n}", text=text) for n, text in enumerate(texts)], None).prompts


PROMPTS = plain(*(f"prompt {n} " for n in range(20)))


def user(*said: str, **more: Any) -> Document:
    roles = ("user", "assistant") * 9
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, said, strict=False))
    return Document(place="talk.jsonl:1", messages=messages, **more)


class TestOwnPrompts:
    def test_there_are_about_two_hundred_chats_and_openings_besides(self) -> None:
        assert 200 <= len(own_prompts(chats=True).documents) < 250
        assert len(own_prompts(chats=False).documents) >= 60

    def test_kinds_languages_and_programs(self) -> None:
        lines = [json.loads(line) for line in self_written._PROMPTS.read_text(encoding="utf-8").splitlines()]
        for key, least in (("messages", 2), ("text", 1)):
            kinds = Counter(line["kind"] for line in lines if key in line)
            assert all(count >= least for count in kinds.values()), kinds
            work = {"code", "tools", "maths", "role-play", "medicine", "summaries", "letters"}
            assert work <= kinds.keys()
            assert len(kinds.keys() - work) >= 12, "languages"
        code = "\n".join(
            line["messages"][0]["content"] for line in lines if line["kind"] == "code" and "messages" in line
        )
        named = (
            "Python",
            "JavaScript",
            "TypeScript",
            "Rust",
            "Go ",
            "C++",
            "Java ",
            "SQL",
            "bash",
            "Kotlin",
            "Swift",
            "Ruby",
        )
        assert all(name in code for name in named)
        assert sum("tools" in line for line in lines) >= 10
        assert "MIT" in lines[0]["licence"]

    def test_none_is_there_twice(self) -> None:
        documents = [*own_prompts(chats=True).documents, *own_prompts(chats=False).documents]
        said = [(it.text, it.messages) for it in documents]
        assert len(set(said)) == len(said)

    def test_templates_take_them(self) -> None:
        documents = own_prompts(chats=True).documents
        for source in (CHATML, GEMMA, THINKING):
            found = prompts_for(documents, ChatTemplate(source=source))
            assert len(found.prompts) == len(documents)


class TestPromptsFor:
    def test_a_chat_is_asked_as_the_template_asks(self) -> None:
        [prompt] = prompts_for([user("Hi")], ChatTemplate(source=CHATML)).prompts
        assert prompt.rendered.text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        assert prompt.rendered.special

    def test_what_the_assistant_says_at_the_end_is_asked_anew(self) -> None:
        [prompt] = prompts_for([user("Hi", "Hello!")], ChatTemplate(source=CHATML)).prompts
        assert "Hello!" not in prompt.rendered.text
        assert prompt.answered("Good day.").messages == user("Hi", "Good day.").messages

    def test_a_system_message_that_is_refused_goes_to_the_user(self) -> None:
        document = Document(
            place="x:1", messages=(Message(role="system", content="Be brief."), *user("Hi").messages)
        )
        [prompt] = prompts_for([document], ChatTemplate(source=GEMMA)).prompts
        assert "Be brief.\n\nHi" in prompt.rendered.text
        assert [it.role for it in prompt.answered("Yes").messages] == ["user", "assistant"]

    def test_what_a_template_refuses_is_told(self) -> None:
        template = ChatTemplate(source="{{ raise_exception('no') if messages[0].content == 'b' else 'x' }}")
        found = prompts_for([user("a"), user("b")], template)
        assert [it.document.messages[0].content for it in found.prompts] == ["a"]
        assert "no" in str(found.refused[0])

    def test_a_chat_needs_a_template(self) -> None:
        with pytest.raises(TextError, match=r"talk\.jsonl:1: is a chat, and the model has no chat template"):
            prompts_for([user("Hi")], None)

    @pytest.mark.parametrize(
        ("said", "reasoning", "content"),
        [
            ("a thought\n</think>\n\nan answer", "a thought", "an answer"),
            ("<think>\na thought\n</think>\n\nan answer", "a thought", "an answer"),
            ("a thought that wasn't", "a thought that wasn't", ""),
        ],
    )
    def test_thoughts_are_kept_apart(self, said: str, reasoning: str, content: str) -> None:
        [prompt] = prompts_for([user("Hi")], ChatTemplate(source=THINKING)).prompts
        message = prompt.answered(said).messages[-1]
        assert (message.role, message.reasoning, message.content) == ("assistant", reasoning, content)

    def test_what_isn_t_a_thought_isn_t_taken_for_one(self) -> None:
        [prompt] = prompts_for([user("Hi")], ChatTemplate(source=CHATML)).prompts
        assert prompt.answered("a </think> in a text").messages[-1].content == "a </think> in a text"


class TestLoops:
    @pytest.mark.parametrize(
        "tokens",
        [
            [1, 2, 3] + 40 * [7],
            [9, 8] + 12 * [1, 2, 3],
            list(range(50)) + 5 * list(range(100, 140)),
            8 * list(range(5)) + [0, 1],
        ],
        ids=["a word", "three", "a sentence", "cut within"],
    )
    def test_are_found(self, tokens: list[int]) -> None:
        assert ends_in_a_loop(np.array(tokens, np.int32))

    @pytest.mark.parametrize(
        "tokens",
        [
            [],
            [1],
            30 * [7],
            40 * [7] + [8, 9],
            list(range(300)),
            3 * list(range(100, 140)),
            2 * list(range(60)),
        ],
        ids=["nothing", "one", "short", "left again", "none", "three times", "twice"],
    )
    def test_what_is_none(self, tokens: list[int]) -> None:
        assert not ends_in_a_loop(np.array(tokens, np.int32))


class TestWriting:
    def test_until_there_are_enough_tokens(self, start: Start) -> None:
        told: list[Any] = []
        written = start(ByteModel(), hear=told.append)
        assert written.tokens >= 600
        groups = [it for it in told if isinstance(it, Wrote)]
        assert sum(it.tokens for group in groups[:-1] for it in group.answers if it.fate == "kept") < 600
        assert written.engine == "of bytes"
        assert all(it.tokens <= 60 for it in written.answers)

    def test_the_same_seed_writes_the_same_and_another_doesn_t(self, start: Start) -> None:
        found = [start(ByteModel(), journal=name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
        assert found[0].answers == found[1].answers
        assert {it.text for it in found[0].kept}.isdisjoint(it.text for it in found[2].kept)
        assert [it.prompt for it in found[0].answers] != [it.prompt for it in found[2].answers]

    def test_each_round_asks_every_prompt_once(self, start: Start) -> None:
        written = start(ByteModel(), tokens=4000)
        by_round: dict[int, list[int]] = {}
        for it in written.answers:
            by_round.setdefault(it.round, []).append(it.prompt)
        whole = [order for order in by_round.values() if len(order) == 20]
        assert len(whole) >= 2
        assert all(sorted(order) == list(range(20)) for order in whole)
        assert whole[0] != whole[1]
        texts = [it.text for it in written.kept]
        assert len(set(texts)) == len(texts), "a prompt that is asked again is answered otherwise"

    def test_documents_are_prompts_with_their_answers(self, start: Start, tmp_path: Path) -> None:
        written = start(ByteModel(), prompts=PROMPTS[:3], tokens=50)
        for answer, document in zip(written.kept, written.documents, strict=True):
            assert document.text == f"prompt {answer.prompt} {answer.text}"
        (tmp_path / "self.jsonl").write_text(json_lines_of(written.documents), encoding="utf-8")
        read = read_domain(str(tmp_path / "self.jsonl"))
        assert [it.text for it in read.documents] == [it.text for it in written.documents]

    @pytest.mark.parametrize(
        ("said", "fate"),
        [
            (b"", "empty"),
            (b" \n ", "empty"),
            (b"a loop " * 9, "loop"),
            (b"caf\xe9 au lait", "broken"),
            (b"a\0b", "broken"),
            ("ends within é".encode()[:-1], "kept"),
        ],
        ids=["nothing", "space", "loop", "latin-1", "nul", "cut"],
    )
    def test_what_is_left_out(self, start: Start, said: bytes, fate: str) -> None:
        model = ByteModel(lambda prompt: said if prompt == b"prompt 7 " else b"a whole answer to " + prompt)
        written = start(model, tokens=800)
        fates = {it.fate for it in written.answers if it.prompt == 7}
        assert fates == {fate}
        assert {it.fate for it in written.answers if it.prompt != 7} == {"kept"}
        assert written.count("kept") == len(written.documents)
        if fate == "kept":
            assert {it.text for it in written.kept if it.prompt == 7} == {"ends within "}

    def test_a_model_that_says_nothing_ends_in_an_error(self, start: Start) -> None:
        with pytest.raises(EvaluationError, match="answers none is a text"):
            start(ByteModel(lambda prompt: b""))

    def test_answers_get_the_room_that_there_is(self, start: Start) -> None:
        model = ByteModel(n_ctx=40)
        written = start(model, answer_tokens=500, tokens=100)
        assert model.longest == {40}
        assert max(it.tokens for it in written.answers) <= 40 - len("prompt 19 ")
        with pytest.raises(
            EvaluationError, match="a prompt has 10 tokens, and the model was trained with contexts of 12"
        ):
            start(ByteModel(n_ctx=12), journal="other")

    @pytest.mark.parametrize(
        ("fields", "what"),
        [
            ({"temperature": 0.0}, "a temperature of 0"),
            ({"temperature": float("inf")}, "a temperature of inf"),
            ({"min_p": 1.0}, "a min-p of 1"),
            ({"seed": -1}, "-1 is no seed"),
            ({"tokens": 0}, "no tokens"),
            ({"prompts": ()}, "there are no prompts"),
        ],
    )
    def test_settings_that_can_t_be(self, start: Start, fields: dict[str, Any], what: str) -> None:
        with pytest.raises(EvaluationError, match=what):
            start(ByteModel(), **fields)


class TestStopped:
    def stopped(self, start: Start, after: int, **fields: Any) -> None:
        left = [after]

        def hear(what: object) -> None:
            left[0] -= isinstance(what, Wrote)
            if not left[0]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            start(ByteModel(), hear=hear, **fields)

    def test_a_run_goes_on_where_it_was_stopped(self, start: Start) -> None:
        whole = start(ByteModel(), journal="whole", tokens=1500)
        self.stopped(start, 2, tokens=1500)
        model = ByteModel()
        again = start(model, tokens=1500)
        assert again.answers == whole.answers
        assert again.resumed == 32
        assert len(model.asked) == len(whole.answers) - 32

    def test_more_tokens_go_on_from_fewer(self, start: Start) -> None:
        first = start(ByteModel(), tokens=300)
        more = start(ByteModel(), tokens=1500)
        assert more.resumed == len(first.answers)
        assert more.answers == start(ByteModel(), journal="whole", tokens=1500).answers

    @pytest.mark.parametrize(
        "damage", [b"x" * 100_000, b'{"answers": [{"prom', b"\xff\xff\n", b'{"answers": [{"prompt": "x"}]}\n']
    )
    def test_a_line_that_is_damaged_is_written_again(
        self, start: Start, tmp_path: Path, damage: bytes
    ) -> None:
        whole = start(ByteModel(), journal="whole", tokens=1500)
        self.stopped(start, 3, tokens=1500)
        lines = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
        (tmp_path / "journal").write_bytes(b"".join(lines[:2]) + damage)
        again = start(ByteModel(), tokens=1500)
        assert (again.resumed, again.answers) == (16, whole.answers)
        assert start(ByteModel(), tokens=1500).resumed == len(whole.answers)

    @pytest.mark.parametrize(
        "fields",
        [{"seed": 2}, {"min_p": 0.1}, {"temperature": 0.9}, {"answer_tokens": 50}, {"told": {"model": "x"}}],
        ids=str,
    )
    def test_what_decides_the_text_begins_anew(self, start: Start, fields: dict[str, Any]) -> None:
        self.stopped(start, 1)
        assert start(ByteModel(), **fields).resumed == 0

    def test_so_do_other_prompts(self, start: Start) -> None:
        self.stopped(start, 1)
        assert start(ByteModel(), prompts=plain("another ", "and another ")).resumed == 0

    def test_a_journal_that_can_t_be_written(self, start: Start) -> None:
        with pytest.raises(OutputError, match="what was written so far can't be saved"):
            start(ByteModel(), journal="no/such/folder")
