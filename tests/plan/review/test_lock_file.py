"""The text of lock files: what is written, what is read back, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import PlanError
from quantrecipe.plan.review import lock_file
from quantrecipe.plan.review.lock import Lock, LockedTensor
from quantrecipe.plan.review.lock_file import is_lock, lock_text, parse_lock, read_lock

LOCK = Lock(
    recipe="mix",
    recipe_digest="r" * 32,
    arch="llama",
    headers="h" * 32,
    metadata={"general.name": "m", "x.count": 3, "x.flag": True, "x.scale": 0.5, "x.list": [1, "a", False]},
    importance="i" * 32,
    importance_file="imatrix.gguf",
    distributions={"quantrecipe": "0.1.0"},
    formats={"Q4_K": 1},
    provenance=True,
    files=((1000, 3), (64, 2)),
    nbytes=1234,
    bits_per_weight=4.5,
    plan_digest="p" * 32,
    tensors={
        "output.weight": LockedTensor(shape=(8, 256), source="BF16", type="Q6_K"),
        "blk.0.attn_v.weight": LockedTensor(shape=(4, 256), source="BF16", type="Q4_K"),
        "blk.1.attn_v.weight": LockedTensor(shape=(4, 256), source="BF16", type="Q4_K"),
        "blk.2.attn_v.weight": LockedTensor(
            shape=(4, 256), source="BF16", type="Q4_0", options={"a b": 1, "c": [True]}, wanted="Q4_K"
        ),
        "blk.10.attn_v.weight": LockedTensor(shape=(4, 256), source="BF16", type="Q4_K"),
    },
)
TEXT = """\
# A plan, frozen by `quantrecipe lock`; `quantrecipe apply --locked` refuses whatever differs.
lock = 1

[recipe]
name = "mix"
digest = "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"

[model]
architecture = "llama"
headers = "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"

[importance]
file = "imatrix.gguf"
digest = "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"

[versions]
quantrecipe = "0.1.0"

[formats]
Q4_K = 1

[output]
plan = "pppppppppppppppppppppppppppppppp"
provenance = true
nbytes = 1234
bits_per_weight = 4.5
files = [
  {data = 1000, tensors = 3},
  {data = 64, tensors = 2},
]

[metadata]
"general.name" = "m"
"x.count" = 3
"x.flag" = true
"x.scale" = 0.5
"x.list" = [1, "a", false]

[tensors]
lines = [
  {name = "blk.*.attn_v.weight", layers = "0-1, 10", shape = [4, 256], from = "BF16", type = "Q4_K"},
  {name = "blk.*.attn_v.weight", layers = "2", shape = [4, 256], from = "BF16", type = "Q4_0", \
options = {"a b" = 1, c = [true]}, fallback_from = "Q4_K"},
  {name = "output.weight", shape = [8, 256], from = "BF16", type = "Q6_K"},
]
"""


def test_the_whole_text() -> None:
    """As it stands in the repositories of those who lock plans."""
    assert lock_text(LOCK) == TEXT


def test_it_is_read_back() -> None:
    assert parse_lock(TEXT) == LOCK
    plain = replace(LOCK, importance=None, importance_file=None, provenance=False)
    assert "[importance]" not in lock_text(plain)
    assert parse_lock(lock_text(plain)) == plain


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ('a"b\\c', r'"a\"b\\c"'),
        ("tab\tline\n", r'"tab\u0009line\u000a"'),
        ("é→𝄞", '"é→𝄞"'),
        ("\u200b\x7f", r'"\u200b\u007f"'),
        ("\U000e0001", r'"\U000e0001"'),
        ("\ufeff", r'"\ufeff"'),
    ],
)
def test_texts_are_quoted_where_an_editor_would_not_show_them(text: str, quoted: str) -> None:
    lock = replace(LOCK, recipe=text)
    assert f"name = {quoted}\n" in lock_text(lock)
    assert parse_lock(lock_text(lock)) == lock


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('[recipe]\nname = "mix"', "[recipe]\nname = 3", "is a damaged lock file: 3 is no text"),
        ("nbytes = 1234", 'nbytes = "x"', "is a damaged lock file: "),
        ("nbytes = 1234", "nbytes = inf", "is a damaged lock file: cannot convert float infinity"),
        ("nbytes = 1234", "nbytes = " + "1" * 5000, "is no lock file: Exceeds the limit"),
        (
            "nbytes = 1234",
            "nbytes" + ".a" * 30_000 + " = 1",
            "is no lock file: a dot stands outside of texts",
        ),
        ('from = "BF16"', 'from = "BF16", fallback_from = 7', "is a damaged lock file: 7 is no text"),
        ('digest = "r', 'digist = "r', "is a damaged lock file: 'digest' is missing"),
        (
            'layers = "2"',
            'layers = "1"',
            "is a damaged lock file: tensor 'blk.1.attn_v.weight' is there twice",
        ),
        ('layers = "2"', 'layers = "20-2000000"', "is a damaged lock file: more than 1,000,000 tensors"),
        ('from = "BF16"', "from = [1]", r"is a damaged lock file: \[1\] is no text"),
        (
            "lock = 1\n",
            "lock = 7\n",
            r"has version 7 of the lock layout \(expected: 1\); use the quantrecipe that",
        ),
        ("lock = 1\n", "", "has version 'none' of the lock layout"),
        ("lock = 1\n", "lock = \n", "is no lock file: "),
        ("[model]", "[model", "is no lock file: "),
    ],
)
def test_what_is_refused(before: str, after: str, said: str) -> None:
    assert before in TEXT
    with pytest.raises(PlanError, match=rf"^mine\.lock: {said}") as error:
        parse_lock(TEXT.replace(before, after, 1), file="mine.lock")
    assert error.value.problems[0].remedy


def test_a_million_tensors_are_read() -> None:
    """One line may stand for many."""
    text = TEXT.replace('layers = "0-1, 10"', 'layers = "20-1029"').replace('layers = "2"', 'layers = "3"')
    assert len(parse_lock(text).tensors) == 1010 + 2


class TestFiles:
    def test_whether_it_is_one(self, tmp_path: Path) -> None:
        path = tmp_path / "a.lock"
        for text, found in ((TEXT, True), (TEXT[1:], False), ("# A plan, frozen", False), ("", False)):
            path.write_text(text, encoding="utf-8")
            assert is_lock(str(path)) is found
        assert not is_lock(str(tmp_path))
        assert not is_lock("no such\0file")
        assert not is_lock("nobody:nothing.lock")

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.lock"
        path.write_text(TEXT, encoding="utf-8")
        assert read_lock(path) == read_lock(str(path)) == LOCK

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "can't be read: there is no such file; `quantrecipe lock` writes lock files"),
            (b"\xff\xfe", "is no lock file: it isn't UTF-8 text; write it anew with `quantrecipe lock`"),
        ],
    )
    def test_no_lock(self, tmp_path: Path, content: bytes | None, said: str) -> None:
        path = tmp_path / "a.lock"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PlanError, match=rf"a\.lock: {said}"):
            read_lock(path)

    def test_a_file_that_is_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.lock"
        path.write_text(TEXT, encoding="utf-8")
        size: Any = path.stat().st_size
        monkeypatch.setattr(lock_file, "_MAX_BYTES", size)
        assert read_lock(path) == LOCK
        monkeypatch.setattr(lock_file, "_MAX_BYTES", size - 1)
        with pytest.raises(PlanError, match="is no lock file: more than 0 MiB"):
            read_lock(path)
