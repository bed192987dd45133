"""Target: where the file is meant to run. What runs there, and how well, is in the table of quantrecipe.targets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.yaml_document import Node

__all__ = ["DEVICES", "ENGINES", "TARGET_KEYS", "Target", "read_target", "target_keys"]

# The engines of targets/targets.toml; a test holds the two together.
ENGINES = ("llama.cpp", "ik_llama.cpp", "ollama", "lm-studio")
DEVICES = ("cpu", "cuda", "metal", "vulkan")
TARGET_KEYS = ("engine", "build", "device")

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the file is meant to run.

    engine: one of ENGINES
    build:  "b7000" for llama.cpp's builds, "0.12.3" for a version; None: a recent one
    device: one of DEVICES; None: any
    """

    engine: str
    build: str | None
    device: str | None
    origin: Origin


def read_target(node: Node | None, read: Reader) -> Target | None:
    """Read the key `target` of one file."""
    if node is None:
        return None
    if node.kind == "text" and node.value in ENGINES:
        read.add(node, "target must be a mapping, not a text", f"write {{engine: {node.value}}}")
        return None
    keys = read.mapping(node, "target", TARGET_KEYS)
    if keys is None:
        return None
    if "engine" not in keys:
        read.add(node, "the target has no `engine`", f"name one of: {', '.join(ENGINES)}")
    engine = read.choice(keys.get("engine"), "engine", ENGINES)
    build = _build(keys.get("build"), read)
    device = read.choice(keys.get("device"), "device", DEVICES)
    if engine is None:
        return None
    return Target(engine=engine, build=build, device=device, origin=Origin(file=read.file, line=node.line))


def target_keys(target: Target) -> dict[str, str]:
    """Return the target as the key `target` has it."""
    said = {"engine": target.engine, "build": target.build, "device": target.device}
    return {key: value for key, value in said.items() if value is not None}


def _build(node: Node | None, read: Reader) -> str | None:
    """Read a build: `b7000`, or 7000, which is the same."""
    if node is not None and node.kind == "number":
        if isinstance(node.value, int) and node.value > 0:
            return f"b{node.value}"
        read.add(
            node, "build must be a build's number or a version", 'write b7000, or a version in quotes: "0.12"'
        )
        return None
    text = read.text(node, "build", line=True)
    return f"b{text}" if text and _NUMBER.fullmatch(text) else text
