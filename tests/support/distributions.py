"""Installed packages with entry points, written to a folder that a subprocess has on its path: real plugins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

__all__ = ["FORMAT", "install", "install_package", "run_python"]

FORMAT = '''
from typing import ClassVar

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, hookimpl


class Half(QuantFormat):
    """float16, under another name."""

    spec: ClassVar[FormatSpec] = FormatSpec(
        name="HALF", ggml_type=901, block=1, block_bytes=2, dialect="test", summary="half of float32"
    )

    def encode(self, rows, importance=None, *, out=None):
        data = np.ascontiguousarray(rows, np.float16).view(np.uint8)
        if out is None:
            return data
        out[...] = data
        return out

    def decode(self, data, k, *, out=None):
        rows = np.ascontiguousarray(data).view(np.float16).astype(np.float32)
        if out is None:
            return rows
        out[...] = rows
        return out
'''
"""The beginning of a plugin module: a format that works, not yet returned by a hook."""


def install(site: Path, distribution: str, source: str, *, version: str = "1.0", name: str = "it") -> None:
    """A package of one module, named after it, with its metadata, as pip would leave it in `site`."""
    module = distribution.replace("-", "_")
    (site / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[quantrecipe]\n{name} = {module}\n", encoding="utf-8")


def install_package(site: Path, folder: Path) -> None:
    """A package with src/ and pyproject.toml, as pip would leave it in `site`; its dependencies are there already."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(folder / "src", site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    points = "".join(
        f"{name} = {module}\n" for name, module in project["entry-points"]["quantrecipe"].items()
    )
    (info / "entry_points.txt").write_text(f"[quantrecipe]\n{points}", encoding="utf-8")


def run_python(code: str, *, site: Path | None = None, check: bool = True) -> Any:
    """What a fresh Python prints as JSON when it runs `code`, with `site` on its path."""
    path = os.pathsep.join(filter(None, [str(site) if site else "", os.environ.get("PYTHONPATH", "")]))
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or result.returncode == 0, result.stderr
    return json.loads(result.stdout) if check else result
