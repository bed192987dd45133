"""Make quantrecipe/sensitivity/prior.toml: how much the output of a typical model moves per unit of loss in a tensor.

    git clone https://github.com/Thireus/GGUF-Tool-Suite
    python tools/make_prior.py GGUF-Tool-Suite

Sources: GGUF-Tool-Suite by Thireus and its contributors, who measured the KL divergence of whole models with one
tensor at a time at about 1.75 bits (`models/*/kld_results.csv`); and small models of which
`tools/probe_every_tensor.py` probed every tensor (`tools/prior/*.csv`). Only ratios and medians over models go into
the prior, with how far models are apart.

Of each model: alpha = (KLD - KLD of the base) / D. Alphas of one role are summed over its layers; the sum for
`ffn_down` is the model's scale, other roles are told as a share of it, and layers as a share of their role's mean.
All go with the number of layers: log alpha = a + b log(layers / 32).
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantrecipe.sensitivity.prior import DEPTHS, VERSION, family_of
from quantrecipe.tensor import split_name

OUT = Path(__file__).parents[1] / "quantrecipe/sensitivity/prior.toml"

TYPES = {"iq1_kt": 0.115, "iq1_m_r4": 0.16, "iq1_s_r4": 0.2, "iq2_xxs": 0.11}
"""What models were measured in, the better ones first; and its D on Gaussian weights, with importance."""

SIGNAL = 0.4
"""A model counts where its tensors' mean KLD is above the base's by this share of the base's: else it is noise."""

LINEAR = 0.02
"""And where they stay below this, in nats: above, what breaks the output hides what differs between tensors."""

FEW = 3
"""Models; what fewer have says nothing of others."""

Alphas = dict[str, dict[int, float]]
"""Role → layer → alpha; outside the layers the layer is -1."""

HEADER = """\
# The prior of sensitivities, version {version}. Made by tools/make_prior.py; don't edit.
#
# Origin: GGUF-Tool-Suite by Thireus and its contributors (https://github.com/Thireus/GGUF-Tool-Suite), whose
# per-tensor KLD results are public; and probes of two small models that were trained for this project.
# Models: {models}.
#
# alpha of a tensor in a layer = scale(layers) / layers * roles.ROLE(layers) * depth.FAMILY at the layer's place
# alpha of any other           = outside.ROLE(layers);   f(layers) = exp(a + b * log(layers / 32))
# `doubt` is how far models are apart: the standard deviation of the logarithm.
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Alphas of a model."""

    name: str
    layers: int
    alphas: Alphas

    @property
    def scale(self) -> float:
        """The sum over all layers' ffn_down, of whatever kind."""
        return sum(
            sum(self.alphas[role].values()) for role in ("ffn_down", "ffn_down_exps") if role in self.alphas
        )


def main(suite: Path, probed: Iterable[Path]) -> None:
    """Read everything, and write the prior."""
    models = [m for path in sorted(suite.glob("models/*/kld_results.csv")) if (m := from_suite(path))]
    models += [from_probes(path) for path in sorted(probed)]
    lines = [HEADER.format(version=VERSION, models=", ".join(f"{m.name} ({m.layers})" for m in models))]
    lines += [f"version = {VERSION}", f"depths = {list(DEPTHS)}", ""]
    lines += ["[scale]", *trend([(m.layers, m.scale) for m in models])]
    outside: dict[str, list[tuple[int, float]]] = defaultdict(list)
    shares: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for model in models:
        tied = "output" not in model.alphas
        for role, by_layer in model.alphas.items():
            if -1 in by_layer:
                key = "token_embd_tied" if tied and role == "token_embd" else role
                outside[key].append((model.layers, by_layer[-1]))
            else:
                mean = sum(by_layer.values()) / len(by_layer)
                shares[role].append((model.layers, mean * model.layers / model.scale))
    for role, points in sorted(outside.items()):
        lines += ["", f"[outside.{role}]", *trend(points)]
    for role, found in sorted(shares.items()):
        if len(found) < FEW:
            continue
        lines += ["", f"[roles.{role}]", *trend(found)]
    lines += ["", "[depth]"]
    curves = {family: curve(models, family) for family in sorted({family_of(role) for role in shares})}
    lines += [
        f"{family} = {[float(f'{value:.3g}') for value in values]}" for family, values in curves.items()
    ]
    lines += ["", "[doubt]", f"layer = {residual(models, curves):.2f}"]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def from_suite(path: Path) -> Measured | None:
    """The alphas of a model of the suite; None where noise hides them, or tensors were measured as one."""
    with path.open(encoding="utf-8") as file:
        names, *rows = list(csv.reader(file))
    by_type = {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}
    type_ = next((name for name in TYPES if name in by_type), None)
    if type_ is None:
        return None
    klds = {name: float(text.rstrip("%")) for name, text in by_type[type_].items()}
    base = min(klds.values())
    blocks = [kld for name, kld in klds.items() if name.startswith("blk.")]
    if not SIGNAL * base < statistics.mean(blocks) - base < LINEAR:
        return None
    least = 0.02 * (statistics.median(blocks) - base)  # what noise made negative is at least a little
    alphas: Alphas = defaultdict(dict)
    for name, kld in apart(klds).items():
        layer, role = split_name(name)
        alphas[role][-1 if layer is None else layer] = max(kld - base, least) / TYPES[type_]
    layers = 1 + max(layer for by_layer in alphas.values() for layer in by_layer)
    return Measured(name=path.parent.name, layers=layers, alphas=dict(alphas))


def apart(klds: Mapping[str, float]) -> dict[str, float]:
    """Tensors that were measured together have the same number in their rows: each gets its part of it.

    They were, where two roles agree in most layers, to the last digit.
    """
    by_layer: dict[int | None, dict[str, float]] = defaultdict(dict)
    for name, kld in klds.items():
        layer, role = split_name(name)
        by_layer[layer][role] = kld
    base = min(klds.values())
    same: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for layer, found in by_layer.items():
        for one in found if layer is not None else ():
            for other in found:
                same[one, other].append(found[one] == found[other])
    mates = defaultdict(set)
    for (one, other), agree in same.items():
        if statistics.mean(agree) > 0.6:
            mates[one].add(other)
    parts = {}
    for name, kld in klds.items():
        layer, role = split_name(name)
        together = len(mates[role] & by_layer[layer].keys()) if layer is not None else 1
        parts[name] = base + (kld - base) / max(together, 1)
    return parts


def from_probes(path: Path) -> Measured:
    """The alphas of a model that tools/probe_every_tensor.py probed."""
    with path.open(encoding="utf-8") as file:
        title = file.readline()
        rows = list(csv.DictReader(file))
    found = re.fullmatch(r"# (.+), (\d+) layers; .*\n", title)
    if found is None:
        raise SystemExit(f"{path}: its first line doesn't say what it is of")
    alphas: Alphas = defaultdict(dict)
    for row in rows:
        layer, role = split_name(row["tensor"])
        alphas[role][-1 if layer is None else layer] = float(row["kld"]) / float(row["d"])
    return Measured(name=found[1], layers=int(found[2]), alphas=dict(alphas))


def trend(points: list[tuple[int, float]]) -> list[str]:
    """log alpha = a + b log(layers / 32), for models of `layers`, and how far from it models are.

    The slope is drawn towards 0, as if it were known to be 0 ± 1 and models were 0.5 apart.
    """
    layers = [number for number, _ in points]
    x = np.log(np.array(layers) / 32)
    y = np.log([alpha for _, alpha in points])
    b = float(((x - x.mean()) * (y - y.mean())).sum() / (np.square(x - x.mean()).sum() + 0.25))
    a = float(np.median(y - b * x))
    return [
        f"a = {a:.3f}",
        f"b = {b:.3f}",
        f"layers = [{min(layers)}, {max(layers)}]",
        f"doubt = {spread(y - b * x):.2f}",
        f"models = {len(points)}",
    ]


def spread(values: object) -> float:
    """Standard deviation, of which single models that went wrong know nothing; of a few numbers, a guess."""
    found = np.asarray(values, float)
    if len(found) < FEW:
        return 0.7
    return float(np.clip(1.4826 * np.median(np.abs(found - np.median(found))), 0.2, 1.0))


def curve(models: Iterable[Measured], family: str) -> list[float]:
    """What a layer at each of DEPTHS has, as a share of its role's mean: medians over models and roles."""
    found: list[list[float]] = [[] for _ in DEPTHS]
    for model in models:
        for role, by_layer in model.alphas.items():
            if family_of(role) != family or len(by_layer) < 3 or -1 in by_layer:
                continue
            mean = sum(by_layer.values()) / len(by_layer)
            for knot, values in enumerate(near(by_layer, model.layers)):
                if values:
                    found[knot].append(float(np.exp(np.mean(np.log(values)))) / mean)
    medians = [statistics.median(values) if values else 1.0 for values in found]
    return [value / statistics.mean(medians[1:-1]) for value in medians]


def near(by_layer: Mapping[int, float], layers: int) -> list[list[float]]:
    """Alphas by the nearest of DEPTHS; the first and the last layer are alone."""
    groups: list[list[float]] = [[] for _ in DEPTHS]
    for layer, alpha in by_layer.items():
        place = layer / max(1, layers - 1)
        inner = range(1, len(DEPTHS) - 1)
        knot = (
            0
            if layer == 0
            else len(DEPTHS) - 1
            if layer == layers - 1
            else min(inner, key=lambda number: abs(DEPTHS[number] - place))
        )
        groups[knot].append(alpha)
    return groups


def residual(models: Iterable[Measured], curves: Mapping[str, list[float]]) -> float:
    """How far a single tensor is from its role's mean and its family's curve: a robust standard deviation."""
    rest: list[float] = []
    for model in models:
        for role, by_layer in model.alphas.items():
            if -1 in by_layer or len(by_layer) < 3:
                continue
            logs = [
                np.log(alpha) - np.interp(layer / (model.layers - 1), DEPTHS, np.log(curves[family_of(role)]))
                for layer, alpha in by_layer.items()
            ]
            rest += [float(value) for value in np.array(logs) - np.median(logs)]
    return float(1.4826 * np.median(np.abs(rest)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("prior").glob("*.csv"))
