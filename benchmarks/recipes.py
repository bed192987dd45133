"""The curated recipes beside the stock mixes of the same bytes: KL divergence from the unquantized model.

    python benchmarks/recipes.py                                            the example model, on the tests' text
    python benchmarks/recipes.py --model DIR --imatrix code.gguf prose.gguf --text code.val.txt prose.val.txt
    python benchmarks/recipes.py --plans                                    sizes and estimates on reference models
    python benchmarks/recipes.py --roles deepseek-v3.1                      bytes and bits of each role on one

Between two stock mixes, "the same bytes" are a straight line: what comes of giving some of the tensors the one's types,
and the others the other's. Of all stock mixes those count between which the line is lowest, so it is the best that they
can do at that size. The bytes are those of tensors. Several importance matrices are merged.

Whatever was run is kept in --work, so that a run that was stopped goes on where it was. Needs llama-cpp-python.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from quantrecipe.evaluate import (
    Evaluation,
    Positions,
    Reference,
    make_reference,
    read_reference,
    read_text,
    reference_key,
    score,
    summarise,
)
from quantrecipe.importance import Importance, encode_gguf, merged, read_importance
from quantrecipe.importance.assumed import assumed_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.make import make_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity import Sensitivity, estimate

ROOT = Path(__file__).parents[1]
CURATED = tuple(f"quantrecipe/{path.stem}" for path in sorted((ROOT / "recipes").glob("*.yaml")))
STOCK = tuple(
    f"llama.cpp/{name}"
    for name in (
        *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL"),
        *(
            "Q2_K_S",
            "Q2_K",
            "Q3_K_S",
            "Q3_K_M",
            "Q3_K_L",
            "Q4_K_S",
            "Q4_K_M",
            "Q5_K_S",
            "Q5_K_M",
            "Q6_K",
            "Q8_0",
        ),
    )
)
PLANNED = (
    *(
        "meta-llama-3.1-8b-instruct",
        "mistral-7b-instruct-v0.3",
        "gemma-3-4b-it",
        "qwen3.6-27b",
        "qwen3-30b-a3b",
    ),
    *("mixtral-8x7b-instruct-v0.1", "glm-4.6v", "deepseek-v3.1", "qwen3-coder-next"),
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mix: its size, and what it loses at every position (or, estimated, once)."""

    name: str
    nbytes: int
    loss: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.loss.mean())


def lowest_line(points: Iterable[Point]) -> list[Point]:
    """The mixes that no mixture of two others beats, by size."""
    line: list[Point] = []
    for point in sorted(points, key=lambda p: (p.nbytes, p.mean)):
        if line and point.mean >= line[-1].mean:
            continue
        while len(line) > 1 and _slope(line[-2], point) <= _slope(line[-2], line[-1]):
            line.pop()
        line.append(point)
    return line


def at_size(line: Sequence[Point], nbytes: int) -> tuple[np.ndarray, str] | None:
    """What the stock mixes lose at this size, and which they are; None beyond the largest and the smallest."""
    for low, high in pairwise(line):
        if low.nbytes <= nbytes <= high.nbytes:
            share = (nbytes - low.nbytes) / (high.nbytes - low.nbytes)
            return (1 - share) * low.loss + share * high.loss, f"{low.name} – {high.name}"
    return None


def ratio(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """How much more or less `one` loses, as a share, and the standard error: of a ratio of means."""
    found = float(one.mean() / other.mean())
    residual = one - found * other
    error = float(residual.std(ddof=1)) / math.sqrt(len(one)) / float(other.mean()) if len(one) > 1 else 0.0
    return found - 1, error


def _slope(one: Point, other: Point) -> float:
    return (other.mean - one.mean) / max(other.nbytes - one.nbytes, 1)


def tensor_bytes(plan: Plan) -> int:
    return sum(a.nbytes for a in plan.assignments)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A model, the texts, and where results are kept."""

    path: Path
    matrices: tuple[Path, ...]
    texts: tuple[Path, ...]
    work: Path
    n_ctx: int
    chunks: int | None
    threads: int

    @cached_property
    def registry(self) -> Registry:
        return load_registry(plugins=False)

    @cached_property
    def model(self) -> Model:
        return open_model(self.path, registry=self.registry)

    @cached_property
    def importance(self) -> Importance:
        if len(self.matrices) == 1:
            return read_importance(self.matrices[0])
        out = self.work / f"{self.path.name}.imatrix.gguf"
        both = merged([read_importance(path) for path in self.matrices])
        out.write_bytes(b"".join(encode_gguf(both).pieces()))
        return read_importance(out)

    @cached_property
    def reference(self) -> Reference:
        """What the model in BF16 says."""
        bf16 = self.work / f"{self.path.name}.BF16.gguf"
        if not bf16.exists():
            recipe = load_recipe("llama.cpp/BF16", registry=self.registry)
            apply_plan(make_plan(recipe, self.model, registry=self.registry), bf16)
        texts = [read_text(path) for path in self.texts]
        key = reference_key(bf16, texts, n_ctx=self.n_ctx, chunks=self.chunks)
        out = self.work / f"{key}.reference"
        if not out.exists():
            make_reference(bf16, texts, out, n_ctx=self.n_ctx, chunks=self.chunks, threads=self.threads)
        return read_reference(out)

    def plan(self, recipe: str) -> Plan:
        loaded = load_recipe(recipe, registry=self.registry)
        return make_plan(loaded, self.model, registry=self.registry, importance=self.importance)

    def positions(self, plan: Plan) -> Positions:
        digest = hashlib.blake2b(self.reference.key.encode(), digest_size=16)
        for a in plan.assignments:
            digest.update(f"{a.tensor.name} {a.type} {a.encoding}\n".encode())
        kept = self.work / f"{digest.hexdigest()}.npy"
        if not kept.exists():
            file = self.work / f"{digest.hexdigest()}.gguf"
            apply_plan(plan, file, registry=self.registry, force=True)
            np.save(kept, score(file, self.reference, threads=self.threads).stacked())
            file.unlink()
        return Positions.from_stacked(np.load(kept))

    def table(self, recipes: Sequence[str], stock: Sequence[str]) -> Iterator[str]:
        """Markdown: the stock mixes, then the recipes beside them, text by text."""
        names = [path.name.removesuffix(".val.txt") for path in self.texts]
        heads = [f"{name}: KLD | top-1 | PPL |" for name in names]
        yield f"| stock | bits | {' '.join(heads)}"
        yield "|---|---:|" + "---:|---:|---:|" * len(names)
        points: dict[str, list[Point]] = {name: [] for name in names}
        for recipe in stock:
            plan, parts = self._parts(recipe)
            yield self._row(recipe, plan, [self._figures(part) for part in parts])
            for name, part in zip(names, parts, strict=True):
                short = recipe.removeprefix("llama.cpp/")
                points[name].append(Point(name=short, nbytes=tensor_bytes(plan), loss=part.divergence))
        lines = {name: lowest_line(found) for name, found in points.items()}
        yield ""
        heads = [f"{name}: KLD | top-1 | PPL | stock there | change |" for name in names]
        yield f"| recipe | bits | {' '.join(heads)}"
        yield "|---|---:|" + "---:|---:|---:|---:|---:|" * len(names)
        for recipe in recipes:
            plan, parts = self._parts(recipe)
            cells = []
            for name, part in zip(names, parts, strict=True):
                there = at_size(lines[name], tensor_bytes(plan))
                if there is None:
                    cells.append(f"{self._figures(part)} | |")
                    continue
                change, error = ratio(part.divergence, there[0])
                beside = f"{there[0].mean():.5f} | {100 * change:+.0f} ± {100 * error:.0f} % |"
                cells.append(f"{self._figures(part)} {beside}")
            yield self._row(recipe, plan, cells)

    def _parts(self, recipe: str) -> tuple[Plan, list[Positions]]:
        plan = self.plan(recipe)
        return plan, list(self.reference.split(self.positions(plan)).values())

    def _figures(self, part: Positions) -> str:
        found: Evaluation = summarise(part)
        return f"{found.kld_mean:.5f} | {100 * found.top1:.2f} % | {found.perplexity:.2f} |"

    def _row(self, recipe: str, plan: Plan, cells: Iterable[str]) -> str:
        bits = 8 * tensor_bytes(plan) / sum(a.tensor.size for a in plan.assignments)
        return f"| {recipe.split('/')[-1]} | {bits:.2f} | {' '.join(cells)}"


def plans(recipes: Sequence[str], models: Sequence[str]) -> Iterator[str]:
    """Markdown: bits per weight on reference models, and the estimated loss beside stock of the same bytes."""
    registry = load_registry(plugins=False)
    yield "| recipe |" + "".join(f" {name} |" for name in models)
    yield "|---|" + "---:|" * len(models)
    rows: dict[str, list[str]] = {recipe: [] for recipe in recipes}
    for name in models:
        model = open_model(f"shapes/{name}", registry=registry)
        sensitivity = estimate(model, registry)
        importance = assumed_importance(model.tensors)
        planned = {
            recipe: make_plan(
                load_recipe(recipe, registry=registry), model, registry=registry, importance=importance
            )
            for recipe in (*STOCK, *recipes)
        }
        line = lowest_line(_estimated(recipe, planned[recipe], sensitivity) for recipe in STOCK)
        for recipe in recipes:
            mine = _estimated(recipe, planned[recipe], sensitivity)
            there = at_size(line, mine.nbytes)
            change = f" ({100 * ratio(mine.loss, there[0])[0]:+.0f} %)" if there else ""
            rows[recipe].append(f" {planned[recipe].bits_per_weight:.2f}{change} |")
    for recipe, cells in rows.items():
        yield f"| {recipe.split('/')[-1]} |" + "".join(cells)


def roles(recipes: Sequence[str], name: str) -> Iterator[str]:
    """Markdown: what each role gets on a reference model, in GiB and bits per weight."""
    registry = load_registry(plugins=False)
    model = open_model(f"shapes/{name}", registry=registry)
    importance = assumed_importance(model.tensors)
    found: dict[str, list[str]] = {}
    totals = []
    for recipe in recipes:
        loaded = load_recipe(recipe, registry=registry)
        plan = make_plan(loaded, model, registry=registry, importance=importance)
        for role in sorted({a.tensor.role for a in plan.assignments if len(a.tensor.shape) > 1}):
            mine = [a for a in plan.assignments if a.tensor.role == role]
            nbytes, weights = sum(a.nbytes for a in mine), sum(a.tensor.size for a in mine)
            found.setdefault(role, []).append(f"{nbytes / (1 << 30):.2f} | {8 * nbytes / weights:.2f}")
        totals.append(f"{plan.nbytes / (1 << 30):.2f} | {plan.bits_per_weight:.2f}")
    yield f"| {name} |" + "".join(f" {recipe.split('/')[-1]}: GiB | bits |" for recipe in recipes)
    yield "|---|" + "---:|---:|" * len(recipes)
    for role, cells in found.items():
        yield f"| {role} |" + "".join(f" {cell} |" for cell in cells)
    yield "| whole file |" + "".join(f" {total} |" for total in totals)


def _estimated(recipe: str, plan: Plan, sensitivity: Sensitivity) -> Point:
    costs = [sensitivity.cost(a.tensor.name, a.type) or 0.0 for a in plan.assignments]
    return Point(name=recipe, nbytes=tensor_bytes(plan), loss=np.array([sum(costs)]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = ROOT / "tests/data"
    parser.add_argument("--model", type=Path, default=ROOT / "examples/tiny-code")
    parser.add_argument("--imatrix", type=Path, nargs="+", default=[data / "imatrix/imatrix.merged.gguf"])
    parser.add_argument("--text", type=Path, nargs="+", default=[data / "texts/code.val.txt"])
    parser.add_argument("--recipes", nargs="+", default=CURATED, metavar="NAME")
    parser.add_argument("--stock", nargs="+", default=STOCK, metavar="NAME")
    parser.add_argument("--ctx", type=int, default=512, metavar="N", help="tokens in a chunk")
    parser.add_argument("--chunks", type=int, metavar="N", help="the first N of each text; all if left out")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of llama.cpp")
    parser.add_argument("--work", type=Path, default=Path("recipes-work"), metavar="DIR")
    parser.add_argument("--plans", nargs="*", metavar="MODEL", help="plan only, on these reference models")
    parser.add_argument("--roles", metavar="MODEL", help="plan only: bytes by role on this reference model")
    args = parser.parse_args()
    if args.roles:
        rows = roles(args.recipes, args.roles)
    elif args.plans is not None:
        rows = plans(args.recipes, args.plans or PLANNED)
    else:
        args.work.mkdir(parents=True, exist_ok=True)
        bench = Bench(
            path=args.model,
            matrices=tuple(args.imatrix),
            texts=tuple(args.text),
            work=args.work,
            n_ctx=args.ctx,
            chunks=args.chunks,
            threads=args.threads,
        )
        rows = bench.table(args.recipes, args.stock)
    for row in rows:
        sys.stdout.write(row + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
