"""The encoder `feedback` beside plain encoding, at the same bytes: KL divergence on text that gave no statistics.

    python benchmarks/feedback.py small.bf16.gguf --statistics grams --text held-out.txt --imatrix imatrix.gguf
    python benchmarks/feedback.py … --types Q4_K Q2_K --damping 0.01 0.1 0.3 --rounds 0 2 5
    python benchmarks/feedback.py … --statistics grams-of-code grams-of-less-code grams-of-prose
    python benchmarks/feedback.py … --types Q4_K Q2_K --stages 1 4 8 --calibration calibration.txt
    python benchmarks/feedback.py --speed 4096 --types Q4_K IQ4_XS

MODEL is a GGUF of floats. All matrices of its layers get one type, and what lies outside the layers keeps its own.
llama.cpp doesn't run other programs' types, such as IQ4_KSS: their weights are decoded into an F32 file, so MODEL
should be F32, too.
Each option of the encoder, and each folder of statistics, makes a file more; with --stages also each number of stages,
whose statistics are collected from the calibration text as `refine` does it (with the first damping and number of
rounds). The difference is that of the means at the same positions, with its standard error. Needs llama.cpp, but
--speed doesn't: it measures one thread on random weights of so many columns, in multiply-adds of the feedback (half the
columns for each weight) in a second of processor time, beside numpy's product of float32 matrices: carrying alone, and
all that the encoder does. Set OPENBLAS_NUM_THREADS=1, so that numpy's threads don't wait for each other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from equal_bytes import ratio
from rich.console import Console

from quantrecipe.calibration.gram import Grams, compute_gram, read_gram
from quantrecipe.encoders.feedback.descent import slopes
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.encoders.feedback.factor import Factor, factorize
from quantrecipe.encoders.feedback.order import kept_together, order_of
from quantrecipe.encoders.feedback.rounding import carry_on
from quantrecipe.encoders.feedback.rows import PANEL, TOGETHER
from quantrecipe.encoders.feedback.turning import lanes_of
from quantrecipe.evaluate import Positions, make_reference, read_text, score, summarise
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.refine import Quantized
from quantrecipe.registry import Registry, load_registry
from quantrecipe.texts import read_domain, render

if TYPE_CHECKING:
    from quantrecipe.api import Encoder, FloatArray, QuantFormat

Damping = float | str
"""A number, or "auto": what the encoder predicts."""

TYPES = ("Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "Q2_K")
ROWS = 512
THOROUGH = (0.0, 0, "", 0)
"""In the place of damping, rounds, statistics and stages: the encoder that knows none of them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--statistics", type=Path, nargs="+")
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--text", type=Path, action="append", default=[])
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--damping", nargs="+", type=_damping, default=["auto"])
    parser.add_argument("--rounds", nargs="+", type=int, default=[2])
    parser.add_argument("--stages", nargs="+", type=int, default=[])
    parser.add_argument("--calibration", type=Path, help="the text of --statistics, for --stages")
    parser.add_argument("--thorough", action="store_true", help="the encoder thorough, too")
    parser.add_argument("--speed", type=int, metavar="COLUMNS")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.speed:
        found = list(speeds(args.speed, args.types, 0.01, args.rounds))
    elif args.model and args.statistics and args.text:
        if args.stages and not args.calibration:
            parser.error("--stages needs --calibration")
        found = list(losses(args))
    else:
        parser.error("give MODEL, --statistics and --text, or --speed")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _damping(text: str) -> Damping:
    return text if text == "auto" else float(text)


def losses(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for each type and way of encoding it."""
    console, registry = Console(), load_registry()
    model = open_model(args.model, registry=registry)
    folders = {path.name: read_gram(path) for path in args.statistics}
    matrix = read_importance(args.imatrix) if args.imatrix else None
    ways: list[tuple[Damping, int, str, int] | None] = [None]
    ways += [(*way, 0) for way in itertools.product(args.damping, args.rounds, folders)]
    first = next(iter(folders))
    ways += [(args.damping[0], args.rounds[0], first, count) for count in args.stages]
    ways += [THOROUGH] if args.thorough else []
    console.print("| type | encoder | bytes | mean KLD | beside plain | 99.9 % | same top token |")
    console.print("|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        texts = [read_text(path) for path in args.text]
        reference = make_reference(
            args.model, texts, Path(folder, "model.reference"), chunks=args.chunks, tail=0
        )
        for type_ in args.types:
            plain: Positions | None = None
            for way in ways:
                recipe = load_recipe_text(recipe_of(type_, way, model), registry=registry)

                def plan_of(statistics: Grams | None, recipe: Recipe = recipe) -> Plan:
                    return make_plan(
                        recipe, model, registry=registry, importance=matrix, statistics=statistics
                    )

                grams = None if way in (None, THOROUGH) else folders[way[2]]
                out, stages = Path(folder, "made.gguf"), way[3] if way else 0
                started = time.perf_counter()
                plan = plan_of(staged(args, recipe, plan_of, registry, stages) if stages else grams)
                apply_plan(plan, out, registry=registry, force=True)
                seconds = time.perf_counter() - started
                runs = all(a.format.spec.dialect == "ggml" for a in plan.assignments)
                positions = score(out if runs else decoded(out, registry), reference)
                plain = plain or positions
                figures = summarise(positions)
                change, error = ratio(positions.divergence, plain.divergence)
                said = "plain" if way is None else f"feedback, damping {way[0]}, {way[1]} rounds, {way[2]}"
                said += f", {stages} stages" if stages else ""
                said = "thorough" if way is THOROUGH else said
                beside = "" if way is None else f"{100 * change:+.1f} ± {100 * error:.1f} %"
                console.print(
                    f"| {type_} | {said} | {plan.nbytes:,} | {figures.kld_mean:.3g} | {beside} "
                    f"| {figures.kld_999:.3g} | {100 * figures.top1:.2f} % |",
                    soft_wrap=True,
                )
                yield {
                    "type": type_, "damping": way and way[0], "rounds": way and way[1], "statistics": way and way[2],
                    "stages": stages, "nbytes": plan.nbytes, "kld_mean": figures.kld_mean, "change": change,
                    "error": error, "kld_999": figures.kld_999, "top1": figures.top1, "seconds": seconds,
                }  # fmt: skip


def decoded(path: Path, registry: Registry) -> Path:
    """The same weights in F32, beside the file."""
    recipe = load_recipe_text("quantrecipe: 1\ndefault: F32\n", registry=registry)
    model, out = open_model(path, registry=registry), path.with_name("decoded.gguf")
    apply_plan(
        make_plan(recipe, model, registry=registry, allow_requantize=True), out, registry=registry, force=True
    )
    return out


def staged(
    args: argparse.Namespace,
    recipe: Recipe,
    plan_of: Callable[[Grams | None], Plan],
    registry: Registry,
    stages: int,
) -> Grams:
    """Statistics behind what the stages before have quantized, kept beside --statistics."""
    behind = Quantized(recipe=recipe, plan_of=plan_of, held=args.model, registry=registry, wanted=stages)
    domain = read_domain(str(args.calibration))
    folder = args.statistics[0].with_name(args.statistics[0].name + "-staged")
    return compute_gram(args.model, [(domain, render(domain, None))], folder, behind=behind)


def recipe_of(type_: str, way: tuple[Damping, int, str, int] | None, model: Model) -> str:
    """The layers' matrices in this type, and all else as it is."""
    outside = [t.name.removesuffix(".weight") for t in model.tensors if t.layer is None and len(t.shape) > 1]
    lines = [
        "quantrecipe: 1",
        f"default: {type_}",
        f"rules: [{{tensors: {json.dumps(outside)}, type: keep}}]",
    ]
    if way is THOROUGH:
        lines.append("encoder: thorough")
    elif way is not None:
        lines.append(f"encoder: {{name: feedback, damping: {way[0]}, rounds: {way[1]}}}")
    return "\n".join(lines) + "\n"


def speeds(k: int, types: list[str], damping: float, rounds: list[int]) -> Iterator[dict[str, Any]]:
    """Lines for each type: what its stages take, and the whole for each number of rounds; in one thread."""
    console, registry = Console(), load_registry()
    gram, rng = _inputs(k), np.random.default_rng(1)
    rows = rng.standard_normal((ROWS, k), np.float32) * np.float32(0.02)
    factor = factorize(gram, damping)
    panel = lanes_of(rows[:PANEL])
    target = np.zeros_like(panel)
    work: dict[str, Callable[[], object]] = {
        "numpy": lambda: rows @ gram,
        "factor": lambda: factorize(gram, damping),
        "carrying": lambda: _carry(factor, panel, target),
        "slopes": lambda: slopes(factor.unit, panel, target),
    }

    def encode(encoder: Encoder, fmt: QuantFormat) -> Callable[[], object]:
        # Columns stay in their own order, where a format's units lie in a row.
        together, its = kept_together(fmt), factor
        if together[2]:
            its = factorize(gram, damping, columns=order_of(gram.diagonal(), *together))
        return lambda: encoder.encode(rows, fmt, None, its)

    def plainly(fmt: QuantFormat) -> Callable[[], object]:
        return lambda: fmt.encode(rows, factor.variances)

    for type_ in types:
        fmt = registry.format(type_)
        work[f"{type_} plain"] = plainly(fmt)
        for count in rounds:
            work[f"{type_} {count}"] = encode(Feedback({"damping": damping, "rounds": count}), fmt)
    took = _in_turn(work)
    for stage in ("carrying", "slopes"):
        took[stage] *= ROWS / PANEL
    product = ROWS * k * k / took["numpy"] / 1e9
    console.print(f"numpy: {product:.1f} G multiply-adds/s")
    console.print(f"factor of {k} columns: {took['factor']:.2f} s, {k**3 / 6 / took['factor'] / 1e9:.1f} G/s")
    for stage in ("carrying", "slopes"):
        rate = ROWS * k * k / 2 / took[stage] / 1e9
        console.print(f"{stage} alone: {rate:.1f} G/s ({100 * rate / product:.0f} % of numpy's)")
    for type_, count in itertools.product(types, rounds):
        seconds, plain = took[f"{type_} {count}"], took[f"{type_} plain"]
        rate = ROWS * k * k / 2 / seconds / 1e9
        # The format encodes each block, and each row by itself for the choice.
        parts = {"carrying": took["carrying"], "the format, twice": 2 * plain}
        if count and registry.format(type_).grid is not None:
            parts["slopes"] = took["slopes"]
        shares = ", ".join(f"{name} {100 * part / seconds:.0f} %" for name, part in parts.items())
        console.print(
            f"{type_}, {count} rounds: {ROWS * k / seconds / 1e6:.1f} M weights/s, {rate:.1f} G/s "
            f"({100 * rate / product:.0f} % of numpy's); {shares}",
            soft_wrap=True,
        )
        yield {
            "type": type_, "rounds": count, "seconds": seconds, "rate": rate, "product": product, "plain": plain,
            "carrying": took["carrying"], "slopes": took["slopes"], "factor": took["factor"],
        }  # fmt: skip


def _inputs(k: int) -> FloatArray:
    """A Gram matrix with few strong directions and many weak ones, as those of models are."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((k, k), np.float32) * (np.arange(k, dtype=np.float32)[:, None] + 1) ** -0.5
    x = rng.standard_normal((2 * k, k), np.float32) @ mixed
    x += rng.standard_normal(x.shape, np.float32) * (x.std() * np.float32(0.3))
    return (x.T @ x / len(x)).astype(np.float32)


def _carry(factor: Factor, panel: FloatArray, target: FloatArray) -> None:
    """Errors carried from all columns to all later ones, 256 columns at a time, and nothing else."""
    for first in range(0, len(panel) - TOGETHER, TOGETHER):
        carry_on(
            factor.unit, first, first + TOGETHER, panel[first : first + TOGETHER], target[first + TOGETHER :]
        )


def _in_turn(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The shortest of seven processor times of each, in turn, so that what disturbs the machine disturbs them all."""
    took = dict.fromkeys(work, float("inf"))
    for _ in range(7):
        for name, call in work.items():
            started = time.process_time()
            call()
            took[name] = min(took[name], time.process_time() - started)
    return took


if __name__ == "__main__":
    main()
