"""The CI script that runs plugins with the oldest quantrecipe that they allow: what it reads, and what it builds."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ci_plugins", ROOT / ".ci" / "plugins.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plugin(folder: Path, dependency: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "x"\ndependencies = ["numpy", "{dependency}"]\n'
    )
    return folder


@pytest.mark.parametrize("dependency", ["quantrecipe>=0.3", "quantrecipe >= 0.3", "quantrecipe>=0.3,<2"])
def test_the_oldest_version_is_the_lower_bound(script: ModuleType, tmp_path: Path, dependency: str) -> None:
    assert script.oldest_version(plugin(tmp_path / "p", dependency)) == "0.3"


def test_a_plugin_without_a_lower_bound_is_an_error(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="name no oldest version"):
        script.oldest_version(plugin(tmp_path / "p", "quantrecipe"))


def test_every_plugin_here_names_its_oldest_version(script: ModuleType) -> None:
    for folder in (ROOT / "plugins").glob("*/pyproject.toml"):
        assert script.oldest_version(folder.parent)


def test_versions_and_tags(script: ModuleType) -> None:
    assert script.same_release("0.1", "0.1.0")
    assert not script.same_release("0.1", "0.10")
    assert script.tag_of("0.3", ["nightly", "v0.2", "v0.3.0", "v0.4"]) == "v0.3.0"
    with pytest.raises(SystemExit, match=r"no git tag says which commit was quantrecipe 0\.9"):
        script.tag_of("0.9", ["v0.1"])


def test_each_plugin_runs_with_both(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real repository with a tag: the old tree that the plugin is run with is the tagged one."""

    def git(*args: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *args],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip

    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "quantrecipe"\nversion = "0.1.0"\n')
    plugin(tmp_path / "plugins" / "quantrecipe-old", "quantrecipe>=0.1")
    plugin(tmp_path / "plugins" / "quantrecipe-young", "quantrecipe>=0.2")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("tag", "v0.1.0")
    project.write_text('[project]\nname = "quantrecipe"\nversion = "0.2.0"\n')
    git("commit", "-qam", "second")

    tested: list[tuple[str, str]] = []

    def note(folder: Path, quantrecipe: Path, name: str) -> None:
        tested.append((folder.name, script._project(quantrecipe)["version"]))

    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "_test", note)
    monkeypatch.setattr(script, "_run", lambda *command, cwd=tmp_path: git(*map(str, command[1:])))
    script.main()
    assert tested == [
        ("quantrecipe-old", "0.2.0"),
        ("quantrecipe-old", "0.1.0"),
        ("quantrecipe-young", "0.2.0"),
    ]
