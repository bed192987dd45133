"""tokenizer_pairs: the `tokenizer.*` keys of a model folder, in the order in which the converter writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.pairs import Pairs, text
from quantrecipe.model.tokenizer import (
    bpe,
    llama_hf,
    others,
    sentencepiece,
    tekken,
    tiktoken,
    unigram,
    wordpiece,
)
from quantrecipe.model.tokenizer.kinds import MOST_TOKENS, TokenizerFiles, Vocabulary, read_files
from quantrecipe.model.tokenizer.pre_tokenizer import check_name

__all__ = ["tokenizer_pairs"]

_Reader = tuple[Callable[[TokenizerFiles], bool], Callable[[TokenizerFiles], Pairs]]
_READERS: Mapping[str, _Reader] = {
    "bpe": (bpe.is_bpe, bpe.read_bpe),
    "gemma4": (llama_hf.is_llama_hf, llama_hf.read_gemma4),
    "llama-hf": (llama_hf.is_llama_hf, llama_hf.read_llama_hf),
    "mistral": (tekken.is_tekken, tekken.read_tekken),
    "none": (lambda files: True, lambda files: {"tokenizer.ggml.model": text("none")}),
    "plamo": (others.is_plamo, others.read_plamo),
    "rwkv": (others.is_rwkv, others.read_rwkv),
    "sentencepiece": (sentencepiece.is_sentencepiece, sentencepiece.read_sentencepiece),
    "tiktoken": (tiktoken.is_tiktoken, tiktoken.read_tiktoken),
    "unigram": (unigram.is_unigram, unigram.read_unigram),
    "whitespace": (bpe.is_of_words, bpe.read_of_words),
    "wordpiece": (wordpiece.is_wordpiece, wordpiece.read_wordpiece),
}
"""By kind: whether the folder has files of it, and what reads them."""
_USUAL = Vocabulary()
_TRANSFORMERS = "let transformers write it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
_MISSING = {
    "bpe": ("tokenizer.json", _TRANSFORMERS),
    "wordpiece": ("tokenizer.json", _TRANSFORMERS),
    "llama-hf": ("tokenizer.json", _TRANSFORMERS),
    "gemma4": ("tokenizer.json", _TRANSFORMERS),
    "sentencepiece": ("tokenizer.model", "download it from the model's page"),
    "unigram": (
        "tokenizer.model, spiece.model or sentencepiece.bpe.model",
        "download it from the model's page",
    ),
    "tiktoken": ("tiktoken.model or *.tiktoken", "download it from the model's page"),
    "mistral": ("tekken.json", "download it from the model's page"),
    "plamo": ("tokenizer.jsonl", "download it from the model's page"),
    "rwkv": (others.RWKV_FILE, "download it from the model's page"),
}
"""What a folder lacks, and how to get it, if none of its kinds has files.

Where it may have a tokenizer.json, that is what it lacks, since that is easily made.
"""


def tokenizer_pairs(
    folder: Path,
    vocab_size: int | None,
    model_config: Mapping[str, Any],
    *,
    pre: str | None = None,
    vocabulary: Vocabulary = _USUAL,
) -> Pairs:
    """The vocabulary as a GGUF holds it, read as the architecture's `vocabulary` says.

    `vocab_size` is the number of rows of the embedding; ids without a token get a placeholder. `pre` is taken
    as the pre-tokenizer's name, and spares its rules from being recognised; llama.cpp has to know it. ModelError where
    files are missing or damaged, or hold what llama.cpp can't do.
    """
    if pre is not None:
        check_name(pre)
    if vocab_size is not None and vocab_size > MOST_TOKENS:
        what = f"has an embedding of {vocab_size:,} rows (expected: at most {MOST_TOKENS:,} tokens)"
        raise ModelError(what, "download it again", file=folder)
    files = read_files(folder, vocab_size, model_config, pre, vocabulary)
    for kind in files.vocabulary.kinds:
        has, read = _READERS[kind]
        if has(files):
            try:
                return read(files)
            except UnicodeEncodeError as error:
                what = f"holds half a surrogate pair, which is no character: {error}"
                raise ModelError(what, "download it again", file=files.path) from error
    wanted = [_MISSING[kind] for kind in reversed(files.vocabulary.kinds) if kind in _MISSING]
    lacking, remedy = next((it for it in wanted if it[1] == _TRANSFORMERS), wanted[0])
    raise ModelError(f"has no {lacking}, so its vocabulary can't be converted", remedy, file=folder)
