"""completed: what all kinds of vocabularies have after their tokens: special tokens, chat templates, normalizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.added import added_tokens, content
from quantrecipe.model.tokenizer.chat_template import chat_template_pairs
from quantrecipe.model.tokenizer.kinds import TokenizerFiles
from quantrecipe.model.tokenizer.special import ID_KEYS, special_pairs

__all__ = ["completed"]

_SPACE_PREFIX = "tokenizer.ggml.add_space_prefix"


def completed(
    files: TokenizerFiles, pairs: Pairs, *, limit: int | None = None, further: Mapping[str, int] | None = None
) -> Pairs:
    """`pairs` with all that follows. Special tokens whose ids aren't below `limit` are left out.

    `further` are ids of added tokens that neither file lists.
    """
    vocabulary = files.vocabulary
    special = special_pairs(files.path, files.tokenizer, files.config, files.model_config, vocab_size=limit)
    flags = {key: value for key, value in special.items() if not key.endswith("_id")}
    ids = {key: value for key, value in special.items() if key.endswith("_id")}
    pairs = pairs | _by_text(files, ids, limit, further or {}) | flags
    pairs |= chat_template_pairs(files.folder, files.config, file_first=vocabulary.template_file)
    pairs |= _normalizer_pairs(files.tokenizer.get("normalizer"))
    said = files.settings.get("add_prefix_space")
    match vocabulary.space_prefix:
        case "tokenizer_config first" if isinstance(said, bool):
            return {_SPACE_PREFIX: boolean(said)} | pairs
        case "tokenizer_config" if isinstance(said, bool):
            pairs[_SPACE_PREFIX] = boolean(said)
        case True | False as always:
            pairs[_SPACE_PREFIX] = boolean(always)
    return pairs


def _by_text(files: TokenizerFiles, ids: Pairs, limit: int | None, further: Mapping[str, int]) -> Pairs:
    """The ids, and those that the architecture gives by the tokens' texts."""
    vocabulary = files.vocabulary
    if not vocabulary.special and not vocabulary.special_over:
        return ids
    numbers = {**further, **{str(token["content"]): number for number, token in added_tokens(files).items()}}
    for kind, name in vocabulary.special:
        if name not in numbers:
            what = f"has no added token {name!r}, which models of this architecture need as {kind}_token"
            raise ModelError(what, "download it again", file=files.path)
        ids.setdefault(f"tokenizer.ggml.{ID_KEYS[kind]}", u32(numbers[name]))
    for kind, name in vocabulary.special_over:
        number = numbers.get(content(files.settings.get(name, name)))
        if number is not None and (limit is None or number < limit):
            ids[f"tokenizer.ggml.{ID_KEYS[kind]}"] = u32(number)
    return ids


def _normalizer_pairs(normalizer: Any) -> Pairs:
    """Lower case and stripped accents, which some vocabularies ask for."""
    if not isinstance(normalizer, Mapping):
        return {}
    key = "tokenizer.ggml.normalizer."
    match normalizer.get("type"):
        case "Lowercase":
            return {f"{key}lowercase": boolean(True)}
        case "StripAccents":
            return {f"{key}strip_accents": boolean(True)}
        case "BertNormalizer":
            said = {name: normalizer.get(name) for name in ("lowercase", "strip_accents")}
            return {f"{key}{name}": boolean(flag) for name, flag in said.items() if isinstance(flag, bool)}
        case "Sequence":
            pairs: Pairs = {}
            steps = normalizer.get("normalizers")
            for step in steps if isinstance(steps, list) else ():
                pairs |= _normalizer_pairs(step)
            return dict(sorted(pairs.items()))
    return {}
