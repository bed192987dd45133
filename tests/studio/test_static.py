"""The page's files, as far as one can tell without a browser: what they name is there, nothing is from elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from support.pages import read_page

from quantrecipe.cli.report.frame import page_html

STATIC = Path(str(files("quantrecipe.studio"))) / "static"
INDEX = (STATIC / "index.html").read_text(encoding="utf-8")
STYLE = (STATIC / "studio.css").read_text(encoding="utf-8")
MODULES = sorted(path.name for path in STATIC.glob("*.js"))
MADE = {"shades.css"}
"""What the server makes."""


def text_of(module: str) -> str:
    """A module's text, without its comments."""
    text = (STATIC / module).read_text(encoding="utf-8")
    return re.sub(r"^\s*(//|/?\*).*$", "", text, flags=re.MULTILINE)


def test_the_page_is_well_formed_and_names_files_that_are_there() -> None:
    page = read_page(INDEX)
    assert page.problems == []
    named = {str(value) for _, name, value in page.attributes if name in ("src", "href") and value}
    local = {it.removeprefix("/static/") for it in named if it.startswith("/static/")}
    assert named - {f"/static/{it}" for it in local} == {it for it in named if it.startswith("#")}
    assert {it for it in local if not (STATIC / it).exists()} == MADE
    assert {it[1:] for it in named if it.startswith("#")} <= {*page.ids}


def test_labels_and_descriptions_name_elements_that_are_there() -> None:
    page = read_page(INDEX)
    kinds = ("for", "aria-labelledby", "aria-describedby", "aria-controls")
    named = {it for _, name, value in page.attributes if name in kinds for it in str(value).split()}
    assert named <= {*page.ids}


def test_nothing_is_written_into_the_page_itself() -> None:
    """The policy forbids scripts, styles and listeners within the page; so they would be lost."""
    page = read_page(INDEX)
    assert "style" not in page.tags
    assert [name for _, name, _ in page.attributes if name == "style" or name.startswith("on")] == []
    assert re.search(r"<script(?![^>]*\bsrc=)", INDEX) is None
    assert "url(" not in STYLE
    assert "@import" not in STYLE


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_others_export(module: str) -> None:
    for names, other in re.findall(r"import \{([^}]*)\} from \"\./([\w.]+)\"", text_of(module)):
        exported = set(re.findall(r"export (?:async )?(?:class|function|const) (\w+)", text_of(other)))
        assert {it.strip() for it in names.split(",") if it.strip()} <= exported
    if module not in ("main.js", "again.js"):
        others = "".join(text_of(it) for it in MODULES if it != module)
        assert f'"./{module}"' in others


@pytest.mark.parametrize("module", MODULES)
def test_a_module_takes_names_as_text_and_elements_that_are_there(module: str) -> None:
    text = text_of(module)
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
    ):
        assert forbidden not in text
    assert {*re.findall(r'byId\("([\w-]+)"\)', text)} <= {*read_page(INDEX).ids}


def test_colours_are_those_of_reports() -> None:
    """In light, and then in dark."""
    pattern = r"--(\w+): (#\w+)"
    light, dark, _on_paper = _thirds(re.findall(pattern, page_html("", "", [], "")))
    own = re.findall(pattern, STYLE)
    half = len(own) // 2
    assert light.items() <= dict(own[:half]).items()
    assert dark.items() <= dict(own[half:]).items()


def _thirds(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    size = len(pairs) // 3
    return [dict(pairs[at : at + size]) for at in range(0, 3 * size, size)]
