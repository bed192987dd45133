"""tokenizer_pairs: the `tokenizer.*` keys of a model folder, in the order in which the converter writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, boolean, f32s, i32s, text, texts
from quantrecipe.model.tokenizer.bpe import read_merges, read_tokens, refuse_others
from quantrecipe.model.tokenizer.chat_template import chat_template_pairs
from quantrecipe.model.tokenizer.kinds import Vocabulary
from quantrecipe.model.tokenizer.pre_tokenizer import check_name, recognise
from quantrecipe.model.tokenizer.sentencepiece import Pieces, is_sentencepiece, read_pieces
from quantrecipe.model.tokenizer.special import special_pairs

__all__ = ["tokenizer_pairs"]


def tokenizer_pairs(
    folder: Path,
    vocab_size: int | None,
    model_config: Mapping[str, Any],
    *,
    pre: str | None = None,
    vocabulary: Vocabulary = Vocabulary(),  # noqa: B008  # a frozen value
) -> Pairs:
    """The vocabulary as a GGUF holds it: byte-level BPE from tokenizer.json, or SentencePiece from tokenizer.model.

    `vocab_size` is the number of rows of the embedding; ids without a token get a placeholder. `pre` is taken
    as the pre-tokenizer's name, and spares its rules from being recognised; llama.cpp has to know it.
    """
    if pre is not None:
        check_name(pre)
    path, config_file = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer = read_json_object(path) if path.is_file() else {}
    config = read_json_object(config_file) if config_file.is_file() else None
    sentencepiece = is_sentencepiece(folder, tokenizer)
    if not tokenizer and not sentencepiece:
        what = "has no tokenizer.json, so its vocabulary can't be converted"
        remedy = "let transformers write it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        raise ModelError(what, remedy, file=folder)
    try:
        if sentencepiece:
            pairs = _from_pieces(read_pieces(folder, config or {}, vocab_size, lenient=pre is not None), pre)
            size = len(pairs["tokenizer.ggml.tokens"])
            pairs |= special_pairs(path, tokenizer, config, model_config, vocab_size=size)
        else:
            pairs = _byte_level(path, tokenizer, config or {}, vocab_size, pre)
            pairs |= special_pairs(path, tokenizer, config, model_config)
        pairs |= chat_template_pairs(folder, config)
    except UnicodeEncodeError as error:
        what = f"holds half a surrogate pair, which is no character: {error}"
        raise ModelError(what, "download it again", file=path) from error
    return pairs | _normalizer_pairs(tokenizer.get("normalizer"))


def _byte_level(
    path: Path,
    tokenizer: Mapping[str, Any],
    config: Mapping[str, Any],
    vocab_size: int | None,
    pre: str | None,
) -> Pairs:
    refuse_others(path, tokenizer)
    name = pre if pre is not None else recognise(path, tokenizer)
    tokens, types = read_tokens(path, tokenizer, config, vocab_size)
    return {
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text(name),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": i32s(types),
        "tokenizer.ggml.merges": texts(read_merges(path, tokenizer)),
    }


def _from_pieces(pieces: Pieces, pre: str | None) -> Pairs:
    return {
        "tokenizer.ggml.model": text("llama"),
        "tokenizer.ggml.pre": text(pre or "default"),
        "tokenizer.ggml.tokens": texts(pieces.tokens),
        "tokenizer.ggml.scores": f32s(pieces.scores),
        "tokenizer.ggml.token_type": i32s(pieces.types),
    }


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
