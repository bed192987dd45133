"""Verdicts in words: each of them, and figures with as many digits as they are sure of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quantrecipe.cli.eval.verdicts import change_text, range_text, verdict_text
from quantrecipe.evaluate import Interval, Noise, Pair

NOISE = Noise(positions=9, mean=4.7e-9, largest=1e-8)


def interval(value: float, half: float = 0.01) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


PAIR = Pair(
    kld_mean=interval(0.2),
    kld_99=interval(0.3),
    kld_999=Interval(value=0.4),
    perplexity=interval(0.004, 0.001),
    top1=interval(-0.012, 0.002),
    verdict="worse",
    text_needed=None,
)


def words(**changes: object) -> str:
    return "; ".join(verdict_text(replace(PAIR, **changes), "A", NOISE))  # type: ignore[arg-type]  # by name


def test_all_that_a_verdict_rests_on() -> None:
    assert words() == (
        "don't go without A; mean KL divergence +20.0 % (+19.0 to +21.0), more than 10 % more; "
        "its 99 % +30.0 % (+29.0 to +31.0); perplexity +0.4 % (+0.3 to +0.5); "
        "top-1 agreement -1.20 points (-1.40 to -1.00)"
    )


@pytest.mark.parametrize(
    ("verdict", "advice", "limit"),
    [
        ("better", "don't go without it", "more than 10 % less"),
        ("slightly better", "a small gain", "between 3 and 10 % less"),
        ("same", "not worth it", "less than 3 % either way"),
        ("slightly worse", "a small loss", "between 3 and 10 % more"),
        ("worse", "don't go without A", "more than 10 % more"),
    ],
)
def test_each_verdict(verdict: str, advice: str, limit: str) -> None:
    said = words(verdict=verdict)
    assert said.startswith(f"{advice}; mean KL divergence ")
    assert f"), {limit}; " in said


def test_what_has_no_interval_isn_t_told() -> None:
    assert "99 %" not in words(kld_99=Interval(value=0.3))


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (
            interval(0.02, 0.05),
            "can't be told apart on this much text; mean KL divergence +2.0 % (-3.0 to +7.0)",
        ),
        (interval(0.02, 0.015), "worse, but whether it is worth it can't be told on this much text"),
        (interval(-0.1, 0.05), "better, but whether it is worth it can't be told on this much text"),
        (Interval(value=0.5), "can't be told apart on this much text; mean KL divergence +50.0 %; "),
    ],
)
def test_too_little_text(change: Interval, start: str) -> None:
    assert words(verdict="unknown", kld_mean=change, text_needed=4.4).startswith(start)


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (4.4, "about 4 times as much would be needed"),
        (1.26, "about 1.3 times as much would be needed"),
        (None, "more text would hardly change that"),
    ],
)
def test_how_much_text(needed: float | None, said: str) -> None:
    assert words(verdict="unknown", text_needed=needed).endswith(f"; {said}")


def test_noise() -> None:
    assert words(verdict="noise") == (
        "no difference that counts; mean KL divergence +20.0 % (+19.0 to +21.0), "
        "which is less than the engine's own noise (4.7e-09)"
    )


def test_changes() -> None:
    assert change_text(interval(0.123)) == "+12.3 % (+11.3 to +13.3)"
    assert change_text(interval(18.7, 0.2)) == "19.7 × (19.5 to 19.9)"
    assert change_text(Interval(value=-0.5)) == "-50.0 %"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.00273, 0.00292, "0.00273 to 0.00292"),
        (29.012, 31.456, "29.0 to 31.5"),
        (99.1, 99.13, "99.100 to 99.130"),
        (1234.0, 1999.0, "1234 to 1999"),
        (100.0, 100.0, "100"),
        (0.0, 1e-9, "0.00000000 to 0.00000000"),
    ],
)
def test_ranges_have_the_digits_that_they_are_wide(low: float, high: float, said: str) -> None:
    assert range_text(Interval(value=low, low=low, high=high)) == said
    assert range_text(Interval(value=low)) == ""
