"""llama-quantize's command line, and the files for its `--tensor-type-file`: what they say.

What that means for a model is `simulate`'s to know.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.overrides import Override, read_list, read_override
from quantrecipe.gguf.file_types import FILE_TYPES, file_type_name

__all__ = ["MIXTURES", "Command", "read_command", "read_list_for", "takes_patterns"]

MIXTURES: Mapping[str, str] = {
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "Q3_K": "Q3_K_M",
    "COPY": "COPY",
    **{name: name for name in FILE_TYPES if name != "NVFP4"},
}
"""Names that llama-quantize takes, and the recipe `llama.cpp/…` that is the same."""

_WITH_VALUE = (
    "--output-tensor-type", "--token-embedding-type", "--tensor-type", "--tensor-type-file", "--prune-layers",
    "--override-kv", "--imatrix", "--include-weights", "--exclude-weights", "--max-buffer-size",
)  # fmt: skip
_ALONE = ("--leave-output-tensor", "--allow-requantize", "--pure", "--keep-split", "--dry-run")
_PROGRAM = ("llama-quantize", "quantize")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What a command line of llama-quantize says. `overrides` aren't lower-cased yet."""

    mixture: str
    overrides: tuple[Override, ...] = ()
    pure: bool = False
    leave_output: bool = False
    output_type: str | None = None
    embedding_type: str | None = None
    imatrix: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    prune: tuple[int, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)


def read_command(text: str, folder: Path, *, file: str) -> Command:
    """A command line as one would type it; the whole of a script that has nothing else in it but comments.

    folder: what the paths of `--tensor-type-file` start from
    """
    words = _words(text, file)
    given: dict[str, list[str]] = {}
    overrides: list[Override] = []
    at = next((i + 1 for i, word in enumerate(words) if Path(word).stem in _PROGRAM), 0)
    while at < len(words) and words[at].startswith("--"):
        option = words[at]
        if option not in (*_WITH_VALUE, *_ALONE):
            raise RecipeError(
                f"{option!r} isn't an option of llama-quantize",
                "leave it out, if it is a newer one",
                file=file,
            )
        value = ""
        if option in _WITH_VALUE:
            at += 1
            if at == len(words):
                raise RecipeError(f"{option} has no value", file=file)
            value = words[at]
        given.setdefault(option, []).append(value)
        if option == "--tensor-type":
            overrides.append(read_override(value))
        elif option == "--tensor-type-file":
            overrides += _read_file(folder / value)
        at += 1
    return Command(
        mixture=_mixture(words[at:], file),
        overrides=tuple(overrides),
        pure="--pure" in given,
        leave_output="--leave-output-tensor" in given,
        output_type=given.get("--output-tensor-type", [None])[-1],
        embedding_type=given.get("--token-embedding-type", [None])[-1],
        imatrix=given.get("--imatrix", [None])[-1],
        include=tuple(given.get("--include-weights", ())),
        exclude=tuple(given.get("--exclude-weights", ())),
        prune=tuple(_numbers(given.get("--prune-layers", []), file)),
        metadata=dict(_pair(value, file) for value in given.get("--override-kv", [])),
    )


def read_list_for(text: str, mixture: str, *, pure: bool = False, file: str) -> Command:
    """What a `--tensor-type-file` says beside this type. Comments, which llama-quantize doesn't know, are taken."""
    overrides = tuple(read_list(text, file, words=True))
    return Command(mixture=_mixture([mixture], file), overrides=overrides, pure=pure)


def _words(text: str, file: str) -> list[str]:
    if len(text) > 1 << 20:
        raise RecipeError(f"a command line of {len(text):,} characters", file=file)
    try:
        lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=False)
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError as error:
        raise RecipeError(f"the command line can't be read: {error}", "close its quotes", file=file) from None


def _mixture(rest: Sequence[str], file: str) -> str:
    """The name behind the paths: `IN OUT TYPE`, `IN TYPE`, or `TYPE` alone; numbers count, too."""
    for word in reversed(rest[:3]):
        name = word.upper()
        if word.isdigit() and len(rest) < 3:
            name = file_type_name(int(word)) or name
        if name in MIXTURES:
            return name
    for word in rest[1:3]:
        if word.isdigit() and (name := file_type_name(int(word)) or "") in MIXTURES:
            return name
    raise RecipeError(
        "the command line doesn't end in a type that llama-quantize knows",
        "write it whole: llama-quantize [options] IN.gguf OUT.gguf Q4_K_M",
        file=file,
    )


def _read_file(path: Path) -> list[Override]:
    try:
        if not path.is_file():
            raise RecipeError("there is no such file", "check the path", file=path)
        return read_list(path.read_text(encoding="utf-8"), str(path), words=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"can't be read: {error}", file=path) from None


def _numbers(values: Sequence[str], file: str) -> Iterator[int]:
    for number in ",".join(values).split(",") if values else ():
        if not number.strip().isdigit() or len(number) > 6:
            raise RecipeError(f"{number[:20]!r} is no layer", "write --prune-layers 3,4", file=file)
        yield int(number)


def _pair(text: str, file: str) -> tuple[str, object]:
    """`KEY=TYPE:VALUE` as a recipe's metadata says it. Whole numbers become u32, as in llama-quantize."""
    key, equals, said = text.partition("=")
    kind, colon, value = said.partition(":")
    try:
        if key and equals and colon:
            if kind == "int":
                return key, {"type": "u32", "value": abs(int(value)) % 2**32}
            if kind == "float":
                return key, {"type": "f32", "value": float(value)}
            if kind == "bool" and value in ("true", "false"):
                return key, value == "true"
            if kind == "str":
                return key, value
    except ValueError:
        pass
    raise RecipeError(
        f"{text[:80]!r} isn't like KEY=TYPE:VALUE", "types are int, float, bool and str", file=file
    )


def takes_patterns(mixture: str) -> bool:
    """False for mixtures on which llama-quantize ignores `--tensor-type`."""
    return mixture not in ("F32", "F16", "BF16", "COPY")
