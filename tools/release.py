"""What a release needs besides a commit: one version everywhere, and the changes under its heading.

    python tools/release.py cut 0.2.0        version in the sources, and the changelog's `Unreleased` under it
    python tools/release.py check v0.2.0     ends with 1 unless the tag, the sources and the changelog agree
    python tools/release.py notes v0.2.0     the changes of this version, for the release's page

The version stands in the sources, and not in a tag alone: it is recorded in every file that quantrecipe writes and is a
part of the store's keys, so that two builds of one commit must have the same one, also in a clone without tags.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)((?:a|b|rc)\d+)?")
PLACES = {
    "pyproject.toml": re.compile(r'^version = "(.+)"$', re.MULTILINE),
    "quantrecipe/__init__.py": re.compile(r'^__version__ = "(.+)"$', re.MULTILINE),
    "conda/recipe.yaml": re.compile(r'^  version: "(.+)"$', re.MULTILINE),
}
"""Where the version stands. Plugins have versions of their own."""
UNRELEASED = "## Unreleased\n"


def versions(root: Path) -> dict[str, str]:
    """The version in each place. SystemExit where one has none, or several."""
    found = {}
    for name, pattern in PLACES.items():
        said = pattern.findall((root / name).read_text(encoding="utf-8"))
        if len(said) != 1:
            raise SystemExit(f"{name}: its version stands there {len(said)} times (expected: once)")
        found[name] = said[0]
    return found


def cut(root: Path, version: str, today: datetime.date) -> None:
    """Give the sources a version, and the changes since the last one its heading."""
    if not VERSION.fullmatch(version):
        raise SystemExit(f"{version!r} is no version (expected: 1.2.3, or 1.2.3rc1)")
    now = versions(root)
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if f"\n## {version} " in text:
        raise SystemExit(f"CHANGELOG.md: {version} is there already")
    if text.count(UNRELEASED) != 1:
        raise SystemExit("CHANGELOG.md: there is no heading '## Unreleased', or several")
    changes = text.partition(UNRELEASED)[2].partition("\n## ")[0].strip()
    if not changes:
        raise SystemExit("CHANGELOG.md: nothing stands under '## Unreleased'")
    changelog.write_text(
        text.replace(UNRELEASED, f"{UNRELEASED}\n## {version} ({today.isoformat()})\n"), encoding="utf-8"
    )
    for name, pattern in PLACES.items():
        path = root / name
        source = path.read_text(encoding="utf-8")
        path.write_text(
            pattern.sub(lambda it, old=now[name]: it[0].replace(old, version), source), encoding="utf-8"
        )


def check(root: Path, tag: str) -> list[str]:
    """What keeps the tag from being a release."""
    problems = []
    if not tag.startswith("v") or not VERSION.fullmatch(tag[1:]):
        problems.append(f"the tag is {tag!r} (expected: v1.2.3)")
    problems += [
        f"{name}: the version is {said}, and the tag says {tag}"
        for name, said in versions(root).items()
        if f"v{said}" != tag
    ]
    if not notes(root, tag):
        problems.append(
            f"CHANGELOG.md: no changes under '## {tag.removeprefix('v')} (DATE)'; `cut` makes the heading"
        )
    return problems


def notes(root: Path, tag: str) -> str:
    """The changes of the tag's version; "" where there are none."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(
        rf"^## {re.escape(tag.removeprefix('v'))} \(\d{{4}}-\d\d-\d\d\)\n", text, re.MULTILINE
    )
    return text[heading.end() :].partition("\n## ")[0].strip() if heading else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="One version everywhere, and the changes under its heading.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("cut", "VERSION"), ("check", "TAG"), ("notes", "TAG")):
        commands.add_parser(name).add_argument("said", metavar=what)
    args = parser.parse_args()
    if args.command == "cut":
        cut(ROOT, args.said, datetime.datetime.now(tz=datetime.UTC).date())
        return 0
    if args.command == "notes":
        sys.stdout.write(notes(ROOT, args.said) + "\n")
        return 0
    problems = check(ROOT, args.said)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
