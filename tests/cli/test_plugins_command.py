"""quantrecipe plugins, with packages that are really installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.distributions import FORMAT, install

import quantrecipe
from quantrecipe.cli import main


def quantrecipe_with(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "quantrecipe", *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(
        tmp_path,
        "quantrecipe-good",
        FORMAT + "@hookimpl\ndef quantrecipe_formats():\n    return [Half()]",
        version="2.3",
    )
    install(tmp_path, "quantrecipe-wreck", "raise RuntimeError('no [bold]GPU')")
    return tmp_path


def test_shows_what_is_built_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-plugins", "plugins"]) == 0
    said = capsys.readouterr().out
    assert f"quantrecipe {quantrecipe.__version__}" in said
    assert "BF16" in said
    assert "analyses: error" in said
    assert "Plugins are switched off" in said
    assert "(quantrecipe help architectures)" in " ".join(said.split())


def test_shows_what_others_add_and_why_one_failed(site: Path) -> None:
    result = quantrecipe_with(site, "plugins")
    assert result.returncode == 0
    assert "quantrecipe-good 2.3" in result.stdout
    assert "formats: HALF" in result.stdout
    assert "RuntimeError: no [bold]GPU" in result.stdout
    assert result.stderr == ""


def test_json(site: Path) -> None:
    plugins = {p["distribution"]: p for p in json.loads(quantrecipe_with(site, "plugins", "--json").stdout)}
    assert plugins["quantrecipe-good"]["formats"] == ["HALF"]
    assert plugins["quantrecipe-wreck"]["status"] == "failed"
    assert plugins["quantrecipe-wreck"]["cause"] == "RuntimeError: no [bold]GPU"


def test_other_commands_warn_of_a_plugin_that_failed_and_go_on(site: Path) -> None:
    result = quantrecipe_with(site, "formats", "--json")
    assert result.returncode == 0
    assert "HALF" in {fmt["name"] for fmt in json.loads(result.stdout)}
    assert result.stderr == (
        "warning: plugin 'it' of quantrecipe-wreck 1.0 could not be loaded: RuntimeError: no [bold]GPU; "
        "see `quantrecipe plugins`, or use --no-plugins\n"
    )


def test_no_plugins_loads_none(site: Path) -> None:
    result = quantrecipe_with(site, "--no-plugins", "formats", "--json")
    assert "HALF" not in {fmt["name"] for fmt in json.loads(result.stdout)}
    assert result.stderr == ""


def test_two_plugins_with_one_name(site: Path) -> None:
    install(
        site,
        "quantrecipe-same",
        FORMAT.replace("901", "902") + "@hookimpl\ndef quantrecipe_formats():\n    return [Half()]",
    )
    result = quantrecipe_with(site, "formats")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: format 'HALF' is claimed by plugin 'it' of quantrecipe-good 2.3 and by"
    )


ARCHITECTURE = """
from quantrecipe.api import hookimpl

@hookimpl
def quantrecipe_architectures():
    from quantrecipe.model.architectures import Architecture, Layout
    return [Architecture(name="llama", classes=(CLASS,), layout=Layout())]
"""


def test_architectures_are_told_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    install(
        tmp_path, "quantrecipe-marvin", ARCHITECTURE.replace("CLASS", "'MarvinForCausalLM'"), name="marvin"
    )
    install(tmp_path, "quantrecipe-bad", ARCHITECTURE.replace("CLASS", "'a b'"), name="bad")
    plugins = {p["name"]: p for p in json.loads(quantrecipe_with(tmp_path, "plugins", "--json").stdout)}
    assert plugins["marvin"]["architectures"] == ["llama"]
    assert "'a b' is no name for the class" in plugins["bad"]["architectures"][0]
    assert len(plugins["builtin"]["architectures"]) > 100
    assert "architectures: llama" in quantrecipe_with(tmp_path, "plugins").stdout
