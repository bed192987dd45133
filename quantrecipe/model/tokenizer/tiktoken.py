"""tiktoken: byte sequences with ranks, which are their ids. The merges follow from the ranks.

    hy.tiktoken, qwen.tiktoken, tiktoken.model      IQ== 0      base64 of the bytes, and the rank
    tokenizer_config.json                           special tokens, whose ids are above the ranks
    tokenization_*.py                               the expression that cuts text up, and names of further tokens

Remote code is never run: its text is parsed, and what is looked for in it are literals.

A token's merge is the last step when its bytes are merged by the ranks below its own. The converter writes it where
that step is between two pieces.
"""

from __future__ import annotations

import ast
import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Never

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_text
from quantrecipe.model.pairs import Pairs, i32s, text, texts
from quantrecipe.model.tokenizer.added import added_tokens
from quantrecipe.model.tokenizer.alphabet import shown
from quantrecipe.model.tokenizer.completed import completed
from quantrecipe.model.tokenizer.kinds import LONGEST_TOKEN, MOST_TOKENS, TokenizerFiles, require_ids
from quantrecipe.model.tokenizer.pre_tokenizer import name_of_expression
from quantrecipe.units import whole_number

__all__ = ["is_tiktoken", "merges_of", "read_tiktoken"]

_NORMAL, _CONTROL, _UNUSED = 1, 3, 5  # llama.cpp: enum llama_token_type
_AGAIN = "download it again"
_EXPRESSIONS = ("pat_str", "PAT_STR")
_RESERVED = "<|reserved_token_"
"""How Kimi's tokenizer calls ids that it keeps for later: <|reserved_token_163700|>."""
_RESERVED_COUNT = 256
_MAX_CODE = 1_000_000  # characters; such files have 20,000


def is_tiktoken(files: TokenizerFiles) -> bool:
    """True where there is a file of ranks."""
    return _file(files) is not None


def read_tiktoken(files: TokenizerFiles) -> Pairs:
    """Read the keys. ModelError where the file is damaged, or nobody knows how it cuts text up."""
    path = _file(files)
    if path is None:
        _fail(files.folder, "has no file of ranks (*.tiktoken, tiktoken.model)")
    ranks = _ranks(path)
    code = _remote_code(files.folder)
    special = _special(files, ranks, code)
    require_ids(files, path, max([*ranks.values(), *special], default=-1), len(ranks) + len(special))
    size = files.size if files.size is not None else max([*ranks.values(), *special], default=-1) + 1
    if (highest := max(ranks.values(), default=-1)) >= size or size > MOST_TOKENS:
        what = f"has the rank {highest}, but the embedding has {size} rows"
        raise ModelError(what, "set vocab_size to the number of rows of the embedding", file=path)
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [_UNUSED] * size
    for token, rank in ranks.items():
        tokens[rank], types[rank] = shown(token), _NORMAL
    for number, name in special.items():
        if number < size:
            tokens[number], types[number] = name, _CONTROL
    pairs = {
        "tokenizer.ggml.model": text(files.vocabulary.model or "gpt2"),
        "tokenizer.ggml.pre": text(_pre(files, path, code)),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": i32s(types),
        "tokenizer.ggml.merges": texts(merges_of(ranks)),
    }
    return completed(files, pairs, further={name: number for number, name in special.items()})


def _file(files: TokenizerFiles) -> Path | None:
    named = files.folder / "tiktoken.model"
    return named if named.is_file() else next(iter(sorted(files.folder.glob("*.tiktoken"))), None)


def _ranks(path: Path) -> dict[bytes, int]:
    """Ranks by byte sequence, in the file's order. ModelError names the line that is wrong."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            encoded, rank = line.split()
            token = base64.b64decode(encoded, validate=True)
            place = whole_number(rank)
            if not 0 < len(token) <= LONGEST_TOKEN or place is None:
                raise ValueError
        except (binascii.Error, ValueError):
            what = f"says {line[:60]!r} (expected: bytes in base64, a space and the rank)"
            raise ModelError(what, _AGAIN, file=path, line=number) from None
        if token in ranks:
            raise ModelError(f"has the bytes {encoded} twice", _AGAIN, file=path, line=number)
        ranks[token] = place
    if len(set(ranks.values())) != len(ranks):
        seen: dict[int, bytes] = {}
        twice = next(rank for token, rank in ranks.items() if seen.setdefault(rank, token) != token)
        _fail(path, f"gives the rank {twice} twice")
    return ranks


def _special(files: TokenizerFiles, ranks: dict[bytes, int], code: str) -> dict[int, str]:
    """Special tokens by id."""
    special = {len(ranks) + at: name for at, name in enumerate(files.vocabulary.after_ranks)}
    if _RESERVED in code:
        special |= {
            number: f"{_RESERVED}{number}|>" for number in range(len(ranks), len(ranks) + _RESERVED_COUNT)
        }
    special |= {number: str(token["content"]) for number, token in added_tokens(files).items()}
    if twice := sorted(special.keys() & set(ranks.values())):
        path = files.folder / "tokenizer_config.json"
        _fail(path, f"gives {special[twice[0]]!r} the id {twice[0]}, which is the rank of other bytes")
    return special


def _pre(files: TokenizerFiles, path: Path, code: str) -> str:
    """The pre-tokenizer's name: by --pre, by the expression in remote code, or by the architecture."""
    if files.pre is not None:
        return files.pre
    expression = _expression(code)
    if expression is not None and (name := name_of_expression(expression, files.vocabulary.pre)):
        return name
    if expression is None and files.vocabulary.pre:
        return files.vocabulary.pre[0]
    said = (
        "nothing says how text is cut up"
        if expression is None
        else f"llama.cpp has no name for {expression!r}"
    )
    raise ModelError(
        f"{said}, before tokens are looked for", "if you know the name, say: --pre NAME", file=path
    )


def _remote_code(folder: Path) -> str:
    files = sorted(folder.glob("tokenization_*.py"))
    return "\n".join(map(read_text, files[:1]))


def _expression(code: str) -> str | None:
    """The literal that the remote code calls its pattern: a text, or texts joined."""
    try:
        tree = ast.parse(code[:_MAX_CODE])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id in _EXPRESSIONS for target in node.targets
        ):
            return _literal(node.value)
    return None


def _literal(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join"),
            args=[ast.List(elts=parts) | ast.Tuple(elts=parts)],
        ):
            found = [_literal(part) for part in parts]
            return None if None in found else glue.join(part for part in found if part is not None)
    return None


def merges_of(ranks: dict[bytes, int]) -> Iterator[str]:
    """Merges in the order of `ranks`, in GPT-2's alphabet."""
    for token, rank in ranks.items():
        if len(token) > 1 and (pair := _last_step(ranks, token, rank)) is not None:
            yield f"{shown(pair[0])} {shown(pair[1])}"


def _last_step(ranks: dict[bytes, int], token: bytes, limit: int) -> tuple[bytes, bytes] | None:
    """The two pieces that are left of a token when its bytes are merged by the ranks below `limit`; None for more."""
    if len(token) == 2:
        return token[:1], token[1:]
    cuts = list(range(len(token) + 1))  # where pieces begin and end
    joined = [
        ranks.get(token[at : at + 2], limit) for at in range(len(token) - 1)
    ]  # ranks of neighbours together
    while len(joined) > 1:
        best = min(joined)
        if best >= limit:
            return None
        at = joined.index(best)  # of equals the first, as tiktoken has it
        del cuts[at + 1], joined[at]
        for side in (at - 1, at):
            if 0 <= side < len(joined):
                joined[side] = ranks.get(token[cuts[side] : cuts[side + 2]], limit)
    return token[: cuts[1]], token[cuts[1] :]


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, _AGAIN, file=path)
