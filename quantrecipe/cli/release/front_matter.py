"""The front matter of a model card, which the hub reads: from the release, else from the model's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from quantrecipe.model.model import Model
from quantrecipe.release.hub_names import repo_problem
from quantrecipe.release.release import Release
from quantrecipe.remote_files import remote_file

__all__ = ["Origin", "front_matter", "origin_of"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_IDENTITY = re.compile(r"(?P<repo>[^/@\s:]+/[^/@\s]+)@(?P<commit>[0-9a-f]{40})/")
_ON_HUB = re.compile(r"https://huggingface\.co/([^/\s]+/[^/\s?#]+)/?")
_TAGS = ("gguf", "quantized", "quantrecipe")

Origin = tuple[str, str]
"""Where a model is on the hub: OWNER/NAME, and the commit; "" for what isn't known."""


def origin_of(release: Release, model: Model) -> Origin:
    """What the release says, else what the place of the model's files, or their metadata, says."""
    repo, commit = _place_of(model)
    if release.base_model:
        return release.base_model, commit if repo == release.base_model else ""
    if not repo:
        for key in ("general.source.repo_url", "general.repo_url", "general.source.url", "general.url"):
            if match := _ON_HUB.fullmatch(_text(model, key)):
                repo = match[1]
                break
    return (repo, commit) if repo and not repo_problem(repo) else ("", "")


def _place_of(model: Model) -> Origin:
    """Of a model that was named hf://OWNER/NAME, and of one in Hugging Face's own cache."""
    for path in model.files:
        file = remote_file(path)
        if file is not None and (match := _HUB_IDENTITY.match(file.identity)):
            return match["repo"], match["commit"]
    folder = model.path if model.path.is_dir() else model.path.parent
    return _in_cache(folder.absolute())


def _in_cache(folder: Path) -> Origin:
    """models--OWNER--NAME/snapshots/COMMIT."""
    owner, _, name = folder.parent.parent.name.removeprefix("models--").partition("--")
    if folder.parent.name == "snapshots" and name and _COMMIT.fullmatch(folder.name):
        return f"{owner}/{name}", folder.name
    return "", ""


def front_matter(release: Release, model: Model, origin: Origin, *, imatrix: bool) -> str:
    """YAML, a key a line. What isn't known isn't there."""
    license_ = release.license or _text(model, "general.license")
    said: dict[str, Any] = {
        "base_model": origin[0],
        "base_model_relation": "quantized" if origin[0] else "",
        "quantized_by": release.quantized_by,
        "license": license_,
        "license_name": _text(model, "general.license.name") if license_ == "other" else "",
        "license_link": _text(model, "general.license.link") if license_ == "other" else "",
        "language": list(release.languages or _texts(model, "general.languages")),
        "pipeline_tag": _pipeline(model),
        "tags": list(
            dict.fromkeys([*_TAGS, *(["imatrix"] if imatrix else []), *_tags(model), *release.tags])
        ),
    }
    return _yaml({key: value for key, value in said.items() if value})


def _pipeline(model: Model) -> str:
    """What the model is for, where its tags say it; the hub finds out by itself for others."""
    known = ("text-generation", "image-text-to-text", "feature-extraction", "text-ranking", "any-to-any")
    return next((tag for tag in _texts(model, "general.tags") if tag in known), "")


def _tags(model: Model) -> Sequence[str]:
    """Those of the model, without what is said in keys of its own."""
    return [tag for tag in _texts(model, "general.tags") if tag != _pipeline(model)]


def _text(model: Model, key: str) -> str:
    value = model.metadata.get(key)
    found = None if value is None else value.decode()
    return found if isinstance(found, str) else ""


def _texts(model: Model, key: str) -> Sequence[str]:
    value = model.metadata.get(key)
    found = None if value is None else value.decode()
    return [it for it in found if isinstance(it, str)] if isinstance(found, list) else []


def _yaml(said: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(said), sort_keys=False, allow_unicode=True, width=1000)
