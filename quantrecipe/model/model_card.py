"""general.*: what a folder's name, config.json, model card and generation settings say about the model.

gguf's own heuristics do the work, so that names and labels are those of llama.cpp's converter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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


def general_pairs(
    folder: Path, arch: str, parameters: tuple[int, int, int, int], *, type: str = gguf.GGUFType.MODEL
) -> Pairs:
    """The general.* keys but those of a quantization. `parameters`: total, shared, per expert, experts.

    `type` is that of the file: "model", or "mmproj" for a projector.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  # resolve() would follow links, and change the name
    try:
        card = gguf.Metadata.load(None, folder, None, parameters[0])
    except yaml.YAMLError as error:
        what = f"its front matter is not valid YAML: {str(error).splitlines()[0]}"
        raise ModelError(what, "mend it, or remove it", file=folder / "README.md") from error
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
    card.set_gguf_meta_model(writer)
    try:
        return _written(writer.kv_data[0])
    except (ModelError, UnicodeEncodeError) as error:
        what = f"config.json, generation_config.json or README.md says what no GGUF can hold: {error}"
        raise ModelError(what, "correct or remove it", file=folder) from error


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
