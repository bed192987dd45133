"""Special tokens: their ids, and which of them the tokenizer adds by itself.

What is added stands in the post-processor of tokenizer.json, what they are called in tokenizer_config.json, and
config.json has the last word on ids that neither gives. The rules, oddities included, are those of llama.cpp's
converter: a sequence's first special token counts as BOS if that, or CLS, is its name; and where the last one
isn't the EOS of tokenizer_config.json, it becomes that, and the EOS becomes EOT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.pairs import Pairs, boolean, u32

__all__ = ["ID_KEYS", "special_pairs"]

_TYPES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
ID_KEYS = {
    "bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "sep": "seperator_token_id",
    "pad": "padding_token_id", "mask": "mask_token_id", "eot": "eot_token_id", "eom": "eom_token_id",
}  # fmt: skip
"""By the name in tokenizer_config.json; "seperator" is how llama.cpp spells it."""
_MAX_ID = 2**31  # llama.cpp: llama_token is an int32_t
_ADD_KEYS = {"bos": "add_bos_token", "eos": "add_eos_token", "sep": "add_sep_token"}


class _Names:
    """Names of the special tokens while the post-processor is read, and what is found to be added."""

    def __init__(self, config: Mapping[str, Any] | None, tokenizer: Mapping[str, Any]) -> None:
        self.known = config is not None
        self.of: dict[str, Any] = {}
        if config is not None:
            self.of = {
                key.removesuffix("_token"): value for key, value in config.items() if key.endswith("_token")
            }
        if self.known and tokenizer:
            self.of["bos"] = self.of.get("bos") or self.of.get("cls")
            self.of["eos"] = self.of.get("eos") or self.of.get("sep")
        self.types: tuple[str, ...] = _TYPES
        self.adds: dict[str, bool] = {}


def special_pairs(
    path: Path,
    tokenizer: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    model_config: Mapping[str, Any],
    *,
    vocab_size: int | None = None,
) -> Pairs:
    """The ids (below `vocab_size`, if one is given), then the flags."""
    names = _Names(config, tokenizer)
    processor = tokenizer.get("post_processor")
    try:
        if processor:
            for step in processor.get("processors", [processor]):
                _read_step(names, step)
        ids = _ids(path, names, tokenizer, model_config, vocab_size)
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        what = f"its post_processor or added_tokens are not understood: {error!r}"
        raise ModelError(what, "download it again", file=path) from error
    if config is not None:
        for kind in names.types:
            if isinstance(flag := config.get(f"add_{kind}_token"), bool):
                names.adds.setdefault(kind, flag)
    pairs: Pairs = {
        f"tokenizer.ggml.{ID_KEYS[kind]}": u32(number) for kind, number in ids.items() if kind in ID_KEYS
    }
    pairs |= {
        f"tokenizer.ggml.{_ADD_KEYS[kind]}": boolean(flag)
        for kind, flag in names.adds.items()
        if kind in _ADD_KEYS
    }
    return pairs


def _read_step(names: _Names, step: Mapping[str, Any]) -> None:
    kind = step.get("type")
    if kind == "ByteLevel":
        names.adds.setdefault("bos", False)
        names.adds.setdefault("eos", False)
    elif kind == "RobertaProcessing":
        names.adds |= {"bos": True, "eos": True, "sep": True}
        for name, other in (("cls", "bos"), ("sep", "eos")):
            if names.known and not names.of.get(name):
                names.of[name] = step.get(name, [names.of.get(other)])[0]
    elif kind == "TemplateProcessing":
        _read_template(names, step.get("single") or [], step.get("pair") or [])


def _read_template(names: _Names, single: list[Any], pair: list[Any]) -> None:
    first = last = None
    if len(single) > 1:
        if first := _special(single[0]):
            _read_first(names, first)
        if last := _special(single[-1]):
            _read_last(names, last)
    if pair:
        start = 1 if first and _special(pair[0]) == first else 0
        stop = -1 if last and _special(pair[-1]) == last else None
        _read_separators(names, pair[start:stop], last)


def _special(piece: Mapping[str, Any]) -> Any:
    return piece.get("SpecialToken", {}).get("id")


def _read_first(names: _Names, first: str) -> None:
    if not names.known:
        names.of["bos"] = first
    elif first not in (names.of.get("bos"), names.of.get("cls")):
        names.of["bos"] = names.of.get("bos") or first
        names.of["cls"] = names.of.get("cls") or first
    names.adds["bos"] = first in (names.of.get("bos"), names.of.get("cls"))


def _read_last(names: _Names, last: str) -> None:
    if names.known and last != names.of.get("eos"):
        for spare in ("eot", "eom"):
            if spare not in names.types:
                names.types = (*names.types, spare)
                names.of[spare] = names.of.get("eos")
                break
    names.of["eos"] = last
    names.adds["eos"] = True


def _read_separators(names: _Names, pair: list[Any], last: str | None) -> None:
    """What stands between the two sequences of a pair: A [sep] [eos] B."""
    if (
        not pair
        or pair[0].get("Sequence", {}).get("id") != "A"
        or pair[-1].get("Sequence", {}).get("id") != "B"
    ):
        return
    between = pair[1:-1]
    if not between:
        return
    separators = (names.of.get("sep"), names.of.get("eos"))
    add = _special(between[0]) in separators and bool(_special(between[0])) and not last
    if len(between) == 2 and _special(between[1]) and _special(between[1]) in separators:
        add = True
    names.adds["sep"] = add
    if add and not names.of.get("sep") and names.known:
        names.of["sep"] = names.of.get("eos")


def _ids(
    path: Path,
    names: _Names,
    tokenizer: Mapping[str, Any],
    model_config: Mapping[str, Any],
    limit: int | None,
) -> dict[str, int]:
    """By kind, in the order in which they are found: names first, then what config.json adds."""
    numbers: dict[str, Any] = {}
    for token in tokenizer.get("added_tokens") or ():
        numbers.setdefault(token.get("content"), token.get("id"))
    ids: dict[str, int] = {}
    if names.known:
        for kind in names.types:
            name = names.of.get(kind)
            name = name.get("content") if isinstance(name, Mapping) else name
            number = numbers.get(name) if isinstance(name, str) else None
            _add_id(path, ids, kind, number, limit)
    text_config = model_config.get("text_config")
    # models with projectors nest the configuration of the text model
    within = text_config if isinstance(text_config, Mapping) else {}
    for kind in names.types:
        number = model_config.get(f"{kind}_token_id")
        number = within.get(f"{kind}_token_id") if number is None else number
        _add_id(path.with_name("config.json"), ids, kind, number, limit)
    return ids


def _add_id(path: Path, ids: dict[str, int], kind: str, number: Any, limit: int | None) -> None:
    if type(number) is int and number >= _MAX_ID:
        what = f"says {kind}_token_id: {number} (expected: below {_MAX_ID})"
        raise ModelError(what, "correct it", file=path)
    if type(number) is int and number >= 0 and (limit is None or number < limit):
        ids.setdefault(kind, number)
