"""What is said before work begins."""

from __future__ import annotations

from collections.abc import Mapping

from quantrecipe.texts import Caution, Document, Domain, Message, Rendered, cautions, losses

CHAT = Document(place="c", messages=(Message(role="user", content="q"),))
TEXT = Document(place="t", text="a")


def domain(
    name: str, *documents: Document, weight: float | None = None, left_out: Mapping[str, str] | None = None
) -> Domain:
    return Domain(name=name, weight=weight, documents=documents, digest="", files=(), left_out=left_out or {})


def test_few_samples() -> None:
    assert cautions([domain("d", *[CHAT] * 50)]) == []
    assert cautions([domain("d", TEXT)]) == []  # its chunks are counted where it is cut
    (few,) = cautions([domain("d", *[CHAT] * 49)])
    assert few == Caution(
        code="samples",
        what="d has 49 samples, and chance decides much in so few",
        remedy="50 and more are usual",
    )
    assert [it.what[:14] for it in cautions([domain("d", CHAT)])] == ["d has 1 sample"]


def test_several_domains_without_weights() -> None:
    assert cautions([domain("a", TEXT, weight=1), domain("b", TEXT, weight=2)]) == []
    (none,) = cautions([domain("a", TEXT), domain("b", TEXT)])
    assert (none.code, none.what) == ("weights", "a, b have no weights, so that each counts by its length")
    assert none.remedy == "say them: --text a=PATH:1"
    (some,) = cautions([domain("a", TEXT, weight=1), domain("b", TEXT)])
    assert some.what == "b has no weight, and a has one"


def test_texts_in_other_encodings_and_no_pictures() -> None:
    left_out = {
        "src/a.png": "is a picture",
        "src/b.txt": "isn't text in UTF-8: byte 2 is 0xef",
        "src/c": "empty",
    }
    (caution,) = cautions([domain("src", TEXT, left_out=left_out)])
    assert (caution.code, caution.what) == (
        "left-out",
        "1 file wasn't read of src: b.txt (isn't text in UTF-8: byte 2 is 0xef)",
    )
    left_out["src/d.txt"] = "is text in UTF-16"
    assert cautions([domain("src", TEXT, left_out=left_out)])[0].what.startswith(
        "2 files weren't read of src: b.txt"
    )


def test_what_a_template_leaves_out_is_counted() -> None:
    def rendered(*lost: str, special: bool = True) -> Rendered:
        return Rendered(text="", special=special, answers=(), place="", lost=lost)

    (caution,) = losses(
        "d", [rendered("thinking", "calls of tools"), rendered("thinking"), rendered(special=False)]
    )
    assert caution.code == "template"
    assert caution.what == (
        "of d, the model's chat template leaves out: thinking (in 2 of 2 chats), calls of tools (in 1 of 2 chats)"
    )
    assert losses("d", [rendered()]) == []
