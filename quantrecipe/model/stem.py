"""model_stem: what files about a model are called after."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["model_stem"]

# The type in a model's name: the output has another.
_SOURCE_TYPE = re.compile(r"[-_.](bf16|f16|fp16|f32|fp32)$", re.IGNORECASE)
_MODEL_FILE = re.compile(r"\.(gguf|safetensors|safetensors\.index\.json|json)$")
# What llama.cpp and Hugging Face write at the end of a shard's name.
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def model_stem(model: Path) -> str:
    """What files about a model are called after: "tiny-code" for its folder, and for the weights in it.

    Links aren't followed: in Hugging Face's cache they lead to files that are named after their hashes.
    """
    path = Path(os.path.abspath(model))  # noqa: PTH100  # resolve() follows links
    if path.is_dir():
        stem = _folder_name(path)
    elif path.name.startswith("model") and ".safetensors" in path.name:  # the folder's name says more
        stem = _folder_name(path.parent)
    else:
        stem = _SHARD.sub("", _MODEL_FILE.sub("", path.name))
    return _SOURCE_TYPE.sub("", stem) or "model"


def _folder_name(folder: Path) -> str:
    """Its name; in Hugging Face's cache that of the model: models--ORG--NAME/snapshots/COMMIT."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rsplit("--", 1)[-1]
    return folder.name
