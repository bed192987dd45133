"""Chat templates: from tokenizer_config.json, chat_template.jinja or chat_template.json; one, or several by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.json_file import read_json_object, read_text
from quantrecipe.model.pairs import Pairs, text, texts

__all__ = ["chat_template_pairs"]

_KEY = "tokenizer.chat_template"
_JINJA = "chat_template.jinja"


def chat_template_pairs(folder: Path, config: Mapping[str, Any] | None, *, file_first: bool = False) -> Pairs:
    """The keys of the templates. A folder without tokenizer_config.json has none.

    `file_first`: chat_template.jinja comes before all else.
    """
    jinja = folder / _JINJA
    if file_first and jinja.is_file():
        return {_KEY: text(_universal(read_text(jinja)))}
    if config is None:
        return {}
    template = config["chat_template"] if "chat_template" in config else _beside(folder)
    if isinstance(template, str):
        return {_KEY: text(template)} if template else {}
    if not isinstance(template, list):
        return {}
    try:
        return _named([(str(choice.get("name", "")), choice.get("template")) for choice in template])
    except AttributeError as error:
        what = "has a chat_template that is neither a text nor a list of named templates"
        raise ModelError(what, "mend it or remove it", file=folder / "tokenizer_config.json") from error


def _beside(folder: Path) -> Any:
    """Read the template from a file of its own."""
    jinja = folder / _JINJA
    if jinja.is_file():
        default = _universal(read_text(jinja))
        others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
        if not others:
            return default
        named = [{"name": file.stem, "template": _universal(read_text(file))} for file in others]
        return [{"name": "default", "template": default}, *named]
    other = folder / "chat_template.json"
    return read_json_object(other).get("chat_template") if other.is_file() else None


def _universal(content: str) -> str:
    """Make line ends as Python's text files have them."""
    return content.replace("\r\n", "\n").replace("\r", "\n")


def _named(choices: list[tuple[str, Any]]) -> Pairs:
    """Each under its own key, a list of their names, and the default. The names stand in order: sets have none."""
    pairs: Pairs = {}
    names: set[str] = set()
    default: str | None = None
    for given, template in choices:
        name = re.sub(r"[^A-Za-z0-9]", "_", given)
        if not name or not isinstance(template, str):
            continue
        if name == "default":
            default = template
            continue
        names.add(name)
        if template:
            pairs[f"{_KEY}.{name}"] = text(template)
    if names:
        pairs["tokenizer.chat_templates"] = texts(sorted(names))
    if default:
        pairs[_KEY] = text(default)
    return pairs
