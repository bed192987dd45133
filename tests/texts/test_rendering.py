"""Domains as they are tokenised; one text keeps its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chat_templates import CHATML, GEMMA

from quantrecipe.errors import TextError
from quantrecipe.texts import ChatTemplate, Document, Domain, Message, as_text, read_domain, render

CHAT = Document(
    place="talk.jsonl:1",
    messages=(Message(role="user", content="q"), Message(role="assistant", content="a")),
)
TEXT = Document(place="a.txt", text="plain <bos>")


def domain(*documents: Document) -> Domain:
    return Domain(name="d", weight=None, documents=documents, digest="", files=())


def test_every_document_in_order() -> None:
    rendered = render(domain(TEXT, CHAT), ChatTemplate(source=CHATML))
    assert [(it.place, it.special, bool(it.answers)) for it in rendered] == [
        ("a.txt", False, False),
        ("talk.jsonl:1", True, True),
    ]


def test_a_chat_needs_a_template_and_a_text_does_not() -> None:
    assert render(domain(TEXT), None)[0].text == "plain <bos>"
    with pytest.raises(
        TextError, match=r"talk\.jsonl:1: is a chat, and the model has no chat template"
    ) as caught:
        render(domain(TEXT, CHAT), None)
    assert "--raw" in caught.value.problems[0].remedy


def test_all_failures_are_reported_at_once() -> None:
    bad = [
        Document(place=f"t.jsonl:{n}", messages=(Message(role="system", content="x"),)) for n in range(1, 9)
    ]
    with pytest.raises(TextError) as caught:
        render(domain(CHAT, *bad), ChatTemplate(source=GEMMA))
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 4, 5, None]


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfa\r\n\n", "Weiß".encode()[:-1], b"\xff\xfe\x00"])
def test_a_file_that_is_one_text_keeps_its_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    text = as_text("t", render(read_domain(str(path), raw=data.startswith(b"\xff")), None))
    assert (text.name, text.data, text.special) == ("t", data, False)


def test_documents_after_the_first_keep_the_bos_that_nobody_adds() -> None:
    template = ChatTemplate(source="{{ bos_token }}{{ messages[0].content }}", bos="<s>", adds_bos=True)
    text = as_text("t", render(domain(CHAT, CHAT, TEXT), template))
    assert text.data == b"q\n\n<s>q\n\nplain <bos>"
    assert text.special


def test_what_the_assistant_says_counts_in_a_text_of_chats() -> None:
    template = ChatTemplate(
        source="{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}", bos="<s>", adds_bos=True
    )
    chats = [
        Document(
            place=f"t:{name}",
            messages=(Message(role="user", content="é?"), Message(role="assistant", content=f"{name}!")),
        )
        for name in ("one", "three")
    ]
    text = as_text("t", render(domain(*chats, TEXT), template))
    counted = [text.data[start:end].decode() for start, end in text.answers]
    assert counted == ["one!]", "three!]", "plain <bos>"]  # with what ends them
    assert [text.data[start:].decode()[:5] for start in text.documents] == ["[é?][", "<s>[é", "plain"]
    alone = as_text("t", render(domain(TEXT, TEXT), template))
    assert (alone.answers, len(alone.documents)) == ((), 2)
    assert as_text("t", render(domain(TEXT), template)).documents == ()
