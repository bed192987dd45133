"""tokenizer_pairs: the `tokenizer.*` keys of a model folder, in the order in which the converter writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, boolean, i32s, text, texts
from quantrecipe.model.tokenizer.bpe import read_merges, read_tokens, refuse_others
from quantrecipe.model.tokenizer.chat_template import chat_template_pairs
from quantrecipe.model.tokenizer.pre_tokenizer import recognise
from quantrecipe.model.tokenizer.special import special_pairs

__all__ = ["tokenizer_pairs"]


def tokenizer_pairs(
    folder: Path, vocab_size: int | None, model_config: Mapping[str, Any], *, pre: str | None = None
) -> Pairs:
    """The vocabulary as a GGUF holds it: byte-level BPE from tokenizer.json.

    `vocab_size` is the number of rows of the embedding; ids without a token get a placeholder. `pre` is taken
    as the pre-tokenizer's name, and spares its rules from being recognised.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        what = "has no tokenizer.json, so its vocabulary can't be converted"
        remedy = "let transformers write it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        raise ModelError(what, remedy, file=folder)
    tokenizer = read_json_object(path)
    config_file = folder / "tokenizer_config.json"
    config = read_json_object(config_file) if config_file.is_file() else None
    refuse_others(path, tokenizer)
    name = pre if pre is not None else recognise(path, tokenizer)
    tokens, types = read_tokens(path, tokenizer, config or {}, vocab_size)
    pairs: Pairs = {"tokenizer.ggml.model": text("gpt2"), "tokenizer.ggml.pre": text(name)}
    try:
        pairs["tokenizer.ggml.tokens"] = texts(tokens)
        pairs["tokenizer.ggml.token_type"] = i32s(types)
        pairs["tokenizer.ggml.merges"] = texts(read_merges(path, tokenizer))
        pairs |= special_pairs(path, tokenizer, config, model_config)
        pairs |= chat_template_pairs(folder, config)
    except UnicodeEncodeError as error:
        what = f"holds half a surrogate pair, which is no character: {error}"
        raise ModelError(what, "download it again", file=path) from error
    return pairs | _normalizer_pairs(tokenizer.get("normalizer"))


def _normalizer_pairs(normalizer: Any) -> Pairs:
    """Lower case and stripped accents, which some BPE vocabularies ask for."""
    if not isinstance(normalizer, Mapping):
        return {}
    key = "tokenizer.ggml.normalizer."
    match normalizer.get("type"):
        case "Lowercase":
            return {f"{key}lowercase": boolean(True)}
        case "StripAccents":
            return {f"{key}strip_accents": boolean(True)}
        case "Sequence":
            pairs: Pairs = {}
            for step in normalizer.get("normalizers", ()):
                pairs |= _normalizer_pairs(step)
            return dict(sorted(pairs.items()))
    return {}
