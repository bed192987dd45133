"""How well speed is predicted: mixes of a whole file of random weights, timed and compared with what was foretold.

    python benchmarks/speed.py [MODEL] [--minutes 8] [--threads 1] [--json OUT]

First the types that the mixes have are measured on MODEL's shapes, as `quantrecipe speed` does it. Then each mix, none
of which was used for measuring, is made as a file of all layers and the whole vocabulary, and timed. The time of a
token of an answer and of a prompt is compared, foretold and timed. Both sides are timed in turns with one other file,
so the figures hold on a machine that does other things, too; with --threads 1 only the time of that thread counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory

from quantrecipe.engine import engine_facts, find_engine
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.measure.speed import Way, measure_speed
from quantrecipe.measure.speed.beside import Beside, median
from quantrecipe.measure.speed.few_layers import choose_cut, cut_model, whole_model
from quantrecipe.measure.speed.mixes import BASE, mix_plan
from quantrecipe.measure.speed.random_file import RandomRows, write_random
from quantrecipe.memory.machine import processor_name
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.speed.clock import Clock, Pace
from quantrecipe.speed.profile import ROLES

MIXES = (
    "llama.cpp/Q2_K",
    "llama.cpp/Q3_K_M",
    "llama.cpp/IQ3_M",
    "llama.cpp/Q4_K_M",
    "quantrecipe/ud-q5-k-xl",
)
TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ3_S", "IQ3_XXS", "IQ4_XS", "IQ2_S")


class _Said:
    def timing(self, number: int, total: int, what: str) -> None:
        sys.stderr.write(f"  {number}/{total} {what}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="shapes/qwen3-0.6b")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    registry, model = load_registry(), open_model(options.model)
    engine = find_engine()
    way = Way(engine=engine, facts=engine_facts(engine), processor=processor_name(), threads=options.threads)
    measured = measure_speed(
        model,
        TYPES,
        registry,
        way,
        name=options.model,
        seconds=60 * options.minutes,
        progress=_Said(),
    )
    profile = measured.profile
    full = choose_cut(model)[0]
    whole = whole_model(model)
    clock = Clock(whole, {profile.place: profile})
    weights = sum(tensor.size for tensor in whole.tensors)
    sys.stdout.write(
        f"{options.model}, {weights / 1e9:.2f} B weights; {profile.where}; llama.cpp {profile.engine}\n"
    )
    sys.stdout.write(f"each measured mix timed {measured.turns} times; misfit {profile.misfit:.1%}\n")
    for type_, why in measured.left_out.items():
        sys.stdout.write(f"{type_} left out: {why}\n")
    sys.stdout.write(f"{'':28} {'answer, ms: foretold for timed':^28} {'prompt, ms':^28}\n")
    rows, results = RandomRows(), []
    with TemporaryDirectory(prefix="quantrecipe-speed-") as folder:
        base, path = Path(folder) / "base.gguf", Path(folder) / "mix.gguf"
        write_random(mix_plan(cut_model(model, full), dict.fromkeys(ROLES, BASE), registry), base, rows)
        with Beside(path=base, prompt=profile.tokens, engine=engine, threads=options.threads) as beside:
            for mix in MIXES:
                plan = make_plan(
                    load_recipe(mix, registry=registry),
                    whole,
                    registry=registry,
                    importance=assumed_importance(whole.tensors),
                    importance_of_another_model=True,
                    provenance=False,
                )
                write_random(plan, path, rows)
                ratios = beside.ratios(path, turns=options.turns)
                told = clock.pace([(a.tensor, a.nbytes, a.type) for a in plan.assignments])
                seen = Pace(
                    token=1 / (beside.quickest.token * median(ratios, attrgetter("token"))),
                    prompt=1 / (beside.quickest.prompt * median(ratios, attrgetter("prompt"))),
                )
                results.append(
                    {"mix": mix, "nbytes": plan.nbytes, "foretold": told.to_json(), "timed": seen.to_json()}
                )
                _row(mix, told, seen)
    if options.json is not None:
        options.json.write_text(json.dumps({"profile": profile.key, "mixes": results}, indent=1) + "\n")


def _row(mix: str, told: Pace, seen: Pace) -> None:
    cells = []
    for foretold, timed in ((told.token, seen.token), (told.prompt, seen.prompt)):
        if foretold is None or timed is None:
            cells.append(f"{'not measured: ' + ', '.join(told.missing):>28}")
        else:
            cells.append(f"{1e3 / foretold:8.2f} for {1e3 / timed:8.2f} {timed / foretold - 1:+6.1%}")
    sys.stdout.write(f"{mix:28} {' '.join(cells)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
