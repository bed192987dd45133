"""The options that a machine has with models, as a person reads them.

There is a line for each recipe and each way to run it. Below what doesn't fit stands by how much it misses, and what
would make it fit.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.planned.running_table import WHERE, miss_text, run_cells
from quantrecipe.cli.speed.speed_table import iq_or_q_text, rate_text
from quantrecipe.cli.tables import Cell, Kind, Paragraph, Table, numbers
from quantrecipe.cli.units import count_text, gib_text, loss_text, unit_of
from quantrecipe.fit.advise import Advice, Room
from quantrecipe.fit.picks import Option, Pick
from quantrecipe.memory.device import Settings, reserved
from quantrecipe.memory.footprint import Footprint
from quantrecipe.memory.machine import Machine
from quantrecipe.model.model import Model
from quantrecipe.plain_data import fields_of, rounded_bits, significant
from quantrecipe.registry import Registry
from quantrecipe.speed.verdicts import iq_or_q
from quantrecipe.units import memory_text, tokens_text

__all__ = ["Advised", "advice_document", "render_advice"]

_GIB = 1 << 30
# Cells that names take, at least, so that tables of several models look alike; longer ones get a line of
# their own, so that the columns fit into 80.
_SHORTEST_NAME, _LONGEST_NAME = 10, 16
# Devices of the table of targets, as a sentence names them.
_DEVICES = {"cpu": "CPUs", "cuda": "CUDA", "metal": "Metal", "vulkan": "Vulkan"}
# What `advise` picks for, as a sentence names it.
_USES = {"code": "code", "chat": "chat", "long context": "long contexts"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Advised:
    """A model, as it was named, and the advice."""

    name: str
    model: Model
    advice: Advice


# Columns in the unit that the heading names.
_AMOUNTS = ("weights", "KV", "compute", "total", "left", "RAM")
# Columns that a narrow terminal does without, in this order: the others tell the same in another way.
_SPARE = ("file", "longest", "bits")
# The heading of the last column, whose letters the legend explains. The first column has no heading either.
_NOTES = " "
_RATE = "tok/s"


def render_advice(
    advised: Sequence[Advised],
    machine: Machine,
    room: Room,
    settings: Settings,
    registry: Registry,
    *,
    given: bool,
) -> RenderableType:
    """The machine, and for each model its table and what to take. `given`: the GPU was said, not found."""
    parts: list[RenderableType] = [Paragraph(_machine(machine, room, settings, given=given), indent=0)]
    for it in advised:
        parts += [Text(), *_heading(it, settings), _table(it, room), Text(), *_picks(it, room, settings)]
    if len(advised) > 1:
        said = (
            "The losses of different models can't be compared: each is how far a file is from its own model without "
            "quantization, and says nothing of how good that model is. To choose between models, ask both your own "
            "questions, or trust a benchmark of both files; `quantrecipe help which-file` has what was published."
        )
        parts += [Text(), Paragraph(said, indent=0)]
    return Lines(*parts, Text(), *_legend(advised, room, registry))


def advice_document(
    advised: Sequence[Advised], machine: Machine, room: Room, settings: Settings, registry: Registry
) -> dict[str, Any]:
    """What is printed; a single model's advice stands at the top, too, as it did when there was only one."""
    models = [_of_model(it, registry) for it in advised]
    top = (
        {key: models[0][key] for key in ("layers", "source", "options", "picks")} if len(models) == 1 else {}
    )
    return {
        "machine": {
            "gpus": [fields_of(gpu, "name", "total", "free", "device") for gpu in machine.gpus],
            **fields_of(machine, "ram_total", "ram_free", "unified"),
        },
        "room": {"gpu": room.gpu, "reserved": reserved(room.gpu), "ram": room.ram},
        **fields_of(settings, "context", "kv"),
        **top,
        "models": models,
    }


def _of_model(it: Advised, registry: Registry) -> dict[str, Any]:
    advice = it.advice
    bits = {name: fmt.spec.bits_per_weight for name, fmt in registry.formats.items()}
    return {
        "model": it.name,
        "weights": _weights(it.model),
        "layers": advice.layers,
        "trained_context": advice.trained,
        "source": advice.source,
        "options": [_of_option(option) for option in advice.options],
        "picks": [{"use": pick.use, "option": pick.option.name, "why": pick.why} for pick in advice.picks],
        "left_out": advice.left_out,
        "measured_speed": {
            place: {
                **fields_of(profile, "key", "where", "engine", "model"),
                "iq_or_q": iq_or_q(profile, bits),
            }
            for place, profile in advice.speeds.items()
        },
    }


def _of_option(option: Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "recipe": option.recipe or None,
        "nbytes": option.nbytes,
        "bits_per_weight": rounded_bits(option.bits_per_weight),
        "loss": significant(option.loss),
        **fields_of(option, "needs_imatrix", "experiment", "slow", "refused", "way"),
        "gpu_layers": option.layers,
        "gpu_nbytes": option.gpu,
        "ram_nbytes": option.ram,
        "active_nbytes": option.active,
        "max_context": option.context,
        **fields_of(option, "runs", "best"),
        "max_context_whole": option.whole_context,
        "fits_with_q8_0_kv": option.small_cache is not None,
        "speed": option.pace,
    }


def _machine(machine: Machine, room: Room, settings: Settings, *, given: bool) -> str:
    kept = f" ({gib_text(reserved(room.gpu))} GiB of it stays with the driver)" if room.gpu else ""
    found = ", ".join(f"{printable(gpu.name)} with {memory_text(gpu.total)}" for gpu in machine.gpus)
    gpus = f"VRAM {memory_text(room.gpu)}" if room.gpu else "no GPU"
    if not given and len(machine.gpus) == 1:
        gpus = found
    elif not given and machine.gpus:
        gpus += f", of {found}"
    memory = f"one memory of {memory_text(room.ram)}" if room.unified else f"RAM {memory_text(room.ram)}"
    return f"{gpus}{kept}, {memory}, context {tokens_text(settings.context)}, KV cache {settings.kv}"


def _heading(it: Advised, settings: Settings) -> Iterator[Paragraph]:
    trained = it.advice.trained
    made = f", trained for contexts of {tokens_text(trained)}" if trained else ""
    text = f"{printable(it.name)}: {count_text(_weights(it.model))} weights{made}; in {_unit(it)[0]}"
    yield Paragraph(text, "bold", indent=0)
    if trained and settings.context > trained:
        said = (
            f"! a context of {tokens_text(settings.context)} is longer than what the model was trained for: beyond "
            f"{trained:,} it answers worse, or not at all, unless its positions are scaled"
        )
        yield Paragraph(said, "yellow", indent=0)


def _unit(it: Advised) -> tuple[str, int]:
    """The unit in which all amounts of a model's table are told."""
    totals = [max(run.gpu.total, run.ram.total) for option in it.advice.options for run in option.runs]
    return unit_of(max(totals, default=0))


def _weights(model: Model) -> int:
    return sum(tensor.size for tensor in model.tensors)


def _table(it: Advised, room: Room) -> Table:
    """A line for each recipe and way to run it; below those that don't fit, by how much they miss."""
    unit = _unit(it)[1]
    headings = ["bits", "est. loss", "file", *_AMOUNTS, "longest"]
    if any(option.pace is not None and option.pace.token for option in it.advice.options):
        headings.insert(2, _RATE)
    if not room.gpu:
        headings.remove("RAM")  # it is all there is
    rows: list[Sequence[Cell] | Paragraph] = []
    for option in it.advice.options:
        label = printable(option.name)
        if len(label) > _LONGEST_NAME:
            rows.append(Paragraph(label, whole=label))
            label = ""
        style = "bold" if option.name == "fitted" else ""
        for number, run in enumerate(option.runs):
            cells = run_cells(run, unit, on_gpu=bool(room.gpu)) | _of_file(
                option, run, unit, first=number == 0
            )
            rows.append(
                (
                    (label.ljust(_SHORTEST_NAME), style),
                    *(cells[heading] for heading in headings),
                    cells[_NOTES],
                )
            )
            label, style = "  experts in RAM", ""
        if not any(run.fits for run in option.runs):
            rows.append(Paragraph(_miss(option), "dim", start=2))
    columns: dict[str, Kind] = {"": "word", **numbers(*headings), _NOTES: "word"}
    return Table(columns, rows, ruled=False, spare=_SPARE)


def _of_file(option: Option, run: Footprint, unit: int, *, first: bool) -> dict[str, tuple[str, str]]:
    """What is about the file, which only its `first` row has, and the longest context of each."""
    style = "" if run.fits else "dim"
    texts = {
        "bits": f"{option.bits_per_weight:.2f}",
        "est. loss": loss_text(option.loss),
        "file": gib_text(option.nbytes, unit),
        _RATE: "–",
        _NOTES: _notes(option),
    }
    cells = {heading: (text if first else "", style) for heading, text in texts.items()}
    if option.pace is not None and option.best is not None and run.way == option.best.way:
        cells[_RATE] = rate_text(option.pace.token), "bold"
    return cells | {"longest": (_longest(option, run), style)}


def _longest(option: Option, run: Footprint) -> str:
    """The most tokens that fit in this way, where that is known."""
    if option.best is not None and option.best.way == run.way:
        return f"{option.context:,}"
    return f"{option.whole_context:,}" if run is option.runs[0] and option.whole_context else "-"


def _notes(option: Option) -> str:
    marks = (
        ("m", option.needs_imatrix),
        ("s", bool(option.slow)),
        ("x", option.experiment),
        ("u", bool(option.refused)),
    )
    return "".join(mark for mark, holds in marks if holds)


def _miss(option: Option) -> str:
    return miss_text(
        option.runs,
        context=option.whole_context,
        small_cache=option.small_cache is not None,
        best=option.best,
        layers=option.all_layers,
    )


def _where(option: Option) -> str:
    return "" if option.way == "no" else WHERE[option.way].format(layers=option.layers, of=option.all_layers)


def _picks(it: Advised, room: Room, settings: Settings) -> Iterator[RenderableType]:
    advice = it.advice
    uses: dict[str, list[Pick]] = {}
    for pick in advice.picks:
        uses.setdefault(pick.option.name, []).append(pick)
    for name, picks in uses.items():
        option = picks[0].option
        use = f" for {_listed([_USES[pick.use] for pick in picks])}" if picks[0].use else ""
        lead = f"Take {printable(name)}{use}, {_where(option)}: "
        why = "; ".join(dict.fromkeys(pick.why for pick in picks))
        yield Paragraph(Text.assemble((lead, "bold"), f"{why}.{_caveats(option)}"), indent=0)
    if not uses:
        yield Paragraph(_nothing(advice), "yellow", indent=0)
    if any(option.name == "fitted" for option in advice.options):
        yield from (Text(line, "dim") for line in _fit_lines(it.name, room, settings))


def _caveats(option: Option) -> str:
    said = ""
    if option.needs_imatrix:
        said += " It needs an importance matrix."
    if option.slow:
        types = _listed(sorted({name for types in option.slow.values() for name in types}))
        verb = "are" if " " in types else "is"
        said += f" {types} {verb} slow on {_listed([_DEVICES[it] for it in option.slow])}."
    return said


def _nothing(advice: Advice) -> str:
    running = [option for option in advice.options if option.way != "no"]
    if any(option.refused for option in running):
        return "What fits has types that the engine can't run: take another recipe."
    if running:
        return (
            "Only experiments fit here: files of so few bits answer, but not reliably (`quantrecipe help QR303`). "
            "Take a smaller model in more bits, a shorter context, or more memory."
        )
    return "Nothing fits: allow more memory or a shorter context, or take a smaller model."


def _fit_lines(model: str, room: Room, settings: Settings) -> list[str]:
    """The command that makes what is called fitted. It has a line of its own, so that it can be copied."""
    kv = "" if settings.kv == "f16" else f" --kv {settings.kv}"
    gpu = f"--vram {_exact(room.gpu)} --context {settings.context}{kv}"
    limit = gpu if room.gpu else f"--ram {_exact(room.ram)}"
    return ["fitted is what this makes:", f"  quantrecipe fit {shlex.quote(printable(model))} {limit}"]


def _exact(nbytes: int) -> str:
    return f"{nbytes // _GIB}GiB" if nbytes % _GIB == 0 else f"{nbytes >> 20}MiB"


def _legend(advised: Sequence[Advised], room: Room, registry: Registry) -> Iterator[Paragraph]:
    options = [option for it in advised for option in it.advice.options]
    usable = memory_text(room.gpu - reserved(room.gpu)) if room.gpu else memory_text(room.ram)
    place = "of the GPU's memory" if room.gpu else "of main memory"
    said = [
        f"weights, KV cache, compute buffers, their total: {place}; left: what remains of {usable}"
        + ("; RAM: main memory" if room.gpu else ""),
        f"est. loss: an estimate of the mean KL divergence in nats, by the {advised[0].advice.source}"
        + ("; nothing was measured on this model" if advised[0].advice.source.startswith("prior") else ""),
    ]
    speeds = {profile.key: profile for it in advised for profile in it.advice.speeds.values()}
    for profile in speeds.values() if any(option.pace is not None for option in options) else ():
        said.append(
            f"tok/s: tokens per second of answers, in the way in which it runs; measured on {printable(profile.where)} "
            f"with the shapes of {printable(profile.model)}"
        )
        said += [text] if (text := iq_or_q_text(profile, registry)) else []
    if not speeds:
        said.append(
            "speed wasn't measured on this machine, so what is said of it is the table's: `quantrecipe speed MODEL` "
            "measures it"
        )
    if any(option.needs_imatrix for option in options):
        said.append("m  needs an importance matrix, and is laid out as if there were one")
    if any(option.slow for option in options):
        devices = list(dict.fromkeys(_DEVICES[device] for option in options for device in option.slow))
        source = "by the table of targets (QR402)"
        if speeds:
            source = "as it was measured here, and, where it wasn't, by the table of targets (QR402)"
        said.append(f"s  has types that are slow on {_listed(devices)}, {source}")
    if any(option.experiment for option in options):
        said.append("x  an experiment: fewer bits than Q2_K, so that answers aren't reliable (QR303)")
    if any(option.refused for option in options):
        said.append("u  has types that the engine can't run (QR401)")
    left_out = {name: why for it in advised for name, why in it.advice.left_out.items()}
    said += [f"{name} isn't possible: {printable(why)}" for name, why in left_out.items()]
    yield from (Paragraph(text, "dim", indent=0) for text in said)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
