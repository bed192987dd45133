"""What stands where something else was expected: a model in a recipe's place, a URL, a page that was downloaded.

Files are known by their first bytes, folders by what is in them. Nothing is believed: whoever reads the file checks it.
Who can't read what they were given ask here what it is, so that the message can say so, and what to do.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from quantrecipe.errors import QuantrecipeError
from quantrecipe.gguf.header import MAGIC, read_header
from quantrecipe.gguf.values import metadata_text
from quantrecipe.remote_files import is_elsewhere, remote_file

__all__ = ["Kind", "Role", "is_gguf_inside", "kind_of", "misplaced"]

Role = Literal["recipe", "model", "importance matrix", "lock", "losses", "release"]

_HOW: Mapping[Role, str] = MappingProxyType(
    {
        "recipe": "give it where a command has RECIPE",
        "model": "give it where a command has MODEL, or as --model",
        "importance matrix": "give it as --imatrix",
        "lock": "give it as --locked, or to `quantrecipe diff`",
        "losses": "give it as --sensitivity",
        "release": "give it to `quantrecipe release`",
    }
)
_HEAD = 1 << 16
_MAX_JSON = 1 << 26
_REPOSITORY = re.compile(
    r"(?P<owner>[A-Za-z0-9][\w.-]{0,95})/(?P<name>[A-Za-z0-9][\w.-]{0,95})(?::[\w.-]+)?", re.ASCII
)
"""A model's name on Hugging Face, with a tag behind it as llama.cpp's -hf takes it."""
# Each byte is looked at once or twice, whatever they are: the file may be anybody's.
_RECIPE = re.compile(rb"^(?:\xef\xbb\xbf)?[ \t{]*[\"']?quantrecipe[\"']?\s*:", re.MULTILINE)
_RELEASE = re.compile(rb"^(?:\xef\xbb\xbf)?[ \t{]*[\"']?release[\"']?[ \t]*:[ \t]*[0-9]", re.MULTILINE)
_COMMAND = re.compile(rb"\b(?:llama-quantize|quantize(?:\.exe)?)\b")
_LONGEST_NAME = 1024
"""Of an entry in a matrix in the .dat layout; see importance/from_dat.py."""

# Source: llama.cpp before August 2023, llama.h: LLAMA_FILE_MAGIC_GGML, GGMF, GGJT and GGLA, little-endian.
_OLD = (b"lmgg", b"fmgg", b"tjgg", b"algg")
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_PAGES = (b"<!doctype", b"<html", b"<?xml")
_ENDINGS = (".gguf", ".safetensors", ".yaml", ".yml", ".json", ".dat", ".lock")
"""Of files, which aren't names of models."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What a file, a folder or a text is.

    what:   "a GGUF model"
    role:   where it belongs; None where it belongs nowhere
    remedy: what to do with it; of those that have a role, where to give it
    """

    what: str
    role: Role | None = None
    remedy: str = ""


def misplaced(ref: str | Path, place: Role) -> tuple[str, str] | None:
    """What is wrong with giving this where such a thing is expected, and what to do; None if it may well be one."""
    kind = kind_of(ref)
    if kind is None or kind.role == place:
        return None
    if not os.path.lexists(ref):  # it isn't anything yet
        return f"is {kind.what}", kind.remedy
    article = "an" if place[0] in "aeiou" else "a"
    return f"is not {article} {place}, but {kind.what}", kind.remedy


def kind_of(ref: str | Path) -> Kind | None:
    """What a path, or a text in a path's place, is; None where that isn't known."""
    text = os.fspath(ref)
    if remote_file(Path(text)) is not None:
        remedy = "as a model it could be read there; download it, and give the file"
        return Kind(what="a file that lies elsewhere", role="model", remedy=remedy)
    if re.match(r"[A-Za-z][\w+.-]*:/{1,2}[^/\\]", text) and not os.path.lexists(
        text
    ):  # Path("https://x") has one /
        if text.startswith("hf:/"):
            return _known("model", "a model on the hub")
        if is_elsewhere(text):
            return _known("model", "the address of a model")
        if on_hub := re.match(r"https?:/{1,2}huggingface\.co/([\w.-]+/[\w.-]+)/?$", text, re.ASCII):
            return Kind(
                what="a page on the hub", remedy=f"write hf://{on_hub[1]} for the model that it is of"
            )
        return Kind(what="a URL", remedy="download it, and give the file or folder")
    if os.path.isdir(text):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        return _of_folder(Path(text))
    if not os.path.isfile(text):  # noqa: PTH113  # as above; a pipe is left alone: reading would take from it
        return None if os.path.lexists(text) else _of_repository(text)
    try:
        with Path(text).open("rb") as file:
            return _of_file(Path(text), file.read(_HEAD))
    except OSError:
        return None


def is_gguf_inside(path: Path) -> bool:
    """True for a file that begins as a GGUF does, whatever it is called."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _known(role: Role, what: str) -> Kind:
    return Kind(what=what, role=role, remedy=_HOW[role])


def _of_folder(folder: Path) -> Kind | None:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return None
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        return _known("model", "a folder with a model in it")
    if found := [name for name in names if name.endswith(".gguf")]:
        others = f" (or another of its {len(found)})" if len(found) > 1 else ""
        return Kind(what="a folder of GGUF files", remedy=f"give the file: {folder / found[0]}{others}")
    if found := [name for name in names if name.endswith(_PICKLES)]:
        what = f"a folder with PyTorch pickles ({found[0]}), which can run any code when they are opened"
        return Kind(what=what, remedy="get the model as .safetensors")
    if any(name.endswith((".yaml", ".yml")) for name in names):
        return Kind(what="a folder of YAML files", remedy="name one of them")
    return None


def _of_file(path: Path, head: bytes) -> Kind | None:
    """What a file is, by its first bytes, and where these don't say, by its text."""
    if not head:
        return Kind(what="an empty file", remedy="download or write it again")
    if head.startswith(MAGIC):
        return _of_gguf(path)
    if head.startswith(_OLD):
        return Kind(what="in a format that llama.cpp had before GGUF", remedy="get the model as a GGUF")
    if head.startswith(b"version https://git-lfs.github.com/"):
        return Kind(
            what="only a pointer of Git LFS to the file", remedy="fetch the file itself: git lfs pull"
        )
    if head[:64].lstrip().lower().startswith(_PAGES):
        return Kind(what="a web page", remedy="download the file itself")
    if head.startswith((b"PK\x03\x04", *(bytes((0x80, number)) for number in range(2, 6)))):
        if path.suffix in _PICKLES or b"data.pkl" in head or head.startswith(b"\x80"):
            what = "a PyTorch pickle, which can run any code when it is opened"
            return Kind(what=what, remedy="get the model as .safetensors or as a GGUF")
        return Kind(what="an archive", remedy="unpack it, and give what is in it")
    if head.startswith(_ARCHIVES):
        return Kind(what="an archive", remedy="unpack it, and give what is in it")
    if _is_safetensors(path, head):
        return _known("model", "a safetensors file")
    if _is_dat(head):
        return _known("importance matrix", "an importance matrix")
    return None if b"\0" in head else _of_text(path, head)


def _of_gguf(path: Path) -> Kind:
    try:
        header = read_header(path)
    except QuantrecipeError:
        return _known("model", "a GGUF file")
    if metadata_text(header.metadata, "general.type") == "imatrix":
        return _known("importance matrix", "an importance matrix")
    return _known("model", "a GGUF model")


def _of_text(path: Path, head: bytes) -> Kind | None:
    if _RECIPE.search(head):
        return _known("recipe", "a recipe")
    if path.suffix in (".yaml", ".yml") and _RELEASE.search(head):
        return _known("release", "the description of a release")
    if head.startswith(b"# A plan, frozen by `quantrecipe lock`"):
        return _known("lock", "a lock file")
    if head.startswith(b'{"quantrecipe_sensitivity"'):
        return _known("losses", "what `quantrecipe sensitivity` wrote")
    if head.lstrip().startswith(b"{"):
        return _of_json(path)
    command = None if path.suffix in (".yaml", ".yml", ".md") else _COMMAND.search(head)
    if command is not None and b".gguf" in head[command.end() :]:
        remedy = f"`quantrecipe import {path} --from llama-quantize` makes a recipe of it"
        return Kind(what="a command for llama-quantize", remedy=remedy)
    return None


def _of_json(path: Path) -> Kind | None:
    try:
        if path.stat().st_size > _MAX_JSON:
            return None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if "quantrecipe_shapes" in content:
        return _known("model", "a shape file")
    if "weight_map" in content:
        return _known("model", "the index of a model's safetensors files")
    if "architectures" in content or "model_type" in content:
        return Kind(what="a model's configuration", remedy=f"give the folder that it is in: {path.parent}")
    return None


def _is_safetensors(path: Path, head: bytes) -> bool:
    """A length of the header that fits into the file, and a { behind it."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    length = int(struct.unpack_from("<Q", head)[0])
    return 2 <= length <= path.stat().st_size - 8


def _is_dat(head: bytes) -> bool:
    """A number of entries, and the first one's name; see importance/from_dat.py."""
    if len(head) < 9:
        return False
    entries, length = struct.unpack_from("<2i", head)
    name = head[8 : 8 + length]
    if entries <= 0 or not 0 < length <= _LONGEST_NAME:
        return False
    return len(name) == length and name.isascii() and b"." in name


def _of_repository(text: str) -> Kind | None:
    """A name on Hugging Face, where it looks like one; with the folder, if it is in the cache."""
    match = _REPOSITORY.fullmatch(text)
    if match is None or Path(match["owner"]).is_dir() or match["name"].endswith(_ENDINGS):
        return None
    owner, name = match["owner"], match["name"]
    try:
        snapshots = sorted((_cache() / f"models--{owner}--{name}" / "snapshots").glob("*/"))
    except RuntimeError:  # a user without a home, as in a container, has no cache
        snapshots = []
    if snapshots:
        return Kind(what="a name on Hugging Face", remedy=f"it is in the cache: give {snapshots[-1]}")
    remedy = f"hf download {owner}/{name} --local-dir {name} fetches it"
    return Kind(what="no file or folder here, but looks like a name on Hugging Face", remedy=remedy)


def _cache() -> Path:
    """Hugging Face's cache. Source: huggingface_hub, constants.py: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{base}/huggingface"
    return Path(home).expanduser() / "hub"
