"""Qwen3-Reranker: a language model that says "yes" or "no" to a query and a document.

Its output in the GGUF is the two rows of the output head for these tokens; llama.cpp takes the softmax over them. The
folder doesn't tell that it is a reranker but by its name, the name of its model, or the title of its README.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import without_head
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, text, texts, u32
from quantrecipe.model.source import layout

__all__ = ["is_reranker", "reranker_of"]

_TITLES = ("qwen3-reranker", "qwen3-vl-reranker")
_ANSWERS = ("yes", "no")
_RANK = 4  # llama.cpp: LLAMA_POOLING_TYPE_RANK

_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""The prompt that the model was trained with, as its README has it."""


def is_reranker(config: Config) -> bool:
    """True where the folder's name, the model's name or the README's title says so."""
    hints = (
        config.folder.absolute().name,
        *(config.find(name) for name in ("_name_or_path", "model_type")),
        *config.classes[:1],
    )
    if any(title in str(hint).lower() for hint in hints for title in _TITLES):
        return True
    readme = config.folder / "README.md"
    if not readme.is_file():
        return False
    written = readme.read_text(encoding="utf-8", errors="replace").lower()
    return any(f"# {title}" in written for title in _TITLES)


def _tokens(config: Config) -> list[int]:
    """The numbers of the tokens "yes" and "no"."""
    file = config.folder / "tokenizer.json"
    vocabulary: Any
    if file.is_file():
        written = read_json_object(file)
        model, added = written.get("model"), written.get("added_tokens")
        vocabulary = (
            dict(model["vocab"]) if isinstance(model, dict) and isinstance(model.get("vocab"), dict) else {}
        )
        for token in added if isinstance(added, list) else ():
            if isinstance(token, dict):
                vocabulary[str(token.get("content"))] = token.get("id")
    else:
        file = config.folder / "vocab.json"
        vocabulary = read_json_object(file)
    numbers = []
    for answer in _ANSWERS:
        number = vocabulary.get(answer) if isinstance(vocabulary, dict) else None
        if type(number) is not int or number < 0:
            what = f"has no token {answer!r}, with which a reranker answers"
            raise ModelError(what, "download the model again", file=file)
        numbers.append(number)
    return numbers


def _cut(it: Found) -> Iterator[Named]:
    """The rows of the answers; an embedding that serves as the output stays besides."""
    numbers = _tokens(it.config)
    if max(numbers) >= it.source.rows:
        it.config.fail(f"says vocab_size: {it.source.rows}, but there is a token {max(numbers)}")
    rows = [layout.rows(it.source, number, number + 1) for number in numbers]
    yield "cls.output.weight", layout.concat(rows)
    if "embed_tokens" in it.name:
        yield it.name, it.source


def _head(it: Found) -> Iterator[Named]:
    """Of the output and the embedding, the one that the model answers with is cut."""
    tied = bool(it.config.flag("tie_word_embeddings"))
    if tied is ("embed_tokens" in it.name):
        yield from _cut(it)
    else:
        yield it.name, it.source


_RULES = (Each(names="{place:model.embed_tokens|embed_tokens|lm_head}.weight", make=_head),)


def reranker_of(arch: Architecture) -> Architecture:
    """The architecture for rerankers of another's class."""

    def pairs(config: Config) -> Pairs:
        ranking = {
            f"{arch.name}.pooling_type": u32(_RANK),
            f"{arch.name}.classifier.output_labels": texts(_ANSWERS),
            "tokenizer.chat_template.rerank": text(_TEMPLATE),
            "tokenizer.chat_templates": texts(["rerank"]),
        }
        return ranking | arch.pairs(config) | ranking

    return replace(
        arch,
        applies=is_reranker,
        layout=replace(
            without_head(arch.layout),
            required=arch.layout.required | {"cls.output.weight": (str(len(_ANSWERS)), "hidden_size")},
        ),
        rules=(*_RULES, *arch.rules),
        pairs=pairs,
        names={**arch.names, "cls.output": "cls.output"},
    )
