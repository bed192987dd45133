"""quantrecipe help: every page is a topic, and whatever cites a page names its topic."""

from __future__ import annotations

import ast
import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from rich.console import Console
from rich.markdown import Markdown
from support.examples import sampled

import quantrecipe
from quantrecipe.cli import main
from quantrecipe.cli.app import COMMANDS, app
from quantrecipe.cli.help.topics import page_text, topics
from quantrecipe.lint.finding import CODES

Output = pytest.CaptureFixture[str]
PACKAGE = Path(quantrecipe.__file__).parent
ROOT = PACKAGE.parent
_CITED = re.compile(r"quantrecipe help ([\w./-]+[\w])")
_PAGE = re.compile(r"docs/[\w/-]+\.md")


def shown(capsys: Output, *args: str) -> str:
    assert main(["help", *args]) == 0
    return capsys.readouterr().out


def test_every_page_is_a_topic_and_listed_with_its_title(capsys: Output) -> None:
    assert set(topics().values()) == set((ROOT / "docs").rglob("*.md"))
    lines = shown(capsys).splitlines()
    assert [line.split()[0] for line in lines[: len(topics())]] == list(topics())
    assert any(re.fullmatch(r"recipe-reference +Recipe reference", line) for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", topics())
def test_pages_are_shown_with_links_as_topics(name: str, capsys: Output) -> None:
    text = page_text(topics()[name])
    assert text.splitlines()[0].startswith("# ")
    outside_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"\]\([^)]*\.md", outside_code)
    assert set(_CITED.findall(text)) <= {*topics(), *COMMANDS}
    if "/" in name or name not in COMMANDS:
        assert shown(capsys, name) == text.rstrip() + "\n"


@pytest.mark.parametrize("name", sampled(topics()))
def test_pages_can_be_laid_out_on_a_terminal(name: str) -> None:
    Console(file=io.StringIO(), width=80).print(Markdown(page_text(topics()[name]), hyperlinks=False))


def strings_that_people_see(path: Path) -> Iterator[str]:
    """Every text of a module but its docstrings; those of commands are help texts, and count.

    A module without the words of a citation has none; parsing all of them takes seconds.
    """
    source = path.read_text(encoding="utf-8")
    if "help" not in source and "docs" not in source:
        return
    tree = ast.parse(source)
    prose = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            prose |= {id(it.value) for it in body if isinstance(it, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_what_is_cited_is_there_wherever_the_program_is() -> None:
    """A wheel has no folder docs/: errors and help texts name topics."""
    root = click.Context(app, **app.context_settings)
    commands = [command for name in COMMANDS if (command := app.get_command(root, name))]
    texts = [text for path in PACKAGE.rglob("*.py") for text in strings_that_people_see(path)]
    # With the command's own settings: click keeps the help option that it made at first.
    texts += [it.get_help(click.Context(it, parent=root, **it.context_settings)) for it in commands]
    texts.append((PACKAGE / "recipe/schema.json").read_text(encoding="utf-8"))
    assert [text for text in texts if _PAGE.search(text)] == []
    cited = {name for text in texts for name in _CITED.findall(text)}
    assert {"check", "targets", "recipe-reference"} <= cited
    assert cited <= {*topics(), *COMMANDS, *CODES, "TOPIC"}


def test_a_command_shows_its_options_and_its_page(capsys: Output) -> None:
    assert "--prior" in shown(capsys, "fit")
    both = shown(capsys, "check")
    assert "--fail-on" in both
    assert "\n# Checking recipes\n" in both


@pytest.mark.parametrize("word", ["QR202", "qr202"])
def test_a_code_shows_its_section_alone(word: str, capsys: Output) -> None:
    text = shown(capsys, word)
    assert text.startswith("### QR202")
    assert "QR203" not in text


@pytest.mark.parametrize("word", ["docs/check.md", "check.md", "check#qr202"])
def test_a_page_is_found_as_others_cite_it(word: str, capsys: Output) -> None:
    assert "# Checking recipes" in shown(capsys, word)


def test_what_isnt_there(capsys: Output) -> None:
    assert main(["help", "recipe-refernce"]) == 2
    assert "Did you mean recipe-reference?" in " ".join(capsys.readouterr().err.split())


def test_a_wheel_has_the_pages() -> None:
    """In the folder in which they are looked for."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    source = (PACKAGE / "cli/help/topics.py").read_text(encoding="utf-8")
    assert f'_PACKAGE / "{wheel["force-include"]["docs"].removeprefix("quantrecipe/")}"' in source
