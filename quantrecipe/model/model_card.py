"""general.*: what a folder's name, config.json, model card and generation settings say about the model.

gguf's own heuristics do the work, so that names and labels are those of llama.cpp's converter. They read YAML, in which
few lines can say as much as gigabytes hold (lists of an alias, of lists of an alias, …); that is refused before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import gguf
import yaml

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.architectures.config import MAX_FLOAT32, shown
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, text, texts

__all__ = ["general_pairs"]

_MOST_FRONT = 1 << 20  # characters; results of a hundred benchmarks have a third of that
_MOST_NODES = 50_000  # values, each counted wherever an alias puts it
_NODE_CHARACTERS = 16  # of a long text, so many count as another value
_MOST_DEPTH = 100  # PyYAML's time grows with the square of it, until Python's stack ends it
_CARD = "README.md"


def general_pairs(
    folder: Path, arch: str, parameters: tuple[int, int, int, int], *, type: str = gguf.GGUFType.MODEL
) -> Pairs:
    """The general.* keys but those of a quantization. `parameters`: total, shared, per expert, experts.

    `type` is that of the file: "model", or "mmproj" for a projector.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  # resolve() would follow links, and change the name
    _check_front_matter(folder / _CARD)
    try:
        card = gguf.Metadata.load(None, folder, None, parameters[0])
    except yaml.YAMLError as error:
        what = f"its front matter is not valid YAML: {str(error).splitlines()[0]}"
        raise ModelError(what, "mend it, or remove it", file=folder / _CARD) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"its config.json or model card can't be understood: {error}"
        raise ModelError(what, "mend or remove README.md", file=folder) from error
    if card.name is None:
        card.name = folder.name
    if card.sampling_penalty_repeat is None:
        # gguf before 0.20 doesn't know Hugging Face's own name for it
        card.sampling_penalty_repeat = _generation(folder).get("repetition_penalty")
    if card.size_label is None and parameters[0]:
        card.size_label = gguf.size_label(*parameters)
    writer = gguf.GGUFWriter(path=None, arch=arch)
    writer.add_type(type)
    try:
        card.set_gguf_meta_model(writer)
        return _written(writer.kv_data[0])
    except (ModelError, ValueError, TypeError, AttributeError) as error:
        what = f"config.json, generation_config.json or README.md says what no GGUF can hold: {error}"
        raise ModelError(what, "correct or remove it", file=folder) from error


def _check_front_matter(path: Path) -> None:
    """ModelError for a card whose front matter is too long, or says far more than it is long. gguf reads the rest.

    Lines end, and tabs are blanks, as in gguf's reader: what ends one is more than \\n (`str.splitlines`).
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            content = file.read(_MOST_FRONT + len("---\n---\n"))
    except OSError:  # none, or one that gguf can't read either
        return
    first, *lines = content.splitlines() or [""]
    if first != "---":
        return
    if "---" in lines:
        lines = lines[: lines.index("---")]
    elif len(content) > _MOST_FRONT:
        what = f"its front matter has more than {_MOST_FRONT:,} characters"
        raise ModelError(what, "shorten it, or remove it", file=path)
    text = "\n".join(lines).replace("\t", "  ")
    nodes, depth = _nodes(text)
    if nodes > _MOST_NODES and "&" in text and "*" in text:
        what = f"its front matter says more than {_MOST_NODES:,} values, by aliases of aliases"
        raise ModelError(what, "mend it, or remove it", file=path)
    if depth > _MOST_DEPTH:
        what = f"its front matter has lists and mappings nested deeper than {_MOST_DEPTH}"
        raise ModelError(what, "mend it, or remove it", file=path)


def _nodes(text: str) -> tuple[int, int]:
    """How many values a YAML text has, those of an anchor counted at each of its aliases; and how deep they are nested.

    Whatever is beyond what is allowed is looked at no further.
    """
    sizes: dict[str, int] = {}
    opened: list[
        tuple[str | None, int]
    ] = []  # the anchor of each list and mapping around, and what was counted before
    count = deepest = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            match event:
                case yaml.AliasEvent(anchor=anchor):
                    count += sizes.get(anchor or "", 1)
                case yaml.ScalarEvent(anchor=anchor, value=value):
                    sizes[anchor or ""] = 1 + len(value) // _NODE_CHARACTERS
                    count += sizes[anchor or ""]
                case yaml.SequenceStartEvent(anchor=anchor) | yaml.MappingStartEvent(anchor=anchor):
                    opened.append((anchor, count))
                    count += 1
                    deepest = max(deepest, len(opened))
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    anchor, before = opened.pop()
                    sizes[anchor or ""] = count - before
            if count > _MOST_NODES or deepest > _MOST_DEPTH:
                break
    except (
        yaml.YAMLError,
        RecursionError,
    ):  # gguf says what is wrong, but not of what libyaml finds too deep at once
        return 0, max(accumulate((sign in "[{") - (sign in "]}") for sign in text), default=0)
    return count, deepest


def _generation(folder: Path) -> Mapping[str, Any]:
    file = folder / "generation_config.json"
    try:
        return read_json_object(file) if file.is_file() else {}
    except ModelError:
        return {}  # the converter overlooks a broken one, too


def _written(pairs: Mapping[str, Any]) -> Pairs:
    """gguf's values → ours. What a model card holds may be of any type; a GGUF's texts are texts."""
    made: Pairs = {}
    for key, value in pairs.items():
        type_ = ValueType(int(value.type))
        if type_ is ValueType.STRING:
            made[key] = text(str(value.value))
        elif type_ is ValueType.ARRAY:
            made[key] = texts(str(item) for item in value.value)
        elif isinstance(value.value, int | float) and abs(value.value) <= MAX_FLOAT32:
            made[key] = GGUFValue.of(type_, value.value)
        else:
            raise ModelError(f"{key.removeprefix('general.')} is {shown(value.value)} (expected: a number)")
    return made
