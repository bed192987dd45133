"""quantrecipe studio: a local page on which people see the mix move while they slide a budget."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.paths import RECIPE, file_option
from quantrecipe.cli.options.shared import another_model_option, requantize_option
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import OutputError

__all__ = ["command"]

_NEEDED = ("starlette", "uvicorn")


@subcommand(
    "studio",
    "quantrecipe studio",
    "quantrecipe studio model-BF16.gguf --imatrix imatrix.gguf --sensitivity sensitivity.jsonl",
    "quantrecipe studio shapes/qwen3.6-27b --base llama.cpp/Q4_K_M",
    "quantrecipe studio examples/tiny-code --recipe recipes/code-model.yaml --no-browser --port 8000",
)
@click.argument("model", required=False)
@click.option(
    "--recipe", type=RECIPE, metavar="RECIPE", help="A recipe to begin with, instead of the slider's."
)
@click.option("--base", type=RECIPE, metavar="RECIPE", help="What mixes are compared with at first.")
@file_option("--imatrix", help="Importance matrix of the model; types that need one are offered then.")
@another_model_option
@file_option(
    "--sensitivity",
    help="What types cost each tensor, as `quantrecipe sensitivity` found it. [default: what is usual]",
)
@requantize_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port to listen on. [default: a free one]",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@pass_context
def command(
    ctx: Context,
    model: str | None,
    recipe: str | None,
    base: str | None,
    imatrix: Path | None,
    another_model: bool,
    sensitivity: Path | None,
    allow_requantize: bool,
    port: int | None,
    no_browser: bool,
) -> None:
    """Open a page on which one slides a size, and sees what each tensor becomes; until Ctrl-C.

    The page shows the best mix within a size, a number of bits or a GPU's memory, with its map, what it is expected to
    lose, and its recipe, which can be edited there and taken. MODEL is a GGUF, a Hugging Face folder, hf://OWNER/NAME
    or shapes/NAME; the page can open others. Only headers are read, and nothing is written.

    Only programs on this machine reach the page, and only with the token in its address.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise OutputError("the studio needs starlette and uvicorn", 'pip install "quantrecipe[studio]"')
    from quantrecipe.cli.planned.inputs import importance_in, importance_of, sensitivity_in
    from quantrecipe.fit.stock import recipe_like
    from quantrecipe.model.not_a_model import require_model
    from quantrecipe.model.open_model import open_model
    from quantrecipe.recipe.load import recipe_place
    from quantrecipe.studio.opened import Knowledge
    from quantrecipe.studio.server import listen, open_browser, serve
    from quantrecipe.studio.session import Session, settle

    registry = ctx.load_registry()
    if model is not None:  # what is wrong with it is said here
        opened = open_model(model, registry=registry)
        require_model(opened)
        importance = importance_of(opened, imatrix, another_model=another_model)
    else:
        importance = importance_in(imatrix)
    knows = Knowledge(
        registry=registry,
        importance=importance,
        another_model=another_model,
        sensitivity=sensitivity_in(sensitivity),
        allow_requantize=allow_requantize,
    )
    if base is not None:
        recipe_like(base, registry)
    session = Session(knows=knows, opened=settle, model=model or "", base=base or "")
    if recipe is not None:
        place = recipe_place(recipe, registry)
        session.recipe = place.path.name, place.read()
        session.folder = place.path.parent

    def ready(address: str) -> None:
        ctx.console.print(f"the studio is open at {address}", soft_wrap=True)
        ctx.say("Ctrl-C ends it.")
        if not no_browser:
            open_browser(address)

    with listen(port) as listening:
        serve(session, listening, ready)
