"""The curated recipes beside the presets at the same bytes: KL divergence from the unquantized model.

    python benchmarks/recipes.py                                            the example model, on the tests' text
    python benchmarks/recipes.py --model DIR --imatrix code.gguf prose.gguf --text code.val.txt prose.val.txt

"The same bytes" are explained in equal_bytes.py. Several importance matrices are merged.
Whatever was run is kept in --work, so that a run that was stopped goes on where it was. Needs llama-cpp-python.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from equal_bytes import CURATED, ROOT, STOCK, Point, at_size, lowest_line, ratio, tensor_bytes

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
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.merge import merged
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.to_gguf import encode_gguf
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry


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
    def importance(self) -> Importance | None:
        if not self.matrices:
            return None
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
        key = reference_key([bf16], texts, n_ctx=self.n_ctx, chunks=self.chunks)
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
        """Markdown: the presets, then the recipes beside them, text by text."""
        names = [path.name.removesuffix(".val.txt") for path in self.texts]
        heads = [f"{name}: KLD | top-1 | PPL |" for name in names]
        yield f"| preset | bits | {' '.join(heads)}"
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
        heads = [f"{name}: KLD | top-1 | PPL | preset there | change |" for name in names]
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
    args = parser.parse_args()
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
    for row in bench.table(args.recipes, args.stock):
        sys.stdout.write(row + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
