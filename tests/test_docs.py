"""The documentation is about this program: links lead somewhere, options and keys that it names are there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import click
import pytest

from quantrecipe.cli.app import COMMANDS, app
from quantrecipe.errors import QuantrecipeError
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/*.md")]
)
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    local = [link for link in _LINK.findall(text) if "://" not in link]
    assert [link for link in local if not ((ROOT / page).parent / link).exists()] == []


def test_every_page_has_a_place_on_the_site() -> None:
    """What .ci/run finds when it builds the site; here without what builds it. Decisions are added when it is built."""
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    places = re.findall(r"- (\S+\.md)$", listed, re.MULTILINE)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert Counter(places).most_common(1)[0][1] == 1
    assert {it for it in pages if not it.startswith("decisions/")} - set(places) == set()


@pytest.mark.parametrize("language", ["ru", "zh"])
def test_translations_have_the_commands_and_the_recipe_of_the_readme(language: str) -> None:
    blocks = re.compile(r"```(?:sh|yaml)\n.*?```", re.DOTALL)
    original = blocks.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    translated = blocks.findall((ROOT / f"docs/{language}/README.md").read_text(encoding="utf-8"))
    assert len(translated) == 2
    assert set(translated) <= set(original)


_COMMAND = re.compile(r"(?<![\w./-])quantrecipe ((?:[^`|#;&>\n]|\\\n)+)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def unknown_in(page: str) -> list[str]:
    """Commands on a page that aren't there, and options that a command hasn't."""
    wrong = []
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for match in _COMMAND.finditer(text):
        words = match[1].split()
        if not words or not re.fullmatch(r"[a-z][a-z-]*", words[0]):
            continue
        command: click.Command = app
        before = text[: match.start()].rpartition("\n")[2]
        typed = before.endswith("`") or (before.startswith("    ") and not before.strip())
        while isinstance(command, click.Group) and words:
            found = command.get_command(click.Context(command), words[0])
            if found is None:
                break
            command, words = found, words[1:]
        if command is app:
            wrong += [match[0]] if typed else []
            continue
        known = {opt for it in [*command.params, *app.params] for opt in [*it.opts, *it.secondary_opts]}
        known |= {"--help", "--version"}
        wrong += [f"{match[0].strip()}: {it}" for it in _OPTION.findall(" ".join(words)) if it not in known]
    return wrong


@pytest.mark.parametrize("page", [it for it in PAGES if not it.startswith("docs/decisions/")])
def test_commands_on_pages_can_be_typed(page: str) -> None:
    """In every language: what a page tells people to type is there."""
    assert unknown_in(page) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_reference(name: str) -> None:
    reference = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    context = click.Context(app)
    command = app.get_command(context, name)
    assert command is not None
    options = [p for p in command.params if isinstance(p, click.Option)]
    section = reference.split(f"\n## {name}\n")[1].split("\n## ")[0]
    if name in ("plan", "lock", "report"):  # they have what apply has
        section += reference.split("\n## apply\n")[1].split("\n## ")[0]
    assert [p.opts for p in options if not any(spelling in section for spelling in p.opts)] == []


def test_every_recorded_key_is_in_the_reference() -> None:
    reference = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    plan = make_plan(load_recipe("llama.cpp/Q8_0"), open_model(ROOT / "examples/tiny-code"))
    ours = [key for key in plan.metadata if key.startswith("quantrecipe.")]
    assert ours
    assert [key for key in ours if f"`{key}`" not in reference] == []


def test_the_readme_s_table_is_true() -> None:
    rows = re.findall(
        r"\| `(\S+)` \| ([\d.]+) MB \| ([\d.]+) \|", (ROOT / "README.md").read_text(encoding="utf-8")
    )
    assert len(rows) == 3
    model = open_model(ROOT / "examples/tiny-code")
    for name, megabytes, bits in rows:
        plan = make_plan(load_recipe(name), model)
        assert (f"{plan.nbytes / 1e6:.1f}", f"{plan.bits_per_weight:.2f}") == (megabytes, bits), name


def test_the_readme_s_recipe_works(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "code-model.yaml"
    path.write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    plan = make_plan(load_recipe(path), open_model(ROOT / "examples/tiny-code"))
    assert {a.type for a in plan.assignments if a.tensor.role == "attn_v"} == {"Q8_0"}


@pytest.mark.parametrize("page", ["docs/first-recipe.md", "docs/coming-from.md"])
def test_recipes_on_pages_plan(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- recipe: \w+ -->\n```yaml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        path = tmp_path / "recipe.yaml"
        path.write_text(block, encoding="utf-8")
        make_plan(load_recipe(path), open_model(ROOT / "examples/tiny-code"))


def test_the_table_of_presets_is_true() -> None:
    """docs/names.md: what each preset takes, what most of its weights are, and whether it needs importance."""
    text = (ROOT / "docs/names.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) GB \| `(\w+)` \((\d+) %\) \|( yes)? \|$", text, re.MULTILINE
    )
    assert len(rows) == 24
    model = open_model("shapes/meta-llama-3.1-8b-instruct")
    importance = assumed_importance(model.tensors)
    for name, bits, gigabytes, most, share, needs in rows:
        recipe = load_recipe(f"llama.cpp/{name}")
        plan = make_plan(recipe, model, importance=importance)
        weights = Counter[str]()
        for a in plan.assignments:
            weights[a.type] += a.tensor.size
        [(commonest, count)] = weights.most_common(1)
        said = (bits, gigabytes, most, share)
        found = f"{100 * count / weights.total():.0f}"
        assert said == (f"{plan.bits_per_weight:.2f}", f"{plan.nbytes / 1e9:.2f}", commonest, found), name
        assert needs == (" yes" if _refused_without_importance(recipe, model) else ""), name


def _refused_without_importance(recipe: Recipe, model: Model) -> bool:
    try:
        make_plan(recipe, model)
    except QuantrecipeError:
        return True
    return False
