"""The tables of docs/which-file.md, computed from the reference models: what files take, and which fit into a card.

    python tools/which_file.py            prints the page with its tables made anew
    python tools/which_file.py --write    writes it, and its translations

It needs no weights. The examples are what the commands print at 80 columns, without their legends. A test checks that
the page shows all of this.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from quantrecipe.allocate.losses import Losses
from quantrecipe.cli import main as quantrecipe
from quantrecipe.cli.units import gib_text
from quantrecipe.fit.candidates import named_candidate
from quantrecipe.fit.picks import FINE
from quantrecipe.fit.stock import estimated_loss
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.memory.device import Settings
from quantrecipe.memory.footprint import Room, Runs, Tensors
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

DOCS = Path(__file__).parents[1] / "docs"
WORDS: dict[str, dict[str, str]] = {
    "which-file.md": {},
    "ru/which-file.md": {
        "| model |": "| модель |",
        "(experts)": "(эксперты)",
        "experts in RAM": "эксперты в ОЗУ",
        "compute": "буферы",
    },
    "zh/which-file.md": {
        "| model |": "| 模型 |",
        "(experts)": "（专家）",
        "experts in RAM": "专家在内存",
        "compute": "计算",
    },
}
"""The pages, and what stands for the words of the tables there."""
MODELS = {
    "gemma-3-4b-it": "Gemma 3 4B",
    "meta-llama-3.1-8b-instruct": "Llama 3.1 8B",
    "qwen3-14b": "Qwen3 14B",
    "qwen3.6-27b": "Qwen3.6 27B",
    "meta-llama-3.1-70b-instruct": "Llama 3.1 70B",
    "qwen3-30b-a3b": "Qwen3 30B A3B (experts)",
    "glm-4.6v": "GLM 4.6V, 107B (experts)",
}
RECIPES = ("Q2_K", "ud-q3-k-xl", "IQ4_XS", "ud-q4-k-xl", "ud-q5-k-xl", "Q6_K", "Q8_0")
EXAMPLE = re.compile(r"(    quantrecipe (?P<command>advise [^\n]+)\n\n```text\n).*?(?=\n```)", re.DOTALL)
LEGEND = "\n\nweights, KV cache"  # The legend begins with these words. The page itself explains what it says.
CARDS = (8, 12, 16, 24)
RAM = 64  # GiB, for what stays in main memory
SHORT, LONG = Settings(context=8192), Settings(context=32768)
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class File:
    """A recipe on a model."""

    name: str
    tensors: Tensors
    nbytes: int
    loss: float


def files_of(model: Model, registry: Registry) -> list[File]:
    """The ladder, the smallest first."""
    losses, found = Losses(model, registry, None, {}), []
    for name in RECIPES:
        plan = make_plan(
            named_candidate(name, registry).recipe,
            model,
            registry=registry,
            importance=assumed_importance(model.tensors),
            provenance=False,
        )
        tensors = [(a.tensor, a.nbytes) for a in plan.assignments]
        found.append(File(name=name, tensors=tensors, nbytes=plan.nbytes, loss=estimated_loss(plan, losses)))
    return found


def takes(models: dict[str, Model], files: dict[str, list[File]]) -> Iterator[str]:
    """GiB of a file whole on the GPU."""
    yield "| model | Q3 | Q4 | Q6 | Q8 | KV, 8k | KV, 32k | KV, 32k, q8_0 | compute |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, title in MODELS.items():
        runs = Runs(models[name], Room(gpu=1 << 50, ram=1 << 50))
        by_name = {file.name: file for file in files[name]}
        weights = [
            runs.footprint(by_name[recipe].tensors, SHORT).gpu.weights
            for recipe in ("ud-q3-k-xl", "ud-q4-k-xl", "Q6_K", "Q8_0")
        ]
        tensors = by_name["ud-q4-k-xl"].tensors
        short, long = (runs.footprint(tensors, settings).gpu for settings in (SHORT, LONG))
        small = runs.footprint(tensors, Settings(context=32768, kv="q8_0")).gpu
        numbers = [*weights, short.cache, long.cache, small.cache, short.compute + short.copies]
        yield f"| {title} | {' | '.join(gib_text(number) for number in numbers)} |"


def which(models: dict[str, Model], files: dict[str, list[File]], settings: Settings) -> Iterator[str]:
    """For each card the file that loses the least of those that fit."""
    yield f"| model | {' | '.join(f'{card} GiB' for card in CARDS)} |"
    yield f"|---|{'---|' * len(CARDS)}"
    for name, title in MODELS.items():
        cells = [_best(models[name], files[name], card, settings) for card in CARDS]
        yield f"| {title} | {' | '.join(cells)} |"


def _best(model: Model, files: Sequence[File], card: int, settings: Settings) -> str:
    runs = Runs(model, Room(gpu=card * GIB, ram=RAM * GIB))
    whole = [file for file in files if runs.footprint(file.tensors, settings).fits]
    beside = [
        file
        for file in files
        if runs.has_experts
        and runs.footprint(file.tensors, Settings(context=settings.context, experts="cpu")).fits
    ]
    best = min(whole, key=lambda file: file.loss, default=None)
    if beside and (best is None or best.loss > FINE):
        return f"{min(beside, key=lambda file: file.loss).name}, experts in RAM"
    if best is None:
        return "-"
    return best.name if best.loss <= FINE else f"({best.name})"


def pages() -> dict[str, str]:
    """The pages, their tables made anew; what stands between the marks is replaced."""
    registry = load_registry(plugins=False)
    models = {name: open_model(f"shapes/{name}", registry=registry) for name in MODELS}
    files = {name: files_of(model, registry) for name, model in models.items()}
    tables = {
        "takes": list(takes(models, files)),
        "8k": list(which(models, files, SHORT)),
        "32k": list(which(models, files, LONG)),
    }
    examples: dict[str, str] = {}  # a command prints the same in all languages
    made = {}
    for name, words in WORDS.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        for mark, lines in tables.items():
            table = "\n".join(lines)
            for word, translated in words.items():
                table = table.replace(word, translated)
            before, _, rest = text.partition(f"<!-- table: {mark} -->\n")
            _, _, after = rest.partition("<!-- end -->")
            text = f"{before}<!-- table: {mark} -->\n{table}\n<!-- end -->{after}"
        for match in EXAMPLE.finditer(text):
            command = match["command"]
            if command not in examples:
                examples[command] = printed(command)
        made[name] = EXAMPLE.sub(lambda match: match[1] + examples[match["command"]], text)
    return made


class _Terminal(StringIO):
    """Keeps what is printed. It says that it is a terminal, because nothing is wrapped for pipes and files."""

    def isatty(self) -> bool:
        return True


def printed(command: str) -> str:
    """What a command prints on a terminal of 80 columns, without its legend."""
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "80"
    out = _Terminal()
    try:
        with redirect_stdout(out):
            status = quantrecipe(["--color", "never", *shlex.split(command)])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    if status:
        raise SystemExit(f"quantrecipe {command} ends with {status}")
    return out.getvalue().partition(LEGEND)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the tables of docs/which-file.md anew.")
    parser.add_argument("--write", action="store_true", help="write the page instead of printing it")
    made = pages()
    if parser.parse_args().write:
        for name, text in made.items():
            (DOCS / name).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(made["which-file.md"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
