"""What benchmarks/quality.py measures of a mix besides KL divergence at 512 tokens.

* Continuations: at places all over the validation texts, for how many tokens it goes on as the BF16 model does.
* Questions: the next word at places where a sentence or a line ends with it, as LAMBADA asks. They are made from the
  validation texts, so that no data set is needed; models too small for lists of choices can answer them.
* Long contexts: KL divergence over as many tokens as the model was trained with, or 4,096.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantrecipe.engine import Session
from quantrecipe.evaluate import Reference, Text, make_reference, read_reference, score, summarise
from quantrecipe.evaluate.continuations import (
    Continuations,
    continuation_figures,
    continue_texts,
    places_of,
)
from quantrecipe.evaluate.questions import Asked, Question, ask, question_figures, read_questions
from quantrecipe.plain_data import plain

__all__ = ["Closer", "Looked", "write_questions"]

PLACES, QUESTIONS = 80, 400
FAR = 4096
"""Tokens of a long context, at most."""
BEFORE = 600
"""Characters that a question begins with."""
ANSWER_TOKENS = 8
SEED = 17
_LAST_WORD = re.compile(r"(?<=\s)(\w{3,})(?=[.;:,)]*\n)")


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What one file did. far: its figures over long chunks"""

    continued: Continuations
    asked: Asked
    far: Mapping[str, Any]


def write_questions(texts: Iterable[Text], out: Path, count: int = QUESTIONS) -> None:
    """Questions for the last word of lines, from all over the texts, the same each time."""
    lines = []
    draw = np.random.default_rng(SEED)
    texts = list(texts)
    for text in texts:
        said = text.data.decode("utf-8", "replace")
        found = [match for match in _LAST_WORD.finditer(said) if match.start() > BEFORE]
        some = draw.permutation(len(found))[: count // len(texts)]
        for match in (found[number] for number in sorted(some.tolist())):
            # A tokenizer joins a blank with the word that follows: the prompt ends before it.
            prompt = said[match.start() - BEFORE : match.start()].rstrip()
            lines.append(json.dumps({"prompt": prompt, "pattern": rf"^\s*{re.escape(match[1])}\b"}))
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Closer:
    """Looks at files of one model, beside its BF16 file.

    reference: of the validation texts, whose chunks are gone on with
    context:   how many tokens the model was trained with
    work:      where what was found is kept
    """

    def __init__(
        self,
        bf16: Path,
        reference: Reference,
        texts: Sequence[Text],
        *,
        context: int,
        work: Path,
        threads: int | None,
    ) -> None:
        self.reference, self.work, self.threads = reference, work, threads
        work.mkdir(parents=True, exist_ok=True)
        made = work / "questions.jsonl"
        if not made.exists():
            write_questions(texts, made)
        self.questions: tuple[Question, ...] = read_questions(made)
        context = min(context, FAR)
        far = work / "far.reference"
        kept = work / "BF16.json"
        if not kept.exists() or not far.exists():
            chunks = max(1, reference.chunks * reference.n_ctx // context // len(texts))
            with Session(bf16, threads=threads) as session:
                make_reference(session, texts, far, n_ctx=context, chunks=chunks)
                self._keep(kept, *self._said(session), {})
        self.far = read_reference(far)
        self.first = self._read(kept)

    def kept(self, key: str) -> Looked | None:
        """What a file did that was looked at before. key: of what it is"""
        path = self.work / f"{key}.json"
        return self._read(path) if path.exists() else None

    def look(self, file: Path, key: str) -> Looked:
        """What a file does; it is kept."""
        path = self.work / f"{key}.json"
        with Session(file, threads=self.threads) as session:
            self._keep(path, *self._said(session), plain(summarise(score(session, self.far))))
        return self._read(path)

    def figures(self, one: Looked, beside: Looked | None = None) -> dict[str, Any]:
        """Of a file, and beside another one."""
        continued = continuation_figures(
            one.continued, self.first.continued, None if beside is None else beside.continued
        )
        asked = question_figures(
            one.asked, self.questions, self.first.asked, None if beside is None else beside.asked
        )
        return {
            "continuations": plain(continued),
            "places": len(self.first.continued.places),
            "questions": plain(asked),
            "reference_right": sum(self.first.asked.right) / len(self.questions),
            "far": one.far,
            "far_context": self.far.n_ctx,
        }

    def _said(self, session: Session) -> tuple[Continuations, Asked]:
        places = places_of(self.reference, PLACES)
        return (
            continue_texts(session, self.reference, places),
            ask(session, self.questions, source=self.work / "questions.jsonl", most=ANSWER_TOKENS),
        )

    @staticmethod
    def _keep(path: Path, continued: Continuations, asked: Asked, far: Mapping[str, Any]) -> None:
        part = path.with_suffix(".part")
        value = {
            "places": continued.places,
            "tokens": continued.tokens,
            "said": asked.said,
            "right": asked.right,
            "far": far,
        }
        part.write_text(json.dumps(value), encoding="utf-8")
        part.replace(path)

    @staticmethod
    def _read(path: Path) -> Looked:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Looked(
            continued=Continuations(
                places=tuple(value["places"]), tokens=tuple(tuple(it) for it in value["tokens"])
            ),
            asked=Asked(said=tuple(value["said"]), right=tuple(value["right"])),
            far=value["far"],
        )
