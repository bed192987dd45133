"""Files that aren't the same on a worker's machine are named, and so are the packages that it needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantrecipe import __version__
from quantrecipe.errors import ModelError
from quantrecipe.output.shares.same_there import OURS, keys_of, packages_of, require_same
from quantrecipe.registry import load_registry


def test_a_copy_is_the_same_and_another_file_isn_t(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(1 << 16))
    keys = keys_of([path])
    os.utime(path, (1, 1))
    require_same(keys)
    path.write_bytes(bytes((1 << 16) - 1) + b"x")
    with pytest.raises(
        ModelError, match=r"model.gguf: isn't the same file on .*same files under the same paths"
    ):
        require_same(keys)


def test_our_own_formats_need_no_other_package() -> None:
    registry = load_registry(plugins=False)
    assert packages_of(registry, set(registry.formats)) == (OURS,) == (("quantrecipe", __version__),)
