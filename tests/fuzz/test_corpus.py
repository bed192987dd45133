"""Every input of the corpus passes its target: a value or an error of ours, within a second; and what makes more."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from fuzz.answers import TooSlowError, answered
from fuzz.mutate import mutate, read_words
from fuzz.seeds import CORPUS, seeds, stored
from fuzz.targets import TARGETS
from fuzz.watched import Watched

from quantrecipe.errors import ModelError

KEPT = [(name, path) for name in TARGETS for path in stored(name)]
WORDS = read_words((Path(__file__).parent / "words.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "path"), KEPT, ids=[path.relative_to(CORPUS).as_posix() for _, path in KEPT]
)
def test_an_input_that_is_kept_passes(name: str, path: Path) -> None:
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_the_corpus_pass(name: str) -> None:
    """A few of what tests/fuzz/run.py makes millions of."""
    draw, begin = random.Random(0), seeds(name)[:20]
    for _ in range(3):
        TARGETS[name](mutate(draw.choice(begin), draw, begin, WORDS))


def test_each_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


def test_every_target_says_what_it_reads() -> None:
    assert all(target.__doc__ for target in TARGETS.values())


def test_an_error_of_ours_is_an_answer_and_others_are_not() -> None:
    with answered():
        raise ModelError("is damaged", file="a.gguf")
    with pytest.raises(KeyError), answered():
        raise KeyError("a")
    with pytest.raises(AssertionError, match="says nothing"), answered():
        raise ModelError("", file="a.gguf")


def test_an_answer_that_takes_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.5])
    monkeypatch.setattr("fuzz.answers.time.process_time", lambda: next(times))
    with pytest.raises(TooSlowError, match=r"1\.5 s"), answered():
        pass


def test_a_finding_counts_once_and_its_input_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.watched.FINDINGS", tmp_path)
    watched = Watched("broken", lambda data: {}[data])
    for data in (b"one", b"two"):
        watched(data)
    watched.tell()
    state = json.loads((tmp_path / "broken.json").read_text())
    assert state["inputs"] == 2
    (found,) = state["found"]
    assert "KeyError" in found
    assert [path.read_bytes() for path in tmp_path.glob("broken-*")] == [b"one"]


def test_mutations_are_the_same_for_the_same_seed() -> None:
    begin = [b'{"a": [1, {"b": null}]}', b"x\n" + b'{"c": 2}\n' * 3, b"\x00\x01text"]

    def made(seed: int) -> list[bytes]:
        draw = random.Random(seed)
        return [mutate(data, draw, begin, WORDS) for data in begin for _ in range(40)]

    assert made(1) == made(1) != made(2)


def test_json_stays_json_in_most_mutations() -> None:
    draw = random.Random(0)
    whole = 0
    for _ in range(200):
        try:
            json.loads(
                mutate(b"first\n" + b'{"a": [1, {"b": null}]}', draw, [b""], WORDS).partition(b"\n")[2]
            )
            whole += 1
        except ValueError:
            continue
    assert whole > 80
