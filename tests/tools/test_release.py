"""tools/release.py: a version is cut, checked, and told; and the workflows run what there is."""

from __future__ import annotations

import datetime
import importlib.util
import re
import shutil
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from quantrecipe.cli.app import COMMANDS, app
from quantrecipe.core.machine_code import LEVELS

ROOT = Path(__file__).parents[2]
DAY = datetime.date(2030, 1, 2)


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools/release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path, release: ModuleType) -> Path:
    """The files in which a version stands."""
    for name in [*release.PLACES, "CHANGELOG.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_sources_have_one_version(release: ModuleType) -> None:
    assert len(set(release.versions(ROOT).values())) == 1


def test_a_cut_version_can_be_released_and_no_other(release: ModuleType, copy: Path) -> None:
    changes = (copy / "CHANGELOG.md").read_text(encoding="utf-8").partition("## Unreleased\n")[2].strip()
    assert release.check(copy, "v7.8.9")
    release.cut(copy, "7.8.9", DAY)
    assert set(release.versions(copy).values()) == {"7.8.9"}
    assert release.check(copy, "v7.8.9") == []
    assert release.notes(copy, "v7.8.9") == changes
    assert "## Unreleased\n\n## 7.8.9 (2030-01-02)\n" in (copy / "CHANGELOG.md").read_text(encoding="utf-8")
    assert len(release.check(copy, "v7.8.8")) == len(release.PLACES) + 1  # and no heading
    assert "expected: v1.2.3" in release.check(copy, "7.8.9")[0]


def test_the_next_version_is_cut_above_the_last(release: ModuleType, copy: Path) -> None:
    release.cut(copy, "7.8.9", DAY)
    path = copy / "CHANGELOG.md"
    path.write_text(
        path.read_text(encoding="utf-8").replace("## Unreleased\n", "## Unreleased\n\n* New.\n"),
        encoding="utf-8",
    )
    release.cut(copy, "7.9.0", DAY)
    assert release.notes(copy, "v7.9.0") == "* New."
    assert release.notes(copy, "v7.8.9").startswith("First version.")


@pytest.mark.parametrize(
    ("version", "says"), [("7.8", "is no version"), ("v7.8.9", "is no version"), ("7.8.9", "already")]
)
def test_what_can_not_be_cut_changes_nothing(
    version: str, says: str, release: ModuleType, copy: Path
) -> None:
    release.cut(copy, "7.8.9", DAY)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match=says):
        release.cut(copy, version, DAY)
    with pytest.raises(SystemExit, match="nothing stands under"):
        release.cut(copy, "8.0.0", DAY)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["ci", "release"])
def test_the_workflows_run_files_that_are_there(name: str) -> None:
    text = (ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"]
    for path in re.findall(r"(?:python |run: )((?:tools|\.ci)/\S+)", text):
        assert (ROOT / path).is_file(), path


def test_the_tests_run_on_every_python_that_is_promised() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == promised


def test_the_conda_package_needs_what_the_wheel_needs() -> None:
    """Two packages have other names there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "conda/recipe.yaml").read_text(encoding="utf-8")
    needed = yaml.safe_load(text)["requirements"]["run"]
    renamed = {"msgspec": "msgspec-python", "xxhash": "python-xxhash"}
    wanted = [re.fullmatch(r"([\w-]+)(>=.+)", it) for it in project["dependencies"]]
    assert [f"{renamed.get(it[1], it[1])} {it[2]}" for it in wanted if it] == needed[1:]
    assert needed[0] == f"python {project['requires-python']}"


def extras_asked_for(text: str) -> set[str]:
    """What is installed beside the package: `pip install -e ".[test]"`, `"/src[${EXTRAS}]"` with EXTRAS=hub."""
    found = {it for names in re.findall(r"[./]\w*\[([a-z,]+)\]", text) for it in names.split(",")}
    return found | {it for names in re.findall(r"EXTRAS=([a-z,]+)", text) for it in names.split(",")}


@pytest.mark.parametrize(
    ("file", "count"),
    [
        (".github/workflows/ci.yml", 1),
        (".github/workflows/release.yml", 1),
        (".ci/run", 4),
        ("Containerfile", 2),
    ],
)
def test_extras_that_are_installed_are_there(file: str, count: int) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = extras_asked_for((ROOT / file).read_text(encoding="utf-8"))
    assert len(asked) >= count
    assert asked <= set(project["optional-dependencies"])


def test_python_versions_that_workflows_set_up_are_promised() -> None:
    promised = set(re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        named = set(re.findall(r'python(?:-version)?: "(3\.\d+)"', path.read_text(encoding="utf-8")))
        assert named, path
        assert named <= promised, path
    (image,) = set(re.findall(r"python:(3\.\d+)-slim", (ROOT / "Containerfile").read_text(encoding="utf-8")))
    assert image in promised


def test_the_container_compiles_kernels_by_what_is_there() -> None:
    """For the levels that there are, by a script that is copied; and the last step runs a command as a user has it."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    levels = re.search(r'case "\$\(uname -m\)" in (.*?) esac', text)
    assert levels
    assert set(re.findall(r"x86-64-v\d|arm64", levels[1])) == set(LEVELS)
    assert re.findall(r"/src/(\S+\.py)", text) == ["tools/build_kernels.py"]
    assert (ROOT / "tools/build_kernels.py").is_file()
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    needed = (
        "tools",
        "quantrecipe",
        "docs",
        "recipes",
        "plugins",
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
    )
    assert not {*left_out} & {*needed}
    (command,) = re.findall(r"^RUN quantrecipe (.*)$", text, re.MULTILINE)
    name, option = command.split()
    known = app.get_command(click.Context(app), name)
    assert known is not None
    assert option in {opt for it in known.params for opt in it.opts}


def test_what_the_conda_package_tries_can_be_typed() -> None:
    recipe = yaml.safe_load((ROOT / "conda/recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["build"]["python"]["entry_points"] == ["quantrecipe = quantrecipe.cli:main"]
    commands = next(it["script"] for it in recipe["tests"] if "script" in it)
    assert [it.split()[0] for it in commands] == ["quantrecipe"] * len(commands)
    named = {it.split()[1] for it in commands if not it.split()[1].startswith("-")}
    assert named == {"plan", "doctor"} <= set(COMMANDS)
