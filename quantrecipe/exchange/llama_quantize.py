"""Reads llama-quantize's command line, and the files for its `--tensor-type-file`.

Facts from llama.cpp (tools/quantize/quantize.cpp): options stand before the paths, and the first word that doesn't
begin with `--` is the input. `IN TYPE` and `IN OUT TYPE` are both right; a number counts as a type, also at the
beginning of a word (`7b.gguf` is type 7). Behind the type stands a number of threads, and what is behind that is
never looked at. ik_llama.cpp's program (examples/quantize/quantize.cpp) reads its own options in the same way.

What a command means for a model is `simulate`'s to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from quantrecipe.errors import ModelError, Problem, RecipeError
from quantrecipe.exchange.command import MIXTURES, Command
from quantrecipe.exchange.overrides import Override, read_list, read_override
from quantrecipe.exchange.scripts.call import Call, Script, Word
from quantrecipe.exchange.scripts.script import SHELLS, decoded, read_script
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.wording import quoted, shortened

__all__ = ["read_command", "read_list_for"]

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
_MOST_SHOWN = 12
"""Commands that a list of them names."""
_MOST_OTHERS = 6
"""Other programs that a note names."""


def read_command(text: str, folder: Path, *, file: str, number: int | None = None) -> Command:
    """Read the command of a script, or of a line as one would type it.

    folder: what the paths of `--tensor-type-file` start from
    number: which one, from 1, where there are several
    RecipeError with a line for each word that isn't understood; where there are several commands, with their lines.
    """
    script = read_script(text, file, lambda path: _text_of(folder / path))
    calls = script.calls or _bare_call(text, file)
    if not calls:
        raise RecipeError(
            _none(script), "write it whole: llama-quantize [options] IN.gguf OUT.gguf Q4_K_M", file=file
        )
    if number is not None and number > len(calls):
        raise RecipeError(f"there is no command {number}: it has {len(calls)}", file=file)
    reader = _Reader(script, folder, file)
    if number is None and len(calls) > 1:
        return _only(calls, reader, file)
    return reader.read(calls[(number or 1) - 1])


def _only(calls: Sequence[Call], reader: _Reader, file: str) -> Command:
    """Return the command that all of them are, if they differ in their paths alone."""
    commands = []
    for call in calls:
        try:
            commands.append(reader.read(call))
        except RecipeError:
            break
    if len(commands) == len(calls) and all(it == commands[0] for it in commands):
        return commands[0]
    problems = [
        Problem(
            what=f"command {number}: llama-quantize {_shown(call)}",
            file=file,
            line=call.line,
        )
        for number, call in enumerate(calls[:_MOST_SHOWN], start=1)
    ]
    more = f" ({len(calls) - _MOST_SHOWN} more than are shown here)" if len(calls) > _MOST_SHOWN else ""
    what = f"has {len(calls)} commands of llama-quantize{more}, and a recipe is one mix"
    first = Problem(what=what, remedy="choose one with --command N", file=file)
    raise RecipeError([first, *problems])


def _shown(call: Call) -> str:
    text = " ".join(word.text for word in call.words)
    return text if len(text) <= 100 else f"{text[:40]} … {text[-56:]}"


def _none(script: Script) -> str:
    names = ", ".join(f"{name} (line {line})" for name, line in script.others[:6])
    return "there is no command of llama-quantize in it" + (f", only of {names}" if names else "")


def _bare_call(text: str, file: str) -> tuple[Call, ...]:
    """Read a line that has only the arguments."""
    if not re.match(r"\s*--[a-z]|\s*\S+\.gguf\s", text):
        return ()
    calls = read_script(f"llama-quantize {text.lstrip()}", file).calls
    return calls[:1]


class _Reader:
    """Reads the words of calls as llama-quantize does."""

    def __init__(self, script: Script, folder: Path, file: str) -> None:
        self._script = script
        self._folder = folder
        self._file = file
        self._whys = _whys(script)

    def read(self, call: Call) -> Command:
        problems: list[Problem] = []
        notes: list[str] = []
        given: dict[str, list[Word]] = {}
        overrides: list[Override] = []
        custom: list[Override] | None = None
        words = list(call.words)
        while words and words[0].text.startswith("--"):
            option = words.pop(0)
            name = option.text
            if name in _NOT_SAID:
                remedy = _MEND.get(name, rf"write it as a rule of --custom-q: {_as_rule(name)}")
                problems.append(self._problem(f"{name} {_NOT_SAID[name]}", option.line, remedy))
                words = words[1:]
                continue
            if name not in (*_WITH_VALUE, *_ALONE, *_IK_WITH_VALUE, *_IK_ALONE):
                what = f"{name!r} isn't an option of llama-quantize"
                problems.append(self._problem(what, option.line, "leave it out, if it is a newer one"))
                continue
            value = Word(text="", line=option.line)
            if name in (*_WITH_VALUE, *_IK_WITH_VALUE):
                if not words:
                    problems.append(self._problem(f"{name} has no value", option.line, call.cut))
                    break
                value = words.pop(0)
            if value.missing and name not in ("--imatrix", "--max-buffer-size", "--repack-pattern"):
                problems.append(self._unknown(f"the value of {name}", value))
                continue
            given.setdefault(name, []).append(value)
            try:
                if name == "--tensor-type":
                    overrides.append(self._override(value))
                elif name == "--tensor-type-file":
                    overrides += self._list_file(value)
                elif name == "--custom-q":
                    custom = [*(custom or []), *self._custom(value)]
            except RecipeError as error:
                problems += error.at(self._file, value.line)
        mixture, more = self._rest(words, call, problems, ik=custom is not None)
        notes += more
        imatrix = given.get("--imatrix", [None])[-1]
        if imatrix is not None and imatrix.missing:
            notes.append(
                f"the path of the importance matrix isn't known, since the script doesn't set {_names(imatrix)}: "
                "give it with --imatrix when the recipe is applied"
            )
        if given.get("--include-weights") and given.get("--exclude-weights"):
            what = "llama-quantize refuses --include-weights and --exclude-weights together"
            problems.append(self._problem(what, call.line, "leave one out"))
        metadata: dict[str, GGUFValue] = {}
        prune: list[int] = []
        try:
            metadata = dict(_pair(it.text, self._file) for it in given.get("--override-kv", []))
            prune = list(_numbers([it.text for it in given.get("--prune-layers", [])], self._file))
        except RecipeError as error:
            problems += error.at(self._file, call.line)
        label = None
        number = metadata.pop(_FILE_TYPE, None)  # a recipe sets it by `file_type`
        if number is not None and number.type in (ValueType.UINT32, ValueType.FLOAT32):
            label = file_type_name(number.decode())
            if label is None:
                notes.append(
                    f"there is no file_type {number.decode()}: --override-kv {_FILE_TYPE} is left out"
                )
        notes += [
            f"{name} is about packing the rows of ik_llama.cpp's files anew, and isn't in the recipe"
            for name in ("--repack", "--repack-pattern", "--partial-requant")
            if name in given
        ]
        if problems:
            raise RecipeError(problems)
        if self._script.others:
            names = dict.fromkeys(f"{name} (line {line})" for name, line in self._script.others)
            said = ", ".join(list(names)[:_MOST_OTHERS])
            notes.append(f"what else the script runs isn't in the recipe: {said}")
        if (shell := self._script.dialect) != "sh":
            notes.append(f"it was read as a command of {SHELLS[shell]} (it has {self._script.evidence})")
        last = {name: values[-1].text for name, values in given.items()}
        return Command(
            mixture=mixture,
            overrides=tuple(overrides),
            pure="--pure" in given,
            leave_output="--leave-output-tensor" in given,
            output_type=last.get("--output-tensor-type"),
            embedding_type=last.get("--token-embedding-type"),
            imatrix=None if imatrix is None else "" if imatrix.missing else imatrix.text,
            include=tuple(it.text for it in given.get("--include-weights", ())),
            exclude=tuple(it.text for it in given.get("--exclude-weights", ())),
            prune=tuple(prune),
            metadata=metadata,
            label=label,
            custom=None if custom is None else tuple(custom),
            notes=tuple(notes),
        )

    def _rest(
        self, words: Sequence[Word], call: Call, problems: list[Problem], *, ik: bool
    ) -> tuple[str, list[str]]:
        """Return the type behind the paths, and notes on what llama-quantize never looks at."""
        where = 1 if len(words) > 1 and _type(words[1].text, ik=ik) else 2
        if len(words) <= where:
            remedy = call.cut or "write it whole: llama-quantize [options] IN.gguf OUT.gguf Q4_K_M"
            what = "the command doesn't end in a type that llama-quantize knows"
            if len(words) == 2 and words[1].missing:
                problems.append(self._unknown("the type", words[1]))
            else:
                problems.append(self._problem(what, words[-1].line if words else call.line, remedy))
            return "", []
        word = words[where]
        if word.missing:
            problems.append(self._unknown("the type", word))
            return "", []
        mixture = _type(word.text, ik=ik)
        if not mixture:
            remedy = "options stand before the paths" if word.text.startswith("-") else ""
            after = ", ".join(it.text for it in words[where + 1 :] if _type(it.text, ik=ik))
            what = f"{word.text!r} isn't a type that llama-quantize knows, and stands where it looks for one"
            remedy = remedy or (
                f"the type {after} stands too far behind: IN.gguf OUT.gguf TYPE" if after else ""
            )
            problems.append(self._problem(what, word.line, remedy or call.cut or _types_are(word.text)))
            return "", []
        behind = words[where + 1 :]
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
            remedy = "write options before the path of the model"
            problems.append(self._problem(what, behind[0].line, remedy))
        notes = [
            f"the script doesn't set {_names(it)}: {it.text} is taken for a path"
            for it in words[:where]
            if it.missing
        ]
        ignored = behind[1:]
        if not ignored:
            return mixture, notes
        said = " ".join(it.text for it in ignored)
        return mixture, [
            *notes,
            f"{self._file}:{ignored[0].line}: llama-quantize ignores what stands behind the number of threads, so it "
            f"is left out here, too: {shortened(said, 80)}; options count before the path of the model alone",
        ]

    def _unknown(self, what: str, word: Word) -> Problem:
        many = len(dict.fromkeys(word.missing)) > 1
        commands = any(name.startswith("$(") for name in word.missing)
        said = f"{what} isn't known: it has {_names(word)}, which {'are' if many else 'is'} set nowhere in the script"
        remedy = f"set {_names(word)} in a line above, or write the value in its place"
        if commands:
            said = f"{what} isn't known: {_names(word)} isn't understood, and nothing is run"
            remedy = "cut it, and write what it prints in its place"
        elif "several ways" in word.text or any("several ways" in name for name in word.missing):
            said, remedy = f"{what} isn't known: it has {_names(word)}", "write the value in its place"
        return self._problem(said, word.line, remedy)

    def _problem(self, what: str, line: int, remedy: str = "") -> Problem:
        return Problem(what=what, remedy=remedy, file=self._file, line=line)

    def _override(self, word: Word) -> Override:
        why, line = self._whys.get(word.text, ("", word.line))
        return read_override(word.text, why=why, line=line)

    def _list_file(self, word: Word) -> list[Override]:
        """Read a file that the script writes itself, or one beside it."""
        if (text := self._script.files.get(word.text)) is not None:
            return read_list(text, word.text, words=True)
        return _read_file(self._folder / word.text)

    def _custom(self, word: Word) -> list[Override]:
        """Read the rules of ik_llama.cpp. Their reasons are the comments that the text had before it was cleaned."""
        found = read_list(word.text, self._file, commas=True)
        reasons = [self._whys.get(f"{it.regex}={it.type}", (it.why, word.line)) for it in found]
        return [replace(it, why=why, line=line) for it, (why, line) in zip(found, reasons, strict=True)]


def _whys(script: Script) -> dict[str, tuple[str, int]]:
    """Return, for each `regex=type` of the lists that the script has with comments, its reason and line."""
    found: dict[str, tuple[str, int]] = {}
    for begin, text in script.notes:
        try:
            overrides = read_list(text, "", commas=True)
        except RecipeError:
            continue
        found |= {f"{it.regex}={it.type}": (it.why, begin + (it.line or 1) - 1) for it in overrides}
    return found


def _type(text: str, *, ik: bool) -> str:
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


def _types_are(text: str) -> str:
    if re.fullmatch(r"I?Q\d_\w+", text.upper()):
        return "types of ik_llama.cpp are taken where the command has --custom-q; give the GGUF itself, if there is one"
    return "write it whole: llama-quantize [options] IN.gguf OUT.gguf Q4_K_M"


def _as_rule(option: str) -> str:
    role = option.removeprefix("--").removesuffix("-type").replace("-", "_")
    return rf"blk\..*\.{role}\.weight=TYPE"


def _names(word: Word) -> str:
    return ", ".join(dict.fromkeys(word.missing))


def read_list_for(text: str, mixture: str, *, pure: bool = False, file: str) -> Command:
    """Read a `--tensor-type-file` for this type. It may have comments, though llama-quantize doesn't know them."""
    overrides = tuple(read_list(text, file, words=True))
    name = _type(mixture, ik=False)
    if not name:
        raise RecipeError(
            f"--base {mixture}: llama-quantize knows no such type", _types_are(mixture), file=file
        )
    return Command(mixture=name, overrides=overrides, pure=pure)


def _text_of(path: Path) -> str | None:
    """Return what is in a file that a script reads; None if that can't be known."""
    try:
        if not path.is_file() or path.stat().st_size > 1 << 20:
            return None
        return decoded(path.read_bytes())
    except (OSError, ValueError):
        return None


def _read_file(path: Path) -> list[Override]:
    try:
        if not path.is_file():
            raise RecipeError("there is no such file", "check the path", file=path)
        return read_list(decoded(path.read_bytes()), str(path), words=True)
    except (OSError, ValueError) as error:
        raise RecipeError(f"can't be read: {error}", file=path) from None


def _numbers(values: Sequence[str], file: str) -> Iterator[int]:
    for number in ",".join(values).split(",") if values else ():
        if not number.strip().isdigit() or len(number) > 6:
            raise RecipeError(f"{number[:20]!r} is no layer", "write --prune-layers 3,4", file=file)
        yield int(number)


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
