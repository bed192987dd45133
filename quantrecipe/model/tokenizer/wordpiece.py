"""WordPiece, as BERT has it: pieces within words are marked with ##, whole words and beginnings aren't.

llama.cpp marks the others: "##ing" becomes "ing", and "play" becomes "▁play". Control tokens stay as they are.
"""

from __future__ import annotations

from quantrecipe.errors import ModelError
from quantrecipe.model.pairs import Pairs, i32s, text, texts
from quantrecipe.model.tokenizer.bpe import CONVERTER, read_tokens
from quantrecipe.model.tokenizer.completed import completed
from quantrecipe.model.tokenizer.kinds import TokenizerFiles

__all__ = ["is_wordpiece", "read_wordpiece"]

_CONTROL = 3  # llama.cpp: enum llama_token_type
_INSIDE = "##"
_PRE = "jina-v2-en"
"""The converter's name for BERT's own vocabulary; llama.cpp has one way of cutting for all of this kind."""


def is_wordpiece(files: TokenizerFiles) -> bool:
    """True where tokenizer.json holds a WordPiece vocabulary."""
    return files.part("model").get("type") == "WordPiece"


def read_wordpiece(files: TokenizerFiles) -> Pairs:
    """Read the keys. ModelError where words are cut up otherwise than llama.cpp does."""
    model = files.part("model")
    if (prefix := model.get("continuing_subword_prefix", _INSIDE)) != _INSIDE:
        what = f"marks pieces within words with {prefix!r}, which llama.cpp can't (expected: {_INSIDE!r})"
        raise ModelError(what, CONVERTER, file=files.path)
    cut = files.part("pre_tokenizer").get("type")
    if cut != "BertPreTokenizer" and files.pre is None:
        what = f"cuts text up by {cut}, which llama.cpp doesn't for WordPiece (expected: BertPreTokenizer)"
        raise ModelError(what, "if its ids are good enough all the same, say: --pre default", file=files.path)
    tokens, types = read_tokens(files)
    pairs = {
        "tokenizer.ggml.model": text(files.vocabulary.model or "bert"),
        "tokenizer.ggml.pre": text(files.pre or (*files.vocabulary.pre, _PRE)[0]),
        "tokenizer.ggml.tokens": texts(map(_phantom, tokens, types)),
        "tokenizer.ggml.token_type": i32s(types),
    }
    return completed(files, pairs, limit=len(tokens))


def _phantom(token: str, kind: int) -> str:
    if kind == _CONTROL:
        return token
    return token[len(_INSIDE) :] if token.startswith(_INSIDE) else f"▁{token}"
