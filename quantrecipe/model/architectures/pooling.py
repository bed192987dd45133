"""Pooling: how an embedding model's token vectors become one.

sentence-transformers' modules.json says it for embeddings, and config.json for what a classifier sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.json_file import read_json_object, read_text
from quantrecipe.model.pairs import Pairs, u32

__all__ = ["pooling_pairs"]

_POOLING_FLAGS = {"mean_tokens": 1, "cls_token": 2, "lasttoken": 3}  # llama.cpp: enum llama_pooling_type
_POOLING_MODES = {"mean": 1, "cls": 2, "lasttoken": 3}
_CLASSIFIER_MODES = {"mean": 1, "cls": 2}


def pooling_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of the pooling type, and of the one in front of a classifier, for models that have them."""
    return _embedding_pairs(arch, config) | _classifier_pairs(arch, config)


def _classifier_pairs(arch: str, config: Config) -> Pairs:
    """Make the key of what a classifier sees; what else config.json says doesn't matter where there is none."""
    mode = config.find("classifier_pooling")
    if isinstance(mode, str) and mode in _CLASSIFIER_MODES:
        return {f"{arch}.classifier.pooling_type": u32(_CLASSIFIER_MODES[mode])}
    if mode is not None and any("classifier." in name for name in config.stored):
        what = f"says classifier_pooling: {shown(mode)} (what llama.cpp has: mean, cls)"
        config.fail(what, "no GGUF of this architecture can hold the model")
    return {}


def _embedding_pairs(arch: str, config: Config) -> Pairs:
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
