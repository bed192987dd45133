"""Pooling: how an embedding model's token vectors become one, by the modules.json of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.json_file import read_json_object, read_text
from quantrecipe.model.pairs import Pairs, u32

__all__ = ["pooling_pairs"]

_POOLING_FLAGS = {"mean_tokens": 1, "cls_token": 2, "lasttoken": 3}  # llama.cpp: enum llama_pooling_type
_POOLING_MODES = {"mean": 1, "cls": 2, "lasttoken": 3}


def pooling_pairs(arch: str, config: Config) -> Pairs:
    """Make the key of the pooling type, for folders that have one."""
    modules = config.folder / "modules.json"
    if not modules.is_file() or (name := _pooling_module(modules)) is None:
        return {}
    settings_file = config.folder / name / "config.json"
    settings = read_json_object(settings_file)
    for mode, number in _POOLING_FLAGS.items():
        if settings.get(f"pooling_mode_{mode}"):
            return {f"{arch}.pooling_type": u32(number)}
    if (chosen := str(settings.get("pooling_mode"))) in _POOLING_MODES:
        return {f"{arch}.pooling_type": u32(_POOLING_MODES[chosen])}
    raise ModelError(
        "asks for a kind of pooling that llama.cpp doesn't have (it has: mean, cls, lasttoken)",
        "remove modules.json to convert the model without",
        file=settings_file,
    )


def _pooling_module(path: Path) -> str | None:
    """Return the name of the pooling module's folder; None where there is no such module."""
    try:
        modules: Any = json.loads(read_text(path))
        for module in modules:
            if module["type"].endswith("Pooling"):
                name = str(module["path"])
                if not name.isprintable():
                    raise ValueError(name)
                if Path(name).is_absolute() or ".." in Path(name).parts:
                    raise ModelError(
                        f"points outside its folder: {name!r}", "use models that you trust", file=path
                    )
                return name
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError("is not a list of modules", "mend it or remove it", file=path) from error
    return None
