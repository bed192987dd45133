"""The studio's page as a person uses it, for tests in a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Started", "choose", "figures", "map_types", "new_text", "settled", "shown", "slide", "text_of"]

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/\?token=\S+")
_MARK = re.compile(r" [▲▼≠]$")


class Started:
    """A studio in a process of its own: the process and the address that it prints."""

    def __init__(self, *arguments: str | Path) -> None:
        self.arguments = arguments

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        pytest.importorskip("uvicorn", reason="pip install 'quantrecipe[studio]'")
        command = [
            sys.executable,
            "-u",
            "-m",
            "quantrecipe",
            "studio",
            "--no-browser",
            *map(str, self.arguments),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if (match := _ADDRESS.search(line)) is not None:
                return self.process, match[0]
        raise AssertionError(f"the studio didn't start: {said}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        if self.process.stdout is not None:
            self.process.stdout.close()


def choose(page: Any, model: str | Path) -> None:
    """Write a model's name, and wait until its mix is there."""
    field = page.get_by_role("combobox", name="Model", exact=True)
    field.fill(str(model))
    field.press("Enter")
    page.wait_for_function("name => document.title.startsWith(`${name} `)", arg=Path(model).name)
    settled(page)


def settled(page: Any) -> None:
    """Wait until the text gives the mix that is shown."""
    shown(page, "#text-is", "gives this mix")


def shown(page: Any, selector: str, text: str) -> None:
    """Wait until an element has this text."""
    page.locator(selector).filter(has_text=text).wait_for()


def slide(page: Any, key: str, times: int = 1) -> None:
    """Press a key on the slider, and wait until the mix and its text are there."""
    slider = page.get_by_role("slider")
    for _ in range(times):
        slider.press(key)
    settled(page)


def text_of(page: Any) -> str:
    """The recipe's text."""
    return str(page.locator("#text").input_value())


def new_text(page: Any, old: str, new: str) -> None:
    """Write something else for the first place where the text says `old`, as typing does."""
    at = text_of(page).index(old)
    select = "(it, [from, to]) => { it.focus(); it.setSelectionRange(from, to); }"
    page.locator("#text").evaluate(select, [at, at + len(old)])
    page.keyboard.insert_text(new)


def figures(page: Any) -> dict[str, str]:
    """The numbers on the page, by their names."""
    found = page.locator("#figures > div").evaluate_all(
        "its => its.map(it => [it.querySelector('dt').textContent, it.querySelector('dd').innerText])"
    )
    return {name: value.replace("\n", " ") for name, value in found}


def map_types(page: Any) -> dict[tuple[str, str], str]:
    """The types on the map, by layer and role, without the marks of what differs from the base."""
    rows = page.locator("table.map").first.evaluate(
        """it => {
          const roles = [...it.querySelectorAll("thead th")].slice(1).map(th => th.textContent);
          return [...it.querySelectorAll("tbody tr")].flatMap(tr => {
            const layer = tr.querySelector("th").textContent;
            return [...tr.querySelectorAll("td")].map((td, place) => [layer, roles[place], td.textContent]);
          });
        }"""
    )
    return {(layer, role): _MARK.sub("", text) for layer, role, text in rows}
