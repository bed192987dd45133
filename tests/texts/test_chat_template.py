"""Chats as a model's template writes them: what it is given, what the assistant says, BOS, and what fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.chat_templates import (
    CHATML,
    GEMMA,
    LLAMA3,
    MISTRAL,
    TEMPLATES,
    TEXT_ARGUMENTS,
    THINKING,
)
from support.distributions import run_python
from support.huggingface import DATA, write_model

from quantrecipe.errors import TextError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.texts import ChatTemplate, Document, Message, Rendered, chat_template

USER, ASSISTANT = Message(role="user", content="What is 2+2?"), Message(role="assistant", content="It is 4.")
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "é": "<4>"}}}


def chat(*messages: Message, place: str = "talk.jsonl:3", tools: tuple[object, ...] = ()) -> Document:
    return Document(place=place, messages=messages, tools=tools)


def template(source: str, **facts: bool) -> ChatTemplate:
    return ChatTemplate(source=source, bos="<s>", eos="</s>", **facts)


def said(rendered: Rendered) -> list[str]:
    return [rendered.data[start:end].decode() for start, end in rendered.answers]


WRITTEN = {
    "chatml": (
        "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\nIt is 4.<|im_end|>\n",
        ["It is 4.<|im_end|>\n"],
    ),
    "thinking": (
        "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nIt is 4.<|im_end|>\n",
        ["\n</think>\n\nIt is 4.<|im_end|>\n"],
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is 2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nIt is 4.<|eot_id|>",
        ["It is 4.<|eot_id|>"],
    ),
    "mistral": ("<s>[INST] What is 2+2? [/INST] It is 4.</s>", ["It is 4.</s>"]),
    "gemma": (
        "<s><start_of_turn>user\nWhat is 2+2?<end_of_turn>\n<start_of_turn>model\nIt is 4.<end_of_turn>\n",
        ["It is 4.<end_of_turn>\n"],
    ),
    "generation": ("<|user|>\nWhat is 2+2?<|end|>\n<|assistant|>\nIt is 4.<|end|>\n", ["It is 4.<|end|>"]),
    "eos-last": ("user: What is 2+2?\nassistant: It is 4.</s>", ["It is 4."]),
}


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_families(family: str) -> None:
    text, answers = WRITTEN[family]
    rendered = template(TEMPLATES[family]).render(chat(USER, ASSISTANT))
    assert rendered.text == text
    assert said(rendered) == answers
    assert (rendered.special, rendered.place, rendered.bos) == (True, "talk.jsonl:3", "")


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_answers_of_several_turns(family: str) -> None:
    contents = ["Ünï ✓", "4", "4", "user", "What? 😀", "It is 4."]
    roles = ("user", "assistant")
    messages = [Message(role=roles[n % 2], content=content) for n, content in enumerate(contents)]
    rendered = template(TEMPLATES[family]).render(chat(*messages))
    assert len(rendered.answers) == 3
    assert all(answer in part for answer, part in zip(contents[1::2], said(rendered), strict=True))
    rest = rendered.data
    for start, end in reversed(rendered.answers):
        rest = rest[:start] + rest[end:]
    assert "Ünï ✓" in rest.decode()
    assert "What? 😀" in rest.decode()
    assert rest.decode().count("It is") == 0


def test_a_text_is_handed_through() -> None:
    document = Document(place="a", text="<|im_start|>", answers=((0, 2),))
    rendered = template("{{ broken").render(document)
    assert rendered == Rendered(text="<|im_start|>", special=False, answers=((0, 2),), place="a")


class TestThinking:
    THOUGHT = replace(ASSISTANT, reasoning="Add them.")

    def test_it_is_kept_where_the_template_has_a_place_for_it(self) -> None:
        rendered = template(THINKING).render(chat(USER, self.THOUGHT))
        assert "<think>\nAdd them.\n</think>\n\nIt is 4.<|im_end|>" in rendered.text
        assert said(rendered) == ["Add them.\n</think>\n\nIt is 4.<|im_end|>\n"]

    def test_that_of_earlier_turns_is_kept_by_a_switch(self) -> None:
        messages = (USER, self.THOUGHT, USER, self.THOUGHT)
        assert template(THINKING).render(chat(*messages)).text.count("Add them.") == 2
        rendered = template(THINKING.replace("preserve_thinking", "false")).render(chat(*messages))
        assert rendered.text.count("Add them.") == 1
        assert said(rendered) == ["It is 4.<|im_end|>\n", "Add them.\n</think>\n\nIt is 4.<|im_end|>\n"]

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
    def test_it_has_the_name_that_the_template_looks_for(self, name: str) -> None:
        for source in (
            f"{{{{ messages[1].{name} }}}}",
            f"{{{{ messages[1]['{name}'] }}}}|{{{{ enable_thinking }}}}",
        ):
            assert template(source).render(chat(USER, self.THOUGHT)).text.startswith("Add them.")

    def test_it_stands_before_the_answer_where_there_is_no_place(self) -> None:
        rendered = template(CHATML).render(chat(USER, self.THOUGHT))
        assert "assistant\n<think>\nAdd them.\n</think>\n\nIt is 4.<|im_end|>" in rendered.text


class TestTools:
    MESSAGES = (
        USER,
        Message(role="assistant", content="", tool_calls=(CALL,)),
        Message(role="tool", content="4", name="add", tool_call_id="c1"),
        ASSISTANT,
    )

    def test_calls_are_what_the_assistant_says(self) -> None:
        rendered = template(CHATML).render(chat(*self.MESSAGES, tools=({"type": "function"},)))
        assert rendered.text.startswith('<|im_start|>system\n{"type": "function"}\n<|im_end|>')
        call = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "é": "<4>"}}\n</tool_call>'
        assert said(rendered) == [f"{call}<|im_end|>\n", "It is 4.<|im_end|>\n"]

    def test_templates_that_take_arguments_as_a_text_get_one(self) -> None:
        rendered = template(TEXT_ARGUMENTS).render(chat(*self.MESSAGES))
        assert 'add({"a": 2, "é": "<4>"})' in rendered.text

    def test_templates_that_call_only_without_content_get_none(self) -> None:
        source = (
            "{% for m in messages %}{% if m.tool_calls and m.content is none %}{{ m.tool_calls[0].function.name }}"
            "({{ m.tool_calls[0].function.arguments }}){% else %}{{ m.content }}{% endif %};{% endfor %}"
        )
        rendered = template(source).render(chat(*self.MESSAGES))
        assert rendered.text == "What is 2+2?;add({'a': 2, 'é': '<4>'});4;It is 4.;"
        assert rendered.lost == ()

    def test_calls_that_no_spelling_brings_out_are_lost(self) -> None:
        source = "{% for m in messages %}{{ m.content }};{% endfor %}{{ tools | tojson }}"
        rendered = template(source).render(chat(*self.MESSAGES, tools=(CALL,)))
        assert rendered.text.startswith("What is 2+2?;;4;It is 4.;")
        assert rendered.lost == ("calls of tools",)

    def test_names_and_ids_are_given_where_there_are_any(self) -> None:
        source = "{% for m in messages %}{{ m.name }}|{{ m.tool_call_id }}|{{ 'name' in m }};{% endfor %}"
        assert template(source).render(chat(USER, self.MESSAGES[2])).text == "||False;add|c1|True;"


class TestTokensThatTheTokeniserAdds:
    def test_bos_is_taken_off_where_it_is_added(self) -> None:
        rendered = template(GEMMA, adds_bos=True).render(chat(USER, ASSISTANT))
        assert (rendered.text[:20], rendered.bos) == ("<start_of_turn>user\n", "<s>")
        assert said(rendered) == ["It is 4.<end_of_turn>\n"]

    def test_eos_is_too(self) -> None:
        rendered = template(MISTRAL, adds_bos=True, adds_eos=True).render(
            chat(USER, ASSISTANT, USER, ASSISTANT)
        )
        assert rendered.text == "[INST] What is 2+2? [/INST] It is 4.</s>[INST] What is 2+2? [/INST] It is 4."
        assert said(rendered) == ["It is 4.</s>", "It is 4."]

    def test_a_template_without_bos_has_none_taken_off(self) -> None:
        rendered = template(CHATML, adds_bos=True).render(chat(USER, ASSISTANT))
        assert (rendered.text[:12], rendered.bos) == ("<|im_start|>", "")


@pytest.mark.parametrize(
    ("source", "messages", "what"),
    [
        (
            GEMMA,
            (Message(role="system", content="x"), USER),
            "of m.gguf fails at its line 2: System role not supported",
        ),
        (MISTRAL, (USER, USER), "fails at its line 4: roles must alternate"),
        ("{{ messages[7].content }}", (USER,), "fails at its line 1: list object has no element 7"),
        ("{% for %}", (USER,), "fails at its line 1: isn't valid Jinja"),
    ],
)
def test_a_failure_names_the_template_s_line_and_the_chat(
    source: str, messages: tuple[Message, ...], what: str
) -> None:
    with pytest.raises(TextError) as caught:
        replace(template(source), origin="m.gguf").render(chat(*messages))
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("talk.jsonl", 3)
    assert what in problem.what
    assert problem.remedy


def test_a_chat_that_begins_with_an_answer() -> None:
    rendered = template(LLAMA3).render(chat(ASSISTANT, USER))
    assert said(rendered) == ["It is 4."]  # Llama 3's doesn't write a chat without messages
    assert said(template("{{ messages[0].content }}").render(chat(ASSISTANT))) == ["It is 4."]


def test_an_answer_that_the_template_leaves_out_is_nowhere() -> None:
    rendered = template("{{ messages[0].content }}{% if add_generation_prompt %}:{% endif %}").render(
        chat(USER, ASSISTANT)
    )
    assert (rendered.text, rendered.answers) == ("What is 2+2?", ())


def test_what_a_template_leaves_out_is_said() -> None:
    system, thought = Message(role="system", content="Be brief."), replace(ASSISTANT, reasoning="Add them.")
    source = (
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{{ m.reasoning and '' }}{% endfor %}"
    )
    assert template(source).render(chat(system, USER, thought, USER, thought)).lost == (
        "messages of the system",
        "thinking",
    )
    within = replace(ASSISTANT, content="<think>Add.</think>\n\nIt is 4.")
    assert template("{{ messages[0].content.split('</think>')[-1] }}").render(chat(within)).lost == ()
    assert template(CHATML).render(chat(system, USER, thought)).lost == ()


def test_digests_tell_templates_apart() -> None:
    one = template(CHATML)
    assert one.digest == replace(one, origin="elsewhere").digest
    others = [
        replace(one, source="x"),
        replace(one, bos="x"),
        replace(one, eos="x"),
        replace(one, adds_bos=True),
    ]
    assert len({one.digest, *(it.digest for it in others), replace(one, adds_eos=True).digest}) == 6


class TestOfAModel:
    def model(self, **values: GGUFValue) -> Model:
        metadata = {
            "tokenizer.chat_template": GGUFValue.of(ValueType.STRING, "x"),
            "tokenizer.ggml.tokens": GGUFValue.array(ValueType.STRING, ["<unk>", "<s>", "</s>", "<bos>"]),
            **{f"tokenizer.ggml.{key}": value for key, value in values.items()},
        }
        return Model(
            path=Path("folder/m.gguf"),
            container="gguf",
            arch="llama",
            tensors=(),
            metadata=metadata,
            sources={},
        )

    def facts(self, **values: GGUFValue) -> tuple[str, str, bool, bool]:
        found = chat_template(self.model(**values))
        assert found is not None
        return found.bos, found.eos, found.adds_bos, found.adds_eos

    def test_what_the_file_says(self) -> None:
        number, yes = GGUFValue.of(ValueType.UINT32, 3), GGUFValue.of(ValueType.BOOL, True)
        no = GGUFValue.of(ValueType.BOOL, False)
        assert self.facts(bos_token_id=number, add_bos_token=yes, add_eos_token=yes) == (
            "<bos>",
            "",
            True,
            True,
        )
        sentencepiece = GGUFValue.of(ValueType.STRING, "llama")
        assert self.facts(model=sentencepiece, add_bos_token=no) == ("<s>", "</s>", False, False)

    def test_what_llama_cpp_takes_where_it_does_not(self) -> None:
        def named(text: str) -> GGUFValue:
            return GGUFValue.of(ValueType.STRING, text)

        assert self.facts() == self.facts(pre=named("llama-bpe")) == ("", "", False, False)
        assert self.facts(model=named("llama")) == ("<s>", "</s>", True, False)
        assert self.facts(model=named("gpt2"), pre=named("qwen2")) == ("", "", False, False)
        assert self.facts(model=named("gpt2"), pre=named("llama-bpe")) == ("", "", True, False)

    def test_an_id_that_is_no_token_has_no_text(self) -> None:
        for number in (GGUFValue.of(ValueType.INT32, -1), GGUFValue.of(ValueType.UINT32, 4)):
            assert self.facts(bos_token_id=number)[0] == ""

    def test_no_template(self) -> None:
        assert chat_template(replace(self.model(), metadata={})) is None

    def test_of_hugging_face_folders(self, tmp_path: Path) -> None:
        found = {}
        for path in sorted(DATA.glob("*/tokenizer_config.json")):
            model = open_model(write_model(path.parent.name, tmp_path))
            if (it := chat_template(model)) is not None:
                found[path.parent.name] = it.render(chat(USER, ASSISTANT))
        assert found
        for rendered in found.values():
            assert "It is 4." in rendered.text
            assert all("It is 4." in part for part in said(rendered))
            assert rendered.answers


def test_jinja_is_loaded_for_chats_only() -> None:
    loaded = run_python(
        """
        import json, sys
        from quantrecipe.texts import ChatTemplate, Document
        ChatTemplate(source="x").render(Document(place="a", text="b"))
        print(json.dumps([name for name in ("jinja2", "pyarrow", "numpy") if name in sys.modules]))
        """
    )
    assert loaded == []
