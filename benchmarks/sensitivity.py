"""How far alphas are off after so much time: probes that read all of the text, beside probes that read parts of it.

    python benchmarks/sensitivity.py MODEL --imatrix FILE --text TEXT… [--tokens 16384] [--truth-tokens 32768]
                                     [--probes 30 15] [--types Q3_K,IQ3_XXS,IQ4_XS] [--work DIR] [--threads 1]
    python benchmarks/sensitivity.py MODEL --imatrix FILE --simulate tools/prior/small-code.csv

The second runs no model: alphas are those of a table, and probes are off as those of tiny-code were: by TYPE for the
type of each tensor, PART for a quarter of the text, SUM for several tensors together. Three worlds are drawn.

The truth is made first: every tensor by itself in each of --types, on --truth-tokens of the text; it is kept in --work.
It takes the mean over types of the logarithm of effect / D, since a unit of loss does more or less in one type than in
another. Then each way asks the same open model. Shown are

    passes     over --tokens of the text
    seconds    of the probes, without opening the model; ways of one run only can be compared
    off        how far logarithms of alphas are off, root mean square over tensors, without what all have in common
    at stake   the same, each tensor counted by its alpha
    worst      the largest
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rows import print_rows

from quantrecipe.analyses.probe import Probe
from quantrecipe.api import Effect, Study
from quantrecipe.evaluate import read_text
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.measure import Measurement, Passes, choose_types, measure
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Silent
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity.prior import prior_alphas

TYPE, PART, SUM = 0.1, 0.045, 0.07
"""Standard deviations of logarithms: docs/decisions/0016-probes.md."""
WORLDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("--text", type=Path, default=[], nargs="+")
    parser.add_argument("--simulate", type=Path, metavar="CSV")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--truth-tokens", type=int, default=32768)
    parser.add_argument("--probes", type=int, nargs="+", default=[30, 15])
    parser.add_argument("--types", default="Q3_K,IQ3_XXS,IQ4_XS")
    parser.add_argument("--work", type=Path, default=Path("sensitivity-work"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.text and not args.simulate:
        parser.error("give --text, or --simulate")
    rows = simulated(args) if args.simulate else measured(args)
    print_rows(rows, as_json=args.json)


def measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way."""
    registry = load_registry(plugins=False)
    model, importance = open_model(args.model, registry=registry), read_importance(args.imatrix)
    what = Measurement(types=choose_types(registry), analysis=registry.tensor_analysis("imatrix"))
    found = measure(model, args.work / "losses.jsonl", what, registry=registry, importance=importance)
    digests = {tensor.name: tensor.digest for tensor in found.tensors.values()}
    texts = tuple(read_text(text) for text in args.text)

    def prober(tokens: int, folder: str) -> Prober:
        return Prober(
            model,
            registry,
            importance,
            Passes(texts=texts, tokens=tokens, threads=args.threads),
            digests=digests,
            folder=Path(folder),
            known={},
            save=lambda probe: None,
            progress=Silent(),
        )

    n_layers = max(1, model.n_layers)
    prior = prior_alphas(model.tensors, n_layers)
    by_name = {tensor.name: tensor for tensor in model.tensors}
    with tempfile.TemporaryDirectory() as folder:
        with prober(args.truth_tokens, folder) as asked:
            truth = true_alphas(asked, found.tensors, args.types.split(","), found, args.work / "truth.json")
        names = list(truth)
        with prober(args.tokens, folder) as asked:
            study = Study(
                tensors=tuple(by_name[name] for name in names),
                n_layers=n_layers,
                losses={
                    name: {type_: loss.error for type_, loss in found.tensors[name].losses.items()}
                    for name in names
                },
                prior={name: prior[name].alpha for name in names},
                doubt={name: prior[name].doubt for name in names},
                evaluate=asked.evaluate,
                evaluate_part=asked.evaluate_part,
                parts=asked.parts,
            )
            asked.evaluate({names[0]: "Q3_K"})  # the model is open, and kernels are compiled
            rows = [row("the prior", 0.0, 0.0, study.prior, truth)]
            for probes in args.probes:
                for parts in (1, asked.parts):
                    clock = Clock(replace(study, probes=probes, parts=parts), asked)
                    alphas = Probe().weigh(clock.study)
                    name = f"{probes} passes" + (f", in parts of 1/{parts}" if parts > 1 else "")
                    rows.append(row(name, clock.passes, clock.seconds, alphas, truth))
    return rows


def simulated(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The same from recorded alphas, the mean over worlds."""
    registry = load_registry(plugins=False)
    model, importance = open_model(args.model, registry=registry), read_importance(args.imatrix)
    what = Measurement(types=choose_types(registry), analysis=registry.tensor_analysis("imatrix"))
    found = measure(model, args.work / "losses.jsonl", what, registry=registry, importance=importance)
    with args.simulate.open(encoding="utf-8") as file:
        file.readline()
        truth = {row["tensor"]: float(row["kld"]) / float(row["d"]) for row in csv.DictReader(file)}
    prior = prior_alphas(model.tensors, model.n_layers)
    by_name = {tensor.name: tensor for tensor in model.tensors}
    losses = {name: {t: it.error for t, it in found.tensors[name].losses.items()} for name in truth}

    def weighed(probes: int, parts: int, world: int) -> Mapping[str, float]:
        asked = 0

        def effect(types: Mapping[str, str], read: range) -> Effect:
            nonlocal asked
            asked += 1
            kld = 0.0
            for name, type_ in types.items():
                own = np.random.default_rng([world, *name.encode(), *type_.encode()]).normal(0, TYPE)
                here = [np.random.default_rng([world, *name.encode(), it]).normal(0, PART) for it in read]
                kld += truth[name] * losses[name][type_] * float(np.exp(own + np.mean(here)))
            if len(types) > 1:
                kld *= float(np.exp(np.random.default_rng([world, asked]).normal(0, SUM)))
            return Effect(kld=kld, standard_error=0.08 / len(read) ** 0.5 * kld)

        study = Study(
            tensors=tuple(by_name[name] for name in truth),
            n_layers=model.n_layers,
            losses=losses,
            prior={name: prior[name].alpha for name in truth},
            doubt={name: prior[name].doubt for name in truth},
            probes=probes,
            parts=parts,
            evaluate=lambda types: effect(types, range(4)),
            evaluate_part=lambda types, number: effect(types, range(number, number + 1)),
        )
        return Probe().weigh(study)

    rows = []
    for probes in args.probes:
        for parts in (1, 4):
            worlds = [row("", probes, 0.0, weighed(probes, parts, it), truth) for it in range(WORLDS)]
            way = f"{probes} passes" + (f", in parts of 1/{parts}" if parts > 1 else "")
            means = {key: float(np.mean([it[key] for it in worlds])) for key in ("off", "at stake", "worst")}
            rows.append({"way": way, "passes": probes, **means})
    return rows


class Clock:
    """A study that notes how long its probes take, each of which is made once for all ways."""

    made: dict[tuple[Any, ...], tuple[float, Effect]] = {}  # noqa: RUF012  # shared by all ways

    def __init__(self, study: Study, asked: Prober) -> None:
        self.seconds = self.passes = 0.0
        self._asked = asked
        self._parts = study.parts
        self.study = replace(study, evaluate=self._whole, evaluate_part=self._part)

    def _whole(self, types: Mapping[str, str]) -> Effect:
        return self._timed(types, None)

    def _part(self, types: Mapping[str, str], number: int) -> Effect:
        return self._timed(types, number)

    def _timed(self, types: Mapping[str, str], number: int | None) -> Effect:
        key = (number, *sorted(types.items()))
        if key not in self.made:
            start = time.perf_counter()
            effect = (
                self._asked.evaluate(types) if number is None else self._asked.evaluate_part(types, number)
            )
            self.made[key] = time.perf_counter() - start, effect
        seconds, effect = self.made[key]
        self.seconds += seconds
        self.passes += 1.0 if number is None else 1 / self._parts
        return effect


def true_alphas(
    asked: Prober, names: Mapping[str, Any], types: list[str], found: Any, kept: Path
) -> dict[str, float]:
    """Effect / D of each tensor by itself, the geometric mean over types."""
    effects: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    for type_ in types:
        for name in names:
            if f"{name} {type_}" not in effects:
                effects[f"{name} {type_}"] = asked.evaluate({name: type_}).kld
                kept.write_text(json.dumps(effects, indent=0))
    return {
        name: float(
            np.exp(
                np.mean([np.log(effects[f"{name} {type_}"] / found.error(name, type_)) for type_ in types])
            )
        )
        for name in names
    }


def row(
    way: str, passes: float, seconds: float, alphas: Mapping[str, float], truth: Mapping[str, float]
) -> dict[str, Any]:
    off = np.array([np.log(alphas[name] / alpha) for name, alpha in truth.items()])
    stakes = np.array(list(truth.values()))
    stakes /= stakes.sum()
    off -= stakes @ off
    return {
        "way": way,
        "passes": passes,
        "seconds": seconds,
        "off": float(np.sqrt(np.mean((off - off.mean()) ** 2))),
        "at stake": float(np.sqrt(stakes @ off**2)),
        "worst": float(np.abs(off).max()),
    }


if __name__ == "__main__":
    main()
