"""The options that a machine has with a model, as a person reads them."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.spending_table import loss_text
from quantrecipe.cli.units import bytes_text
from quantrecipe.fit.advise import Advice, Option, Room
from quantrecipe.memory.device import Settings, reserved
from quantrecipe.memory.machine import Machine

__all__ = ["plain_advice", "render_advice"]

_STYLES = {"gpu": "green", "experts beside it": "", "some layers": "yellow", "cpu": "yellow", "no": "dim"}


def render_advice(
    advice: Advice, machine: Machine, room: Room, settings: Settings, model: str, *, given: bool
) -> RenderableType:
    """The machine, the table, and what to take. `given`: the GPU was said, not found."""
    parts: list[RenderableType] = [_machine(machine, room, settings, given=given), _table(advice)]
    if advice.picks:
        parts += [_picks(advice), Text()]
    else:
        parts.append(Text("nothing fits: allow more memory, or take a smaller model", style="yellow"))
    said = (
        f"loss: expected KL divergence in nats, by {advice.source}; GPU, memory: what it takes of them; "
        "a token: bytes that are read for each; tokens: the longest context that runs this way"
    )
    parts.append(Text(said, style="dim"))
    if any(option.name == "fitted" for option in advice.options):
        parts.append(
            Text(f"fitted: quantrecipe fit {printable(model)}{_fit_options(room, settings)}", style="dim")
        )
    return Lines(*parts)


def plain_advice(advice: Advice, machine: Machine, room: Room, settings: Settings) -> dict[str, Any]:
    """Plain data for machines."""
    return {
        "machine": {
            "gpus": [
                {"name": gpu.name, "total": gpu.total, "free": gpu.free, "device": gpu.device}
                for gpu in machine.gpus
            ],
            "ram_total": machine.ram_total,
            "ram_free": machine.ram_free,
            "unified": machine.unified,
        },
        "room": {"gpu": room.gpu, "reserved": reserved(room.gpu), "ram": room.ram},
        "context": settings.context,
        "kv": settings.kv,
        "layers": advice.layers,
        "source": advice.source,
        "options": [_plain(option) for option in advice.options],
        "picks": [{"use": pick.use, "option": pick.option.name, "why": pick.why} for pick in advice.picks],
    }


def _plain(option: Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "nbytes": option.nbytes,
        "bits_per_weight": round(option.bits_per_weight, 4),
        "loss": float(f"{option.loss:.6g}"),
        "way": option.way,
        "gpu_layers": option.layers,
        "gpu_nbytes": option.gpu,
        "ram_nbytes": option.ram,
        "active_nbytes": option.active,
        "max_context": option.context,
    }


def _machine(machine: Machine, room: Room, settings: Settings, *, given: bool) -> Text:
    if given or not machine.gpus:
        gpus = f"a GPU with {bytes_text(room.gpu)}" if room.gpu else "no GPU"
    else:
        gpus = ", ".join(f"{printable(gpu.name)} with {bytes_text(gpu.total)}" for gpu in machine.gpus)
    kept = f" ({bytes_text(reserved(room.gpu))} of it left to the driver)" if room.gpu else ""
    memory = "of one memory" if room.unified else "of main memory"
    return Text(
        f"{gpus}{kept}, {bytes_text(room.ram)} {memory}; context {settings.context:,} tokens, cache {settings.kv}"
    )


def _table(advice: Advice) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("mix", no_wrap=True)
    for heading in ("file", "bits", "loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("runs", no_wrap=True)
    for heading in ("GPU", "memory", "a token", "tokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    for option in advice.options:
        fits = option.way != "no"
        table.add_row(
            Text(option.name, "bold" if option.name == "fitted" else ""),
            bytes_text(option.nbytes),
            f"{option.bits_per_weight:.2f}",
            loss_text(option.loss),
            Text(_way(option, advice.layers), _STYLES[option.way]),
            bytes_text(option.gpu) if fits and option.gpu else "",
            bytes_text(option.ram) if fits else "",
            "" if option.active is None else bytes_text(option.active),
            f"{option.context:,}" if fits else "",
        )
    return table


def _way(option: Option, layers: int) -> str:
    return {
        "gpu": "on the GPU",
        "experts beside it": "experts beside it: --cpu-moe",
        "some layers": f"partly on it: -ngl {option.layers} of {layers}",
        "cpu": "on the CPU",
        "no": "doesn't fit",
    }[option.way]


def _picks(advice: Advice) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for pick in advice.picks:
        table.add_row(pick.use, Text(pick.option.name, "bold"), pick.why)
    return table


def _fit_options(room: Room, settings: Settings) -> str:
    if not room.gpu:
        return f" --ram {room.ram}"
    kv = "" if settings.kv == "f16" else f" --kv {settings.kv}"
    return f" --vram {room.gpu} --context {settings.context}{kv}"
