"""What a cluster takes for a plan: hours, bytes and money, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantrecipe.cli.units import count_text, counted, duration_text
from quantrecipe.units import file_text

if TYPE_CHECKING:
    from quantrecipe.output.shares.forecast import Cluster, Forecast
    from quantrecipe.output.shares.rates import Rates
    from quantrecipe.plan.plan import Plan
    from quantrecipe.registry import Registry

__all__ = ["cluster_document", "cluster_lines"]

_HOUR = 3600.0

_THREADS = 8
_BANDWIDTH = {"read": 2e9, "write": 1e9, "network": 1.25e9}
_START = 30.0
"""What is assumed where nothing is said: an ordinary file server and 10 Gbit/s for each node."""


def cluster_lines(plan: Plan, said: Mapping[str, Any], registry: Registry) -> list[str]:
    """The answer in sentences."""
    cluster, rates, found = _asked(plan, said, registry)
    nodes = counted(cluster.nodes, "node")
    lines = [
        f"on {nodes} of {counted(cluster.threads, 'thread')}: {duration_text(found.seconds)}, of which "
        f"{duration_text(found.assembling)} to write the file; bound by {found.bound_by}",
        f"{counted(found.units, 'unit')} of work; reads {file_text(found.read)}, writes {file_text(found.written)}",
    ]
    if found.again:
        lines.append(f"{counted(found.again, 'unit')} made again, whose nodes were lost")
    hours = f"{found.node_seconds / _HOUR:.2f} hours of nodes"
    lines.append(hours if found.cost is None else f"{hours}, {found.cost:.2f} at {cluster.price:g} an hour")
    lines.append("understood: " + ", ".join(_understood(plan, cluster, rates, said)))
    return lines


def cluster_document(plan: Plan, said: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """The same as plain data; seconds, bytes, and what was assumed."""
    cluster, rates, found = _asked(plan, said, registry)
    return {
        **{name: getattr(found, name) for name in type(found).__slots__},
        "assumed": {
            **{name: getattr(cluster, name) for name in type(cluster).__slots__},
            "rate": _weights_per_second(plan, rates),
            "rate_measured": rates.measured,
        },
    }


def _asked(plan: Plan, said: Mapping[str, Any], registry: Registry) -> tuple[Cluster, Rates, Forecast]:
    from quantrecipe.output.shares.forecast import Cluster, forecast
    from quantrecipe.output.shares.rates import given_rate, measured_rates

    given = {name: value for name, value in said.items() if name != "rate"}
    cluster = Cluster(**{"threads": _THREADS, "start": _START} | _BANDWIDTH | given)
    rates = given_rate(said["rate"]) if "rate" in said else measured_rates(plan, registry)
    return cluster, rates, forecast(plan, cluster, rates)


def _weights_per_second(plan: Plan, rates: Rates) -> float | None:
    mean = rates.mean(plan)
    return round(1 / mean) if mean else None


def _understood(plan: Plan, cluster: Cluster, rates: Rates, said: Mapping[str, Any]) -> list[str]:
    rate = _weights_per_second(plan, rates)
    speed = "weights take no time" if rate is None else f"{count_text(rate)} weights/s a thread"
    found = [f"{speed} ({'measured here' if rates.measured else 'given'})"]
    found += [
        f"{name}={getattr(cluster, name) / 1e9:g}GB/s{'' if name in said else ' (typical)'}"
        for name in _BANDWIDTH
    ]
    found.append(f"start={cluster.start:g}s{'' if 'start' in said else ' (typical)'}")
    if cluster.lost:
        back = "doesn't come back" if cluster.back is None else f"is back in {duration_text(cluster.back)}"
        found.append(f"a node is lost {cluster.lost:g} times an hour, and {back}")
    return found
