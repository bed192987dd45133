"""What a target begins with: files of tests/data/fuzz/TARGET, and examples that the repository has anyway."""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz.models import OF_JSON, OTHERS
from support.chat_templates import TEMPLATES
from support.huggingface import DATA as FOLDERS

__all__ = ["CORPUS", "seeds", "stored"]

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
CORPUS = DATA / "fuzz"
_LONG = 20_000


def stored(target: str) -> list[Path]:
    """The files that are kept for a target."""
    return sorted(path for path in (CORPUS / target).glob("*") if path.is_file())


def seeds(target: str) -> list[bytes]:
    """All that a target begins with; never nothing."""
    found = [path.read_bytes() for path in stored(target)]
    if target in _MORE:
        found += _MORE[target]()
    return found or [b""]


def _recipes() -> Iterator[bytes]:
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        yield path.read_bytes()


def _configs() -> Iterator[bytes]:
    """config.json of every recorded architecture, behind its name."""
    with lzma.open(DATA / "architectures/recorded.tar.xz") as file, tarfile.open(fileobj=file) as archive:
        for member in archive:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[3] == "config.json":
                content = archive.extractfile(member)
                assert content is not None
                yield parts[0].encode() + b"\n" + content.read()


def _companions() -> Iterator[bytes]:
    """The other JSON files of those, behind the same and their own name."""
    with lzma.open(DATA / "architectures/recorded.tar.xz") as file, tarfile.open(fileobj=file) as archive:
        for member in archive:
            name, kind, _, *rest = [*member.name.split("/"), "", ""]
            place = "/".join(filter(None, rest))
            if kind == "hf" and place.endswith(".json") and place not in ("config.json", "tokenizer.json"):
                content = archive.extractfile(member)
                assert content is not None
                if len(data := content.read()) < _LONG:
                    yield f"{name} {place}\n".encode() + data


def _tokenizers() -> Iterator[bytes]:
    for number, _ in enumerate(OF_JSON):
        for path in sorted([*FOLDERS.glob("*/tokenizer.json"), *DATA.glob("tokenizers/*/tokenizer.json")]):
            if path.stat().st_size < _LONG:
                yield bytes([number]) + path.read_bytes()


def _tokenizer_configs() -> Iterator[bytes]:
    for path in sorted(FOLDERS.glob("*/tokenizer_config.json")):
        odd = (path.parent / "tokenizer.model").exists()
        yield bytes([odd]) + path.read_bytes()


def _vocabularies() -> Iterator[bytes]:
    for path in sorted([*FOLDERS.glob("*/*.model"), *DATA.glob("tokenizers/*/*.model")]):
        for number, (name, _) in enumerate(OTHERS.items()):
            if path.name == name and path.stat().st_size < _LONG:
                yield bytes([number]) + path.read_bytes()


def _shapes() -> Iterator[bytes]:
    for path in sorted((DATA / "shapes/zoo").glob("*.json")):
        if path.stat().st_size < 8_000:
            yield path.read_bytes()


def _templates() -> Iterator[bytes]:
    for text in TEMPLATES.values():
        yield text.encode()


_MORE: dict[str, Callable[[], Iterator[bytes]]] = {
    "card": lambda: (path.read_bytes() for path in sorted(FOLDERS.glob("*/generation_config.json"))),
    "companion": _companions,
    "config": _configs,
    "recipe": _recipes,
    "shapes": _shapes,
    "template": _templates,
    "tokenizer": _tokenizers,
    "tokenizer_config": _tokenizer_configs,
    "vocabulary": _vocabularies,
    "yaml": _recipes,
}
