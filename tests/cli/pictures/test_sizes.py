"""Size against loss: what stands in the picture."""

from __future__ import annotations

import re

import pytest

from quantrecipe.cli.pictures.sizes import SizePoint, draw_sizes

pytest.importorskip("matplotlib")


def point(label: str, nbytes: int, kld: float, *texts: str) -> SizePoint:
    return SizePoint(label=label, nbytes=nbytes, kld=kld, error=kld / 9, texts=dict.fromkeys(texts, kld))


def drawn(*points: SizePoint, joined: bool = False) -> str:
    return draw_sizes(points, title="against it", kind="svg", joined=joined).decode()


def test_texts_are_named_where_there_are_several() -> None:
    one = drawn(point("a", 10**9, 0.1, "code"), point("b", 2 * 10**9, 0.01, "code"))
    two = drawn(point("a", 10**9, 0.1, "code", "prose"), point("b", 2 * 10**9, 0.01, "code", "prose"))
    for picture in (one, two):
        assert all(f">{word}</text>" in picture for word in ("a", "b", "against it", "size, GiB"))
    assert [word for word in ("all texts", "code", "prose") if word in one] == []
    assert [word for word in ("all texts", "code", "prose") if word in two] == ["all texts", "code", "prose"]


def test_files_that_are_alike_are_joined_from_size_to_size() -> None:
    points = (point("b", 3 << 30, 0.01), point("a", 1 << 30, 0.1), point("c", 4 << 30, 0.001))
    assert drawn(*points, joined=True) != drawn(*points)
    assert drawn(*points, joined=True) == drawn(*sorted(points, key=lambda it: it.nbytes), joined=True)


def test_a_loss_of_zero_has_a_place_too() -> None:
    """Logarithms have none for it."""
    scales = [
        bool(
            re.search(r"\$\\mathdefault\{10\^|−\d</text>|10\^", drawn(point("a", 1, kld), point("b", 2, 1.0)))
        )
        for kld in (0.001, 0.0)
    ]
    assert scales == [True, False]
