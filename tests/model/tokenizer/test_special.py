"""Special tokens, against gguf-py's SpecialVocab, which llama.cpp's converter uses."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from gguf.vocab import SpecialVocab
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer.special import special_pairs

NAMES = ["<s>", "</s>", "<sep>", "<cls>", "<x>", "<pad>", "<mask>", "<unk>"]
TOKENS = [{"id": number, "content": name} for number, name in enumerate(NAMES)]
KEYS = {
    "bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "sep": "seperator_token_id",
    "pad": "padding_token_id", "mask": "mask_token_id", "eot": "eot_token_id", "eom": "eom_token_id",
}  # fmt: skip


def ours(
    tokenizer: dict[str, Any],
    config: dict[str, Any] | None,
    model: dict[str, Any],
    vocab_size: int | None = None,
) -> dict[str, Any]:
    pairs = special_pairs(Path("tokenizer.json"), tokenizer, config, model, vocab_size=vocab_size)
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in pairs.items()}


def theirs(
    tokenizer: dict[str, Any],
    config: dict[str, Any] | None,
    model: dict[str, Any],
    vocab_size: int | None = None,
) -> dict[str, Any]:
    logging.getLogger("gguf").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        files = {"tokenizer.json": tokenizer, "tokenizer_config.json": config, "config.json": model}
        for name, content in files.items():
            if content is not None:
                Path(folder, name).write_text(json.dumps(content))
        found = SpecialVocab(folder, n_vocab=vocab_size)
    ids = {KEYS[kind]: number for kind, number in found.special_token_ids.items() if kind in KEYS}
    flags = {f"add_{kind}_token": flag for kind, flag in found.add_special_token.items()}
    return ids | {
        key: flag for key, flag in flags.items() if key in ("add_bos_token", "add_eos_token", "add_sep_token")
    }


names = st.sampled_from(NAMES)
token = names | st.builds(lambda name: {"content": name, "lstrip": False}, names)
piece = st.builds(lambda name: {"SpecialToken": {"id": name, "type_id": 0}}, names) | st.sampled_from(
    [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
)
A, B = {"Sequence": {"id": "A"}}, {"Sequence": {"id": "B"}}
template = st.builds(
    lambda single, pair: {"type": "TemplateProcessing", "single": single, "pair": pair},
    st.lists(piece, max_size=4),
    st.lists(piece, max_size=6)
    | st.builds(lambda a, b, c: [*a, A, *b, B, *c], *(st.lists(piece, max_size=2) for _ in range(3))),
)
roberta = st.builds(
    lambda cls, sep: {"type": "RobertaProcessing", "cls": [cls, 0], "sep": [sep, 2]}, names, names
)
step = template | roberta | st.just({"type": "Other"})
processor = step | st.builds(
    lambda steps: {"type": "Sequence", "processors": steps}, st.lists(step, max_size=3)
)
config = st.fixed_dictionaries(
    {
        "bos_token": names,
        "cls_token": names,
    },  # where these are missing, the converter does more than SpecialVocab
    optional={
        **{f"{kind}_token": token for kind in ("eos", "unk", "sep", "pad", "mask")},
    },
)
model = st.dictionaries(
    st.sampled_from(
        [f"{kind}_token_id" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "eot")]
    ),
    st.integers(0, 12) | st.none() | st.lists(st.integers(0, 9), max_size=2),
)


@settings(max_examples=examples(300), deadline=None)
@given(processor=processor | st.none(), config=config, model=model, vocab_size=st.none() | st.integers(0, 10))
def test_any_post_processor(processor: Any, config: Any, model: Any, vocab_size: int | None) -> None:
    tokenizer = {"added_tokens": TOKENS, "post_processor": processor}
    assert ours(tokenizer, dict(config), model, vocab_size) == theirs(tokenizer, config, model, vocab_size)


@settings(max_examples=examples(100), deadline=None)
@given(single=st.lists(piece, max_size=4), pair=st.lists(piece, max_size=6), model=model)
def test_without_tokenizer_config(single: Any, pair: Any, model: Any) -> None:
    """What the template calls them is all that is known; ids come from config.json alone."""
    step = {"type": "TemplateProcessing", "single": single, "pair": pair}
    tokenizer = {"added_tokens": TOKENS, "post_processor": step}
    assert ours(tokenizer, None, model) == theirs(tokenizer, None, model)


@pytest.mark.parametrize("flag", [True, False, None, 1])
@pytest.mark.parametrize("kind", ["bos", "eos", "sep", "unk"])
def test_flags_of_tokenizer_config(kind: str, flag: Any) -> None:
    """They count where the post-processor is silent; only true and false are flags."""
    config = {f"add_{kind}_token": flag}
    said = {f"add_{kind}_token": flag} if isinstance(flag, bool) and kind != "unk" else {}
    assert ours({}, config, {}) == said
    roberta = {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]}
    found = ours({"post_processor": roberta}, config, {})
    assert found == {"add_bos_token": True, "add_eos_token": True, "add_sep_token": True}


def test_byte_level_alone_adds_nothing() -> None:
    """Newer converters say so."""
    found = ours({"post_processor": {"type": "ByteLevel"}}, {}, {})
    assert found == {"add_bos_token": False, "add_eos_token": False}
    both = {
        "processors": [
            {"type": "ByteLevel"},
            {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]},
        ]
    }
    assert ours({"post_processor": both}, {}, {})["add_bos_token"] is True


@pytest.mark.parametrize(
    ("config", "adds", "bos"),
    [
        ({"bos_token": "<s>"}, True, 0),  # <x> becomes CLS, which nothing is
        ({"cls_token": "<cls>"}, False, 3),
        ({"bos_token": "<s>", "cls_token": "<cls>"}, False, 0),
        ({"bos_token": "<x>"}, True, 4),
        ({}, True, 4),
    ],
)
def test_a_first_token_of_another_name(config: dict[str, Any], adds: bool, bos: int) -> None:
    """It counts as BOS if that, or CLS, is its name, or if one of these has none."""
    step = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>"}}, A], "pair": []}
    found = ours({"added_tokens": TOKENS, "post_processor": step}, config, {})
    assert (found["add_bos_token"], found["bos_token_id"]) == (adds, bos)


@pytest.mark.parametrize("number", [2**31, 2**40])
def test_ids_that_llama_cpp_can_t_count(number: int) -> None:
    assert ours({}, {}, {"bos_token_id": 2**31 - 1}) == {"bos_token_id": 2**31 - 1}
    with pytest.raises(
        ModelError, match=rf"^config\.json: says bos_token_id: {number} \(expected: below 2147483648\)"
    ):
        ours({}, {}, {"bos_token_id": number})
    with pytest.raises(ModelError, match=r"^tokenizer\.json: says bos_token_id"):
        ours({"added_tokens": [{"id": number, "content": "<s>"}]}, {"bos_token": "<s>"}, {})


@pytest.mark.parametrize("number", [-1, True, "3", 3.0, None])
def test_ids_that_are_none(number: Any) -> None:
    assert ours({}, {}, {"bos_token_id": number}) == {}


def test_the_first_of_two_ids_counts() -> None:
    tokens = [{"id": 5, "content": "<s>"}, {"id": 6, "content": "<s>"}]
    assert ours({"added_tokens": tokens}, {"bos_token": "<s>"}, {"bos_token_id": 7}) == {"bos_token_id": 5}
