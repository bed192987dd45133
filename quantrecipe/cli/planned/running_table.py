"""What a planned file takes where it runs, as a person reads it; and by how much a mix misses, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.tables import Cell, Paragraph, Table, numbers
from quantrecipe.cli.units import bytes_text, gib_text, left_text, unit_of
from quantrecipe.memory.device import reserved
from quantrecipe.memory.footprint import Footprint, Room, Runs
from quantrecipe.units import memory_text, tokens_text

if TYPE_CHECKING:
    from quantrecipe.cli.options.limits import Running
    from quantrecipe.plan.plan import Plan

__all__ = ["WHERE", "miss_text", "render_runs", "run_cells", "runs_document", "warnings_of"]

WHERE = {
    "gpu": "all on the GPU",
    "experts beside it": "with the experts in main memory (--cpu-moe)",
    "some layers": "with {layers} of {of} layers on the GPU (-ngl {layers})",
    "cpu": "on the CPU",
}
_LABELS = {
    "gpu": "all on the GPU",
    "experts beside it": "experts in RAM",
    "some layers": "some layers",
    "cpu": "on the CPU",
}
# Cells of an amount, at least, so that the tables of several plans look alike.
_AMOUNT = 7
_SMALL = 10 << 20  # bytes: less would be told as 0.00 GiB
_UNKNOWN = 1 << 62  # bytes: of a memory that nobody spoke of, so that it never lacks


def render_runs(plan: Plan, running: Running) -> RenderableType:
    """A line for each way to run the file, and whether it fits into what there is."""
    _, found = _runs(plan, running)
    settings = running.settings
    name, unit = unit_of(max(max(run.gpu.total, run.ram.total) for run in found))
    said = [f"VRAM {memory_text(running.vram)}"] if running.vram is not None else []
    said += [f"RAM {memory_text(running.ram)}"] if running.ram is not None else []
    said += [f"context {tokens_text(settings.context)}", f"KV cache {settings.kv}"]
    heading = Text.assemble(("where it runs", "bold"), f" ({name}): {', '.join(said)}")
    lines: list[RenderableType] = [Text(), Paragraph(heading)]
    headings = ("weights", "KV", "compute", "total", *(["left"] if running.vram is not None else []), "RAM")
    rows: list[list[Cell]] = []
    for run in found:
        cells = run_cells(run, unit)
        amounts = [(text.rjust(_AMOUNT), style) for text, style in map(cells.__getitem__, headings)]
        rows.append([f"{_LABELS[run.way]}  ", *amounts])
    lines.append(Table({"": "word", **numbers(*headings)}, rows, ruled=False))
    lines += [Paragraph(f"! {warning}", "yellow") for warning in warnings_of(plan, running)]
    if running.vram is not None and found[0].fits:
        left, kept = gib_text(found[0].gpu_left), gib_text(reserved(running.vram))
        lines.append(Paragraph(f"it fits: {left} GiB are left, beside {kept} GiB for the driver"))
    return Lines(*lines)


def run_cells(run: Footprint, unit: int, *, on_gpu: bool = True) -> dict[str, tuple[str, str]]:
    """What it takes of the GPU's memory (False: of main memory), and of main memory besides, by heading."""
    memory, left = (run.gpu, run.gpu_left) if on_gpu else (run.ram, run.ram_left)
    style = "" if run.fits else "dim"
    amounts = {
        "weights": memory.weights,
        "KV": memory.cache,
        "compute": memory.compute + memory.copies,
        "total": memory.total,
    }
    cells = {heading: (gib_text(size, unit), style) for heading, size in amounts.items()}
    cells["left"] = left_text(left, unit), "green" if left >= 0 else "red"
    cells["RAM"] = gib_text(run.ram.total, unit), style if run.ram_left >= 0 else "red"
    return cells


def runs_document(plan: Plan, running: Running) -> dict[str, Any]:
    """What is printed of it; what is left is null of a memory that nobody spoke of."""
    _, found = _runs(plan, running)
    documents = []
    for run in found:
        document = run.to_json()
        for place, there in (("gpu", running.vram), ("ram", running.ram)):
            if there is None:
                document[place]["left"] = None
        if running.vram is None and running.ram is None:
            document["fits"] = None
        documents.append(document)
    return {
        "vram": running.vram,
        "ram": running.ram,
        "ways": documents,
        "warnings": warnings_of(plan, running),
    }


def warnings_of(plan: Plan, running: Running) -> list[str]:
    """Warnings about running the file, before anybody makes it."""
    runs, found = _runs(plan, running)
    settings = running.settings
    said = []
    if runs.trained is not None and settings.context > runs.trained:
        said.append(
            f"a context of {tokens_text(settings.context)} is longer than the {runs.trained:,} that the model was made "
            "for"
        )
    if (running.vram is not None or running.ram is not None) and not found[0].fits:
        tensors = [(a.tensor, a.nbytes) for a in plan.assignments]
        missing = miss_text(
            found[:1],
            context=runs.longest(tensors, settings),
            small_cache=runs.with_small_cache(tensors, settings) is not None,
            best=runs.best(tensors, settings),
            layers=runs.layers(),
        )
        said.append(f"it doesn't fit: {missing}")
    return said


def miss_text(
    runs: Sequence[Footprint], *, context: int, small_cache: bool, best: Footprint | None, layers: int
) -> str:
    """By how much the first way misses, and what would help: a shorter context, a smaller cache, or another way."""
    whole = runs[0]
    on_gpu = whole.gpu_left < 0 and whole.way != "cpu"
    missing, place = (-whole.gpu_left, "the GPU") if on_gpu else (-whole.ram_left, "RAM")
    helps = [f"with a context of {tokens_text(context)}"] if context else []
    helps += ["with --kv q8_0"] if small_cache else []
    if best is not None:  # another way than the first, which doesn't fit
        helps.append(WHERE[best.way].format(layers=best.layers, of=layers))
    much = f"{gib_text(missing)} GiB" if missing >= _SMALL else bytes_text(missing)
    said = f"{much} too much for {place}"
    if best is None and on_gpu and any(run.ram_left < 0 for run in runs):
        said += ", and RAM doesn't hold the rest"
    return f"{said}; it runs {', or '.join(helps)}" if helps else f"{said}; it doesn't run here"


def _runs(plan: Plan, running: Running) -> tuple[Runs, list[Footprint]]:
    """The way that was asked for; for a model with experts also the way with these in main memory."""
    from dataclasses import replace

    gpu = _UNKNOWN if running.vram is None else running.vram
    runs = Runs(plan.written, Room(gpu=gpu, ram=_UNKNOWN if running.ram is None else running.ram))
    tensors = [(a.tensor, a.nbytes) for a in plan.assignments]
    settings = running.settings
    found = [runs.footprint(tensors, settings)]
    if runs.has_experts and settings.experts == "gpu" and settings.layers is None:
        found.append(runs.footprint(tensors, replace(settings, experts="cpu")))
    return runs, found
