"""The CI script that builds llama.cpp's tools: from what, and when not."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a script for Linux")

SCRIPT = Path(__file__).parents[2] / ".ci" / "llama_tools"
PIP = """#!/bin/sh
# pip download … --dest FOLDER NAME==VERSION
while [ "$1" != --dest ]; do shift; done
here=$2/llama_cpp_python-7.8.9/vendor/llama.cpp
for tool in quantize gguf-split perplexity imatrix; do
    mkdir -p "$here/tools/$tool"
    touch "$here/tools/$tool/$tool.cpp"
done
[ "$3" = llama-cpp-python==7.8.9 ] || exit 9
cd "$2" && tar -czf llama_cpp_python-7.8.9.tar.gz llama_cpp_python-7.8.9 && rm -r llama_cpp_python-7.8.9
"""
COMPILER = """#!/bin/sh
echo "$@" >> "$COMPILED"
while [ "$1" != -o ]; do shift; done
echo built > "$2" && chmod +x "$2"
"""


def environment(folder: Path, native: str) -> dict[str, str]:
    """With llama-cpp-python as it is installed, a pip that has its archive, and a compiler that notes its arguments."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    for name, text in {
        "llama_cpp/__init__.py": "",
        "llama_cpp_python-7.8.9.dist-info/METADATA": "Name: llama_cpp_python\nVersion: 7.8.9\n",
        "lib64/libllama-common.so": "",
        "lib64/cmake/ggml/ggml-config.cmake": f'set(GGML_NATIVE "{native}")\nset(GGML_NATIVE_DEFAULT "ON")\n',
    }.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text, encoding="utf-8")
    for name, text in (("pip", PIP), ("c++", COMPILER)):
        (folder / "bin" / name).write_text(text, encoding="utf-8")
        (folder / "bin" / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "COMPILED": str(folder / "compiled"),
    }


def run(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", SCRIPT], env=variables, capture_output=True, text=True, check=False)


def test_what_is_missing_is_built_of_the_installed_version(tmp_path: Path) -> None:
    variables = environment(tmp_path, "OFF")
    done = run(variables)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder == tmp_path / "llama.cpp-7.8.9"
    tools = {"llama-quantize", "llama-gguf-split", "llama-perplexity", "llama-imatrix"}
    assert {path.name for path in folder.iterdir()} == tools
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    commands = (tmp_path / "compiled").read_text(encoding="utf-8").splitlines()
    assert len(commands) == len(tools)
    assert all(f"-L{packages}/lib64 " in command for command in commands)
    (folder / "llama-imatrix").unlink()
    assert run(variables).stdout == done.stdout
    later = (tmp_path / "compiled").read_text(encoding="utf-8").splitlines()[len(tools) :]
    assert ["/imatrix/imatrix.cpp" in command for command in later] == [True]


def test_a_build_for_this_processor_is_refused(tmp_path: Path) -> None:
    done = run(environment(tmp_path, "ON"))
    assert done.returncode == 1
    assert "GGML_NATIVE=OFF" in done.stderr
    assert not (tmp_path / "compiled").exists()
