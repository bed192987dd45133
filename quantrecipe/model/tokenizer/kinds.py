"""Vocabulary: how an architecture's vocabulary is read; TokenizerFiles: what of a folder the readers look at.

kind           files                                                 what llama.cpp calls it
bpe            tokenizer.json, byte-level BPE                        gpt2
sentencepiece  tokenizer.model                                       llama
llama-hf       tokenizer.json, BPE with byte_fallback                llama
gemma4         the same, with merges                                 gemma4
unigram        tokenizer.model, spiece.model, sentencepiece.bpe.model, or a Unigram tokenizer.json   t5
wordpiece      tokenizer.json, WordPiece                             bert
whitespace     tokenizer.json, BPE of whole words                    whitespace
tiktoken       *.tiktoken or tiktoken.model: ranks of byte sequences gpt2
mistral        tekken.json                                           gpt2
plamo          tokenizer.jsonl                                       plamo2
rwkv           rwkv_vocab_v20230424.txt                              rwkv
none           nothing                                               none
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_json_object

__all__ = [
    "LONGEST_TOKEN",
    "MOST_TOKENS",
    "AddedTokens",
    "TokenizerFiles",
    "Vocabulary",
    "read_files",
    "require_ids",
]

MOST_TOKENS = 1 << 20
"""The largest vocabularies in use have 901,629 (XLM-V) and 262,144 tokens."""
LONGEST_TOKEN = 2048
"""Bytes; those in use have 256. Looking for what merges to a token takes a time that grows with its length's square."""
_MOST_ABSENT = 1 << 16

AddedTokens = Literal["usual", "flags", "scores", "internlm2"]
"""How added tokens overlay the pieces of a tokenizer.model; each is what one of the converter's methods does.

usual      tokenizer_config.json's; CONTROL where special or where they look it; "▁" is a space in the others
flags      tokenizer_config.json's and tokenizer.json's as they stand; CONTROL where special (Phi-3)
scores     tokenizer_config.json's as they stand; special ones score 0, the others -10000 (Arctic)
internlm2  as "flags", and pieces called [UNUSED… are UNUSED
"""
SpacePrefix = Literal["tokenizer_config first", "tokenizer_config", "tokenizer.model"] | bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """How an architecture's vocabulary is read, and what llama.cpp calls it. Facts of llama.cpp's converter.

    kinds:        readers in order of preference: the first counts for which the folder has files
    model:        tokenizer.ggml.model, where it isn't the reader's own
    pre:          names of pre-tokenizers. Where the rules in tokenizer.json have several names in llama.cpp, the
                  first of them that stands here is taken, even where llama.cpp's ignore_merges is another; so don't
                  list a name for models whose tokenizer.json may have either (llama-bpe and dbrx). Where no rules are
                  in the folder (tiktoken, wordpiece), it is the first of these.
    added:        how added tokens overlay the pieces of a tokenizer.model
    space_prefix: where tokenizer.ggml.add_space_prefix comes from: what tokenizer_config.json (the key stands before
                  all others, or behind) or tokenizer.model say, or always this; None where only the kind decides
    special:      (kind, text): ids of special tokens where the folder gives none; the token has to be there
    special_over: (kind, text): ids that replace what the folder gives, where the token is there. The text "eos_token"
                  or the like, without brackets, stands for what tokenizer_config.json calls so.
    types:        (text, type): tokens of another type than their flags say, llama.cpp's numbers
    template_file: True where chat_template.jinja comes before the template in tokenizer_config.json
    after_ranks:  texts of the special tokens that follow a tiktoken file's ranks, where only remote code has them
    lenient:      True where the converter takes a tokenizer.model that llama.cpp cuts up otherwise (Unigram,
                  normalizers), and the ids are near enough
    """

    kinds: tuple[str, ...] = ("sentencepiece", "bpe")
    model: str | None = None
    pre: tuple[str, ...] = ()
    added: AddedTokens = "usual"
    space_prefix: SpacePrefix = None
    special: tuple[tuple[str, str], ...] = ()
    special_over: tuple[tuple[str, str], ...] = ()
    types: tuple[tuple[str, int], ...] = ()
    template_file: bool = False
    after_ranks: tuple[str, ...] = ()
    lenient: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerFiles:
    """A folder's files that all kinds share, and what the caller says of the vocabulary.

    tokenizer: tokenizer.json, {} where there is none   config: tokenizer_config.json, None where there is none
    size: rows of the embedding, None to count tokens   pre: the pre-tokenizer's name by --pre
    """

    folder: Path
    tokenizer: Mapping[str, Any]
    config: Mapping[str, Any] | None
    model_config: Mapping[str, Any]
    size: int | None
    pre: str | None
    vocabulary: Vocabulary

    @property
    def path(self) -> Path:
        """tokenizer.json, whether or not there is one."""
        return self.folder / "tokenizer.json"

    @property
    def settings(self) -> Mapping[str, Any]:
        """tokenizer_config.json, empty where there is none."""
        return self.config or {}

    def has(self, name: str) -> bool:
        """True where the folder has a file of this name."""
        return (self.folder / name).is_file()

    def part(self, name: str) -> Mapping[str, Any]:
        """An object in tokenizer.json ("model", "normalizer", …), {} where it is missing or something else."""
        part = self.tokenizer.get(name)
        return part if isinstance(part, Mapping) else {}


def require_ids(files: TokenizerFiles, path: Path, highest: int, known: int) -> None:
    """ModelError where no embedding says how many tokens there are, and ids leave out far more than there are."""
    if files.size is None and highest > 2 * known + _MOST_ABSENT:
        what = f"has the token id {highest:,}, but only {known:,} tokens"
        raise ModelError(what, "download it again", file=path)


def read_files(
    folder: Path,
    vocab_size: int | None,
    model_config: Mapping[str, Any],
    pre: str | None,
    vocabulary: Vocabulary,
) -> TokenizerFiles:
    """Read the JSON files. ModelError where one is damaged."""
    path, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    return TokenizerFiles(
        folder=folder,
        tokenizer=read_json_object(path) if path.is_file() else {},
        config=read_json_object(config) if config.is_file() else None,
        model_config=model_config,
        size=vocab_size,
        pre=pre,
        vocabulary=vocabulary,
    )
