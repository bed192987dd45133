"""Varied strings for tokenizers: code, prose, scripts, whitespace, numbers, emoji, contractions, odd characters."""

from __future__ import annotations

import random
import sysconfig
import unicodedata
from functools import cache
from pathlib import Path

BLOCKS = [
    (0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x400), (0x400, 0x530), (0x590, 0x600), (0x600, 0x700),
    (0x900, 0x980), (0xE00, 0xE80), (0x1100, 0x1200), (0x2000, 0x2070), (0x2190, 0x2300), (0x3040, 0x3100),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1F700),
]  # fmt: skip
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", "\u00a0", "\u2003", "\u3000",
          "\u200b", "\x0b", "\x0c", "\x85", "\u2028"]  # fmt: skip
CONTRACTIONS = ["'s", "'S", "'re", "'RE", "'Ve", "'ll", "'LL", "'d", "'m", "'T", "’s", "don't", "I'M"]
CLUSTERS = ["👩‍👩‍👧", "🇩🇪", "👍🏽", "😀", "❤️", "🏳️‍🌈", "e\u0301", "o\u0308\u0323", "क्षि", "각"]
DIGITS = [" ", ".", ",", "-", "x", "٣", "Ⅷ", "½", "²"]


@cache
def code() -> str:
    """Sources of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("[a-m]*.py")))


def training_text() -> list[str]:
    """Code, words of many scripts, and numbers."""
    rng = random.Random(5)
    texts = [code()[start : start + 20_000] for start in range(0, 1_500_000, 20_000)]
    for low, high in BLOCKS[1:]:
        for _ in range(40):
            words = ("".join(chr(rng.randrange(low, min(high, low + 40))) for _ in range(rng.randrange(1, 7)))
                     for _ in range(30))  # fmt: skip
            texts.append(" ".join(words))
    return texts + [f"{rng.randrange(10**9)} {rng.randrange(10**4)}" for _ in range(3000)]


def varied(count: int, seed: int = 0) -> list[str]:
    """That many strings, the same ones every time."""
    rng = random.Random(seed)
    letters = [char for char in map(chr, range(1, 0x30000)) if unicodedata.category(char)[0] in "LMNPSZ"]
    kinds = [_slice, _script, _spaces, _numbers, _sentences, _mixture]
    made = []
    for number in range(count):
        kind = number % (len(kinds) + 1)
        if kind == len(kinds):
            made.append("".join(rng.choices(letters, k=rng.randrange(1, 16))))
        else:
            made.append(kinds[kind](rng))
    return made


def _slice(rng: random.Random) -> str:
    start = rng.randrange(len(code()) - 200)
    return code()[start : start + rng.randrange(1, 160)]


def _script(rng: random.Random) -> str:
    low, high = rng.choice(BLOCKS)
    return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 24)))


def _spaces(rng: random.Random) -> str:
    pieces = (
        rng.choice(SPACES) if rng.random() < 0.5 else rng.choice("a1.Ж日_(")
        for _ in range(rng.randrange(1, 30))
    )
    return "".join(pieces)


def _numbers(rng: random.Random) -> str:
    pieces = (
        rng.choice([str(rng.randrange(10 ** rng.randrange(1, 12))), *DIGITS])
        for _ in range(rng.randrange(1, 14))
    )
    return "".join(pieces)


def _sentences(rng: random.Random) -> str:
    return "".join(
        rng.choices([*CONTRACTIONS, *CLUSTERS, "he", "They", " ", "  ", "!", "\n"], k=rng.randrange(1, 12))
    )


def _mixture(rng: random.Random) -> str:
    return "".join(
        _script(rng)[: rng.randrange(1, 6)] + rng.choice(SPACES + CONTRACTIONS)
        for _ in range(rng.randrange(1, 8))
    )
