"""Entry points are found as importlib.metadata finds them, without it."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from support.distributions import run_python

from quantrecipe.entry_points import entry_points


def lay(
    folder: Path, points: str, said: str = "Name: a-b\nVersion: 1.0\n", *, facts: str = "METADATA"
) -> None:
    folder.mkdir(parents=True)
    (folder / "entry_points.txt").write_text(points, encoding="utf-8")
    (folder / facts).write_text(said, encoding="utf-8")


def of_importlib(group: str) -> list[tuple[str, str, str, str]]:
    found = metadata.entry_points(group=group)
    return sorted((it.name, it.value, it.dist.name, it.dist.version) for it in found if it.dist is not None)


@pytest.mark.parametrize("group", ["console_scripts", "pytest11", "quantrecipe", "none-such"])
def test_of_what_is_installed_here(group: str) -> None:
    found = sorted(entry_points(group))
    assert found == of_importlib(group)
    assert group == "none-such" or found


@pytest.mark.parametrize(
    "points",
    [
        "[g]\nx = m",
        "[other]\ny = n\n[g]\nx = m:attr.more\n[third]\nz = o",
        "# [g]\n[g]\n# a = comment\n\n  x=m  \ny  =  n:a [extra]\n",
        "[other]\nx = [g]",
        "",
    ],
)
def test_of_one_package(points: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(
        tmp_path / "a_b-1.0.dist-info",
        points,
        "Metadata-Version: 2.1\nName: a-b\nVersion: 1.0\n\nVersion: 9\n",
    )
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert sorted(entry_points("g")) == of_importlib("g")


def test_what_a_description_says_is_no_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path / "a_b-1.0.dist-info", "[g]\nx = m", "Name: a-b\n\nVersion: 9\n")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert entry_points("g") == [("x", "m", "a-b", "")]


def test_of_each_package_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path / "one" / "a_b-2.dist-info", "[g]\nx = first", "Name: a-b\nVersion: 2\n")
    lay(tmp_path / "two" / "A.B-1.dist-info", "[g]\nx = second", "Name: A.B\nVersion: 1\n")
    lay(tmp_path / "two" / "old.egg-info", "[g]\nx = third", "Name: old\nVersion: 0.1\n", facts="PKG-INFO")
    paths = [str(tmp_path / name) for name in ("one", "none", "two")]
    monkeypatch.setattr("sys.path", paths)
    found = sorted(entry_points("g"))
    assert found == [("x", "first", "a-b", "2"), ("x", "third", "old", "0.1")] == of_importlib("g")


def test_in_a_zip_file_they_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.writestr("a_b-1.0.dist-info/entry_points.txt", "[g]\nx = m\n")
        file.writestr("a_b-1.0.dist-info/METADATA", "Name: a-b\nVersion: 1.0\n")
    monkeypatch.setattr("sys.path", [str(tmp_path / "all.zip")])
    assert entry_points("g") == [("x", "m", "a-b", "1.0")]


def test_a_finder_of_its_own_is_asked(tmp_path: Path) -> None:
    lay(tmp_path / "hidden" / "a_b-1.0.dist-info", "[g]\nx = m")
    found = run_python(f"""
        import json, sys
        from importlib.metadata import DistributionFinder, PathDistribution
        from pathlib import Path
        from quantrecipe.entry_points import entry_points

        class Finder(DistributionFinder):
            def find_spec(self, name, path=None, target=None):
                return None
            def find_distributions(self, context=None):
                return [PathDistribution(Path({str(tmp_path)!r}, "hidden", "a_b-1.0.dist-info"))]

        before = entry_points("g")
        sys.meta_path.append(Finder())
        print(json.dumps([before, entry_points("g")]))
    """)
    assert found == [[], [["x", "m", "a-b", "1.0"]]]
