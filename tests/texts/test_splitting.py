"""A document's part depends on its content alone; overlaps are found by runs of words."""

from __future__ import annotations

import pytest

from quantrecipe.texts import Document, Domain, Message, overlap, split


def texts(*contents: str) -> tuple[Document, ...]:
    return tuple(Document(place=f"t:{number}", text=text) for number, text in enumerate(contents))


def domain(*documents: Document) -> Domain:
    return Domain(name="d", weight=None, documents=documents, digest="", files=())


class TestSplit:
    DOCUMENTS = texts(*[f"document {number}" for number in range(2000)])

    def test_shares_hold_on_average(self) -> None:
        # Recorded: another version must not move what was held out.
        assert [len(part) for part in split(self.DOCUMENTS)] == [1607, 200, 193]
        assert [len(part) for part in split(self.DOCUMENTS, (1, 0, 1))][1] == 0
        assert [len(part) for part in split(self.DOCUMENTS, (0, 0, 5))] == [0, 0, 2000]

    def test_a_document_stays_whatever_else_is_there(self) -> None:
        whole = split(self.DOCUMENTS)
        some = split(reversed(self.DOCUMENTS[::7]))
        for part, other in zip(whole, some, strict=True):
            assert set(other) == set(part) & set(self.DOCUMENTS[::7])
        assert [it.place for it in whole[0]] == sorted(
            (it.place for it in whole[0]), key=lambda it: int(it[2:])
        )

    def test_copies_go_together(self) -> None:
        for part in split(texts(*["same"] * 9)):
            assert len(part) in (0, 9)

    def test_chats_are_known_by_all_that_they_say(self) -> None:
        chats = [
            Document(place="c", messages=(Message(role="user", content="same", name=f"n{number}"),))
            for number in range(200)
        ]
        assert all(split(chats, (1, 1, 1)))
        assert split(chats, (1, 1, 1)) == split(chats, (10, 10, 10))

    def test_bytes_that_are_no_utf_8(self) -> None:
        assert sum(map(len, split(texts("\udcff")))) == 1

    @pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1)])
    def test_shares_are_shares(self, shares: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError, match="are no shares"):
            split((), shares)


class TestOverlap:
    WORDS = " ".join(f"w{number}" for number in range(40))

    def test_of_the_same_and_of_nothing(self) -> None:
        assert overlap(domain(*texts(self.WORDS)), domain(*texts(self.WORDS))).share == 1
        found = overlap(domain(*texts(self.WORDS)), domain(*texts(self.WORDS.replace("w", "v"))))
        assert (found.share, found.worst) == (0, ())
        assert overlap(domain(*texts("too short")), domain(*texts("too short"))).share == 0

    def test_it_is_the_share_of_the_second_s(self) -> None:
        new = " ".join(f"n{number}" for number in range(40))
        known = domain(*texts(self.WORDS))
        # 29 runs of twelve words are known. Of the other 29, 11 begin among known words and end among new ones.
        found = overlap(known, domain(*texts(f"{self.WORDS} {new}", new, self.WORDS.upper() + "\n")))
        assert found.share == pytest.approx((29 + 29) / (69 + 29 + 29))
        assert found.worst == (("t:2", 1.0), ("t:0", pytest.approx(29 / 69)))
        assert overlap(domain(*texts(f"{self.WORDS} {new}")), known).share == 1

    def test_runs_do_not_go_over_the_ends_of_messages(self) -> None:
        half = Message(role="user", content=" ".join(self.WORDS.split()[:8]))
        chat = Document(place="c", messages=(half, half))
        assert overlap(domain(*texts(self.WORDS)), domain(chat)).share == 0
        assert overlap(domain(*texts(self.WORDS)), domain(chat), n=8).share == 1

    def test_only_the_worst_are_named(self) -> None:
        found = overlap(domain(*texts(self.WORDS)), domain(*texts(*[self.WORDS] * 9)))
        assert [place for place, _ in found.worst] == ["t:0", "t:1", "t:2", "t:3", "t:4"]
