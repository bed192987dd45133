"""Reads one call of llama-quantize: its options, and the type behind its paths.

Facts from llama.cpp (tools/quantize/quantize.cpp): options stand before the paths, and the first word that doesn't
begin with `--` is the input. `IN TYPE` and `IN OUT TYPE` are both right; a number counts as a type, also at the
beginning of a word (`7b.gguf` is type 7). Behind the type stands a number of threads, and what is behind that is
never looked at. ik_llama.cpp's program (examples/quantize/quantize.cpp) reads its own options in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from quantrecipe.errors import ModelError, Problem, RecipeError
from quantrecipe.exchange.from_commands.command import MIXTURES, Command
from quantrecipe.exchange.from_commands.overrides import Override, read_list, read_override
from quantrecipe.exchange.scripts.call import Call, Script, Word
from quantrecipe.exchange.scripts.script import SHELLS, decoded
from quantrecipe.gguf.file_types import FILE_TYPES, file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.units import whole_number
from quantrecipe.wording import quoted, shortened

__all__ = ["CallReader", "commented_lines", "type_name", "types_are"]

_FILE_TYPE = "general.file_type"
_WITH_VALUE = (
    "--output-tensor-type", "--token-embedding-type", "--tensor-type", "--tensor-type-file", "--prune-layers",
    "--override-kv", "--imatrix", "--include-weights", "--exclude-weights", "--max-buffer-size",
)  # fmt: skip
_ALONE = ("--leave-output-tensor", "--allow-requantize", "--pure", "--keep-split", "--dry-run")
_IK_WITH_VALUE = ("--custom-q", "--repack-pattern")
_IK_ALONE = ("--hide-imatrix", "--ignore-imatrix-rules", "--partial-requant", "--repack")
_NOT_SAID = {
    **{
        f"--{name}-type": "isn't translated, since ik_llama.cpp minds it in some of its presets alone"
        for name in (
            *("attn-q", "attn-k", "attn-v", "attn-qkv", "attn-output"),
            *("ffn-gate", "ffn-down", "ffn-up", "ffn-gate-inp"),
        )
    },
    "--target-bpw": "lets llama-quantize choose the types itself",
    "--target-size": "lets llama-quantize choose the types itself",
    "--state-file": "is about types that llama-quantize chooses itself",
}
"""Options that are known, and that no recipe can say; why."""
_MEND = {
    "--target-bpw": "`quantrecipe fit MODEL --bpw N` chooses types within a budget",
    "--target-size": "`quantrecipe fit MODEL --size N` chooses types within a budget",
    "--state-file": "leave it out, with --target-bpw",
}
_MOST_OTHERS = 6
"""Other programs that a note names."""


class CallReader:
    """Reads the words of one call as llama-quantize does, and collects what is wrong and what is worth a note."""

    def __init__(
        self, call: Call, script: Script, folder: Path, file: str, whys: Mapping[str, tuple[str, int]]
    ) -> None:
        """`whys` is what `commented_lines` finds in the script."""
        self._call = call
        self._script = script
        self._folder = folder
        self._file = file
        self._whys = whys
        self._given: dict[str, list[Word]] = {}
        self._overrides: list[Override] = []
        self._custom: list[Override] | None = None
        self._problems: list[Problem] = []
        self._notes: list[str] = []

    def read(self) -> Command:
        """Return what the call says. RecipeError has every word that isn't understood."""
        mixture = self._mixture(self._options(list(self._call.words)))
        imatrix = self._given.get("--imatrix", [None])[-1]
        if imatrix is not None and imatrix.missing:
            self._notes.append(
                f"the path of the importance matrix isn't known, since the script doesn't set {_names(imatrix)}: "
                "give it with --imatrix when the recipe is applied"
            )
        include, exclude = (self._values(name) for name in ("--include-weights", "--exclude-weights"))
        if include and exclude:
            what = "llama-quantize refuses --include-weights and --exclude-weights together"
            self._refuse(what, self._call.line, "leave one out")
        metadata: dict[str, GGUFValue] = {}
        prune: tuple[int, ...] = ()
        try:
            metadata = dict(_pair(text, self._file) for text in self._values("--override-kv"))
            prune = tuple(_numbers(self._values("--prune-layers"), self._file))
        except RecipeError as error:
            self._problems += error.at(self._file, self._call.line)
        label = self._label(metadata.pop(_FILE_TYPE, None))
        if self._problems:
            raise RecipeError(self._problems)
        self._note_what_else()
        last = {name: values[-1].text for name, values in self._given.items()}
        return Command(
            mixture=mixture,
            overrides=tuple(self._overrides),
            pure="--pure" in last,
            leave_output="--leave-output-tensor" in last,
            output_type=last.get("--output-tensor-type"),
            embedding_type=last.get("--token-embedding-type"),
            imatrix=None if imatrix is None else "" if imatrix.missing else imatrix.text,
            include=include,
            exclude=exclude,
            prune=prune,
            metadata=metadata,
            label=label,
            custom=None if self._custom is None else tuple(self._custom),
            notes=tuple(self._notes),
        )

    def _options(self, words: list[Word]) -> list[Word]:
        """Take the options from the front of the words, and return what stands behind them."""
        while words and words[0].text.startswith("--"):
            option = words.pop(0)
            name = option.text
            if name in _NOT_SAID:
                remedy = _MEND.get(name, rf"write it as a rule of --custom-q: {_as_rule(name)}")
                self._refuse(f"{name} {_NOT_SAID[name]}", option.line, remedy)
                words = words[1:]
                continue
            if name not in (*_WITH_VALUE, *_ALONE, *_IK_WITH_VALUE, *_IK_ALONE):
                what = f"{name!r} isn't an option of llama-quantize"
                self._refuse(what, option.line, "leave it out, if it is a newer one")
                continue
            value = Word(text="", line=option.line)
            if name in (*_WITH_VALUE, *_IK_WITH_VALUE):
                if not words:
                    self._refuse(f"{name} has no value", option.line, self._call.cut)
                    break
                value = words.pop(0)
            if value.missing and name not in ("--imatrix", "--max-buffer-size", "--repack-pattern"):
                self._refuse_unknown(f"the value of {name}", value)
                continue
            self._given.setdefault(name, []).append(value)
            try:
                self._take_types(name, value)
            except RecipeError as error:
                self._problems += error.at(self._file, value.line)
        return words

    def _take_types(self, name: str, value: Word) -> None:
        """Read an option that says which types tensors get."""
        if name == "--tensor-type":
            why, line = self._whys.get(value.text, ("", value.line))
            self._overrides.append(read_override(value.text, why=why, line=line))
        elif name == "--tensor-type-file":
            written = self._script.files.get(value.text)  # the script may write the file itself
            if written is not None:
                self._overrides += read_list(written, value.text, words=True)
            else:
                self._overrides += _read_file(self._folder / value.text)
        elif name == "--custom-q":
            # Reasons are the comments that the text had in a variable, before the script cleaned it.
            found = read_list(value.text, self._file, commas=True)
            reasons = [self._whys.get(f"{it.regex}={it.type}", (it.why, value.line)) for it in found]
            self._custom = [
                *(self._custom or ()),
                *(replace(it, why=why, line=line) for it, (why, line) in zip(found, reasons, strict=True)),
            ]

    def _label(self, number: GGUFValue | None) -> str | None:
        """Return the name of a file type that a command sets: a recipe sets it by `file_type`."""
        if number is None or number.type not in (ValueType.UINT32, ValueType.FLOAT32):
            return None
        label = file_type_name(number.decode())
        if label in FILE_TYPES:
            return label
        # Also ik_llama.cpp's own ones, which no recipe can say.
        self._notes.append(f"there is no file_type {number.decode()}: --override-kv {_FILE_TYPE} is left out")
        return None

    def _note_what_else(self) -> None:
        """Note what the call and its script have that isn't in the recipe."""
        self._notes += [
            f"{name} is about packing the rows of ik_llama.cpp's files anew, and isn't in the recipe"
            for name in ("--repack", "--repack-pattern", "--partial-requant")
            if name in self._given
        ]
        if self._script.others:
            names = dict.fromkeys(f"{name} (line {line})" for name, line in self._script.others)
            said = ", ".join(list(names)[:_MOST_OTHERS])
            self._notes.append(f"what else the script runs isn't in the recipe: {said}")
        if (shell := self._script.dialect) != "sh":
            self._notes.append(
                f"it was read as a command of {SHELLS[shell]} (it has {self._script.evidence})"
            )

    def _mixture(self, words: Sequence[Word]) -> str:
        """Return the type behind the paths; "" and a problem if there is none."""
        ik = self._custom is not None
        where = 1 if len(words) > 1 and type_name(words[1].text, ik=ik) else 2
        if len(words) <= where:
            if len(words) == 2 and words[1].missing:
                self._refuse_unknown("the type", words[1])
            else:
                what = "the command doesn't end in a type that llama-quantize knows"
                remedy = self._call.cut or "write it whole: llama-quantize [options] IN.gguf OUT.gguf Q4_K_M"
                self._refuse(what, words[-1].line if words else self._call.line, remedy)
            return ""
        word, behind = words[where], words[where + 1 :]
        if word.missing:
            self._refuse_unknown("the type", word)
            return ""
        mixture = type_name(word.text, ik=ik)
        if not mixture:
            remedy = "options stand before the paths" if word.text.startswith("-") else ""
            after = ", ".join(it.text for it in behind if type_name(it.text, ik=ik))
            what = f"{word.text!r} isn't a type that llama-quantize knows, and stands where it looks for one"
            remedy = remedy or (
                f"the type {after} stands too far behind: IN.gguf OUT.gguf TYPE" if after else ""
            )
            self._refuse(what, word.line, remedy or self._call.cut or types_are(word.text))
            return ""
        if behind and not behind[0].missing and not re.match(r"\s*[+-]?\d", behind[0].text):
            said = " ".join(it.text for it in behind)
            what = (
                f"{quoted(said, 80)} stands behind the type, where llama-quantize takes {behind[0].text!r} "
                "for a number of threads and refuses it"
            )
            if where == 1 and word.text.upper() != mixture:
                what = (
                    f"llama-quantize takes {word.text!r}, which begins with a number, for the type {mixture}"
                )
            self._refuse(what, behind[0].line, "write options before the path of the model")
        self._notes += [
            f"the script doesn't set {_names(it)}: {it.text} is taken for a path"
            for it in words[:where]
            if it.missing
        ]
        if ignored := behind[1:]:
            said = " ".join(it.text for it in ignored)
            self._notes.append(
                f"{self._file}:{ignored[0].line}: llama-quantize ignores what stands behind the number of threads, so "
                f"it is left out here, too: {shortened(said, 80)}; options count before the path of the model alone"
            )
        return mixture

    def _values(self, name: str) -> tuple[str, ...]:
        """Return all values of an option that may be given several times."""
        return tuple(it.text for it in self._given.get(name, ()))

    def _refuse_unknown(self, what: str, word: Word) -> None:
        """Note a problem: a word has what the script doesn't say."""
        many = len(dict.fromkeys(word.missing)) > 1
        said = f"{what} isn't known: it has {_names(word)}, which {'are' if many else 'is'} set nowhere in the script"
        remedy = f"set {_names(word)} in a line above, or write the value in its place"
        if any(name.startswith("$(") for name in word.missing):
            said = f"{what} isn't known: {_names(word)} isn't understood, and nothing is run"
            remedy = "cut it, and write what it prints in its place"
        elif "several ways" in word.text or any("several ways" in name for name in word.missing):
            said, remedy = f"{what} isn't known: it has {_names(word)}", "write the value in its place"
        self._refuse(said, word.line, remedy)

    def _refuse(self, what: str, line: int, remedy: str = "") -> None:
        self._problems.append(Problem(what=what, remedy=remedy, file=self._file, line=line))


def commented_lines(script: Script) -> dict[str, tuple[str, int]]:
    """Return, for each `regex=type` of the lists that the script has with comments, its reason and line."""
    found: dict[str, tuple[str, int]] = {}
    for begin, text in script.notes:
        try:
            overrides = read_list(text, "", commas=True)
        except RecipeError:
            continue
        found |= {f"{it.regex}={it.type}": (it.why, begin + (it.line or 1) - 1) for it in overrides}
    return found


def type_name(text: str, *, ik: bool) -> str:
    """Return the name of the type that llama-quantize takes a word for; "" if it takes it for none."""
    name = text.upper()
    if name in MIXTURES:
        return name
    if ik and re.fullmatch(r"I?Q\d[\w]*|BF16\w*|MXFP4\w*", name):
        return name  # ik_llama.cpp has types of its own
    if match := re.match(
        r"\s*\+?(\d{1,4})", text
    ):  # as std::stoi: what stands behind the number doesn't count
        number = file_type_name(int(match[1])) or ""
        return number if number in MIXTURES else ""
    return ""


def types_are(text: str) -> str:
    """Say what to write instead of a type that isn't known."""
    if re.fullmatch(r"I?Q\d_\w+", text.upper()):
        return "types of ik_llama.cpp are taken where the command has --custom-q; give the GGUF itself, if there is one"
    return "write it whole: llama-quantize [options] IN.gguf OUT.gguf Q4_K_M"


def _as_rule(option: str) -> str:
    role = option.removeprefix("--").removesuffix("-type").replace("-", "_")
    return rf"blk\..*\.{role}\.weight=TYPE"


def _names(word: Word) -> str:
    return ", ".join(dict.fromkeys(word.missing))


def _read_file(path: Path) -> list[Override]:
    try:
        if not path.is_file():
            raise RecipeError("there is no such file", "check the path", file=path)
        return read_list(decoded(path.read_bytes()), str(path), words=True)
    except (OSError, ValueError) as error:
        raise RecipeError(f"can't be read: {error}", file=path) from None


def _numbers(values: Sequence[str], file: str) -> Iterator[int]:
    for text in ",".join(values).split(",") if values else ():
        number = whole_number(text.strip(), 6)
        if number is None:
            raise RecipeError(f"{text[:20]!r} is no layer", "write --prune-layers 3,4", file=file)
        yield number


def _pair(text: str, file: str) -> tuple[str, GGUFValue]:
    """Read `KEY=TYPE:VALUE`. Whole numbers become u32, as in llama-quantize."""
    key, equals, said = text.partition("=")
    kind, colon, value = said.partition(":")
    try:
        if key and equals and colon:
            if kind == "int":
                return key, GGUFValue.of(ValueType.UINT32, abs(int(value)) % 2**32)
            if kind == "float":
                return key, GGUFValue.of(ValueType.FLOAT32, float(value))
            if kind == "bool" and value in ("true", "false"):
                return key, GGUFValue.of(ValueType.BOOL, value == "true")
            if kind == "str":
                return key, GGUFValue.of(ValueType.STRING, value)
    except (ValueError, ModelError):
        pass
    raise RecipeError(
        f"{text[:80]!r} isn't like KEY=TYPE:VALUE", "types are int, float, bool and str", file=file
    )
