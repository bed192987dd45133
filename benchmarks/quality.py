"""Stock mixes of llama.cpp beside fitted ones of the same bytes: KL divergence, measured on text that nothing has seen.

    python benchmarks/quality.py MODEL --calibration code=calib.txt --validation code=val.txt --json quality.json
    python benchmarks/quality.py FOLDER                               all models in it, all mixes; hours on two cores
    python benchmarks/quality.py FOLDER --models tiny-code --mixes Q2_K Q4_K_M --chunks 20
    python benchmarks/quality_page.py quality.json -o quality.md      the page, with a picture beside it

MODEL is a Hugging Face folder or a GGUF in F32, F16 or BF16. --calibration and --validation take texts as NAME=FILE:
of the first, the importance matrix is made (unless --imatrix names one) and probes read them; by the second, mixes are
judged. docs/your-model.md says how long that takes, and with what memory.

FOLDER (or $QUANTRECIPE_MODELS) has models as Hugging Face folders, for each NAME a folder NAME-extra with importance
matrices (imatrix.merged.gguf, or imatrix.code.gguf and imatrix.prose.gguf, which are merged), and in texts/
code.calib.txt and prose.calib.txt, which probes read, code.val.txt and prose.val.txt, by which mixes are judged.

Four ways of knowing what to spend bytes on:

    fit       15 passes of probes, 16 mixes tried              quantrecipe fit --imatrix … --text …
    roles     alphas from a pass a role, no mix tried          quantrecipe fit --imatrix … --text … --probes 8
    prior     losses measured, alphas of the prior             quantrecipe fit --imatrix …
    headers   nothing measured: the prior, and typical losses  quantrecipe fit --imatrix … --prior

Another, which isn't among those of a plain call: the estimate alone, from 30 passes of probes

    probes    losses measured, alphas from 30 passes           quantrecipe fit … --probes 30 --evaluations 0

One that cheats, to show how much is left to gain by any choice of types: it measures each tensor in each type, and
tries mixes until none is better, on the texts by which mixes are judged

    oracle    every loss and every mix measured by the judges  none: who could know them?

And one in which the mix is made, and fitted, with the encoder `feedback`; the presets beside it stay plain:

    feedback  losses, probes and mixes with the encoder        quantrecipe fit --statistics … --imatrix … --text …

    python benchmarks/quality.py FOLDER --ways feedback --statistics GRAMS --kinds code

GRAMS (of a FOLDER: GRAMS/NAME) has the Gram matrices of the model (`quantrecipe imatrix compute --gram`). --kinds takes
one kind of text alone for all of importance, probes and judging. With --evaluations N, every way that has measured
tries up to N mixes on the texts of the probes; 0: none does.

Of the mixes named with --closer, the preset and the mix of the first way also go on with texts, answer questions and
read the whole context that the model was trained with (benchmarks/closer.py).

Whatever was measured is kept in --work: a run that was stopped goes on where it was, and one with more mixes or ways
measures only these. Needs llama-cpp-python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from closer import Closer, Looked
from rich.console import Console

from quantrecipe.calibration.gram import Grams, read_gram
from quantrecipe.cli import main as quantrecipe
from quantrecipe.errors import FormatError
from quantrecipe.evaluate import (
    Positions,
    Reference,
    Text,
    make_reference,
    read_reference,
    read_text,
    score,
    summarise,
)
from quantrecipe.fit import Request, fit
from quantrecipe.fit.measured_choice import measured_choice
from quantrecipe.fit.offered_types import offered_types
from quantrecipe.fit.tried import Effort
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.merge import merged
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.to_gguf import encode_gguf
from quantrecipe.measure import Measurement, Passes, Subject, choose_types, measure
from quantrecipe.measure.encoded import Encoding
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Silent
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plain_data import plain
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.recipe import EncoderChoice
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity.sensitivity import Probed, Sensitivity

MIXES = (
    "Q2_K",
    "IQ3_XXS",
    "IQ3_XS",
    "Q3_K_S",
    "IQ3_S",
    "IQ3_M",
    "Q3_K_M",
    "Q3_K_L",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_0",
    "Q4_K_S",
    "Q4_1",
    "Q4_K_M",
    "Q5_0",
    "Q5_K_S",
    "Q5_1",
    "Q5_K_M",
    "Q6_K",
)
"""The stock mixes from Q2_K to Q6_K."""

OLDER = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
"""They lose more at their size than others; means are given without them, too."""

WAYS = ("fit", "roles", "prior", "headers", "probes", "oracle", "feedback")
DEFAULT_WAYS = WAYS[:4]
KINDS = ("code", "prose")
PROBES, FIT_PROBES, EVALUATIONS = 30, 15, 16
"""Passes of the way `probes`; and of `fit`, with the mixes that it tries: together they take no longer."""
TOKENS = 16384
"""That a pass reads."""
ORACLE_EVALUATIONS = 400
"""Mixes that the way `oracle` tries at most. It ends before."""

CONSOLE = Console(stderr=True)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A model, and where its files are kept."""

    name: str
    path: Path
    work: Path
    chunks: int | None
    threads: int | None
    calibration: Mapping[str, Path]
    validation: Mapping[str, Path]
    matrices: tuple[Path, ...] = ()
    grams: Path | None = None
    evaluations: int | None = None

    @cached_property
    def registry(self) -> Any:
        return load_registry(plugins=False)

    @cached_property
    def model(self) -> Model:
        return open_model(self.path, registry=self.registry)

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """What probes and tried mixes read."""
        return tuple(read_text(path) for path in self.calibration.values())

    @cached_property
    def importance(self) -> Importance:
        """Of all kinds of text together; the same for stock and fitted mixes."""
        if len(self.matrices) == 1:
            return read_importance(self.matrices[0])
        out = self.work / "imatrix.gguf"
        if not out.exists():
            if self.matrices:
                parts = [read_importance(path) for path in self.matrices]
                part = out.with_suffix(".part")
                part.write_bytes(b"".join(encode_gguf(merged(parts)).pieces()))
                part.replace(out)
            else:  # the command goes on with what an interrupted run has
                texts = [it for name, path in self.calibration.items() for it in ("--text", f"{name}={path}")]
                line = ["imatrix", "compute", str(self.path), *texts, "-o", str(out)]
                if quantrecipe(line) != 0:
                    raise SystemExit("the importance matrix can't be made: name one with --imatrix")
        return read_importance(out)

    @cached_property
    def statistics(self) -> Grams | None:
        return None if self.grams is None else read_gram(self.grams)

    @cached_property
    def reference(self) -> Reference:
        """What the model in BF16 says about the validation texts."""
        path = self.work / f"validation.{'.'.join(self.validation)}.{self.chunks or 'all'}.reference"
        if not path.exists():
            with self.unquantized() as bf16:
                make_reference(bf16, self.judges, path, chunks=self.chunks, threads=self.threads)
        return read_reference(path)

    @cached_property
    def judges(self) -> list[Text]:
        """The validation texts."""
        return [read_text(path) for path in self.validation.values()]

    @contextmanager
    def unquantized(self) -> Iterator[Path]:
        """The model as one file in BF16, for as long as it is needed."""
        bf16 = self.work / "BF16.gguf"
        recipe = load_recipe("llama.cpp/BF16", registry=self.registry)
        apply_plan(make_plan(recipe, self.model, registry=self.registry), bf16, force=True)
        yield bf16
        bf16.unlink()

    @cached_property
    def closer(self) -> Closer:
        with self.unquantized() as bf16:
            return Closer(
                bf16,
                self.reference,
                self.judges,
                context=int(self.model.number("context_length")) or self.reference.n_ctx,
                work=self.work / "closer",
                threads=self.threads,
            )

    def stock(self, mix: str) -> Plan:
        recipe = load_recipe(f"llama.cpp/{mix}", registry=self.registry)
        return make_plan(
            recipe, self.model, registry=self.registry, importance=self.importance, provenance=False
        )

    def sensitivity(self, way: str) -> Sensitivity | None:
        """What a way finds out; None for what is known from headers alone."""
        if way == "headers":
            return None
        if way == "oracle":
            return self.seen_through()
        roles = len({tensor.role for tensor in self.model.tensors if len(tensor.shape) > 1})
        probes = {"fit": FIT_PROBES, "probes": PROBES, "roles": roles, "prior": 0, "feedback": PROBES}[way]
        encoding = None
        if way == "feedback":
            assert self.statistics is not None
            encoding = Encoding(encoder=self.registry.encoder("feedback"), statistics=self.statistics)
        what = Measurement(
            types=choose_types(self.registry),
            analysis=self.registry.analyses["imatrix"],
            weighing=self.registry.analyses["probe"] if probes else None,
            probes=probes,
            passes=Passes(texts=self.texts, tokens=TOKENS, threads=self.threads) if probes else None,
            encoding=encoding,
            work=self.work,
            threads=self.threads,
        )
        out = self.work / f"{way}.sensitivity.jsonl"
        return measure(self.model, out, what, registry=self.registry, importance=self.importance)

    def seen_through(self) -> Sensitivity:
        """What each tensor loses in each type, by itself, on the judges' texts."""
        known = self.sensitivity("prior")
        assert known is not None
        offered = offered_types(self.registry, (), None)
        kept, out = dict[str, Probed](), self.work / "oracle.jsonl"
        if out.exists():
            kept = {it["key"]: Probed(**it) for it in map(json.loads, out.read_text().splitlines())}

        def keep(probed: Probed) -> None:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(probed)) + "\n")

        with Prober(
            self.model,
            self.registry,
            self.importance,
            Passes(texts=tuple(self.judges), tokens=TOKENS, threads=self.threads),
            digests={name: tensor.digest for name, tensor in known.tensors.items()},
            folder=self.work,
            known=kept,
            save=keep,
            progress=Silent(),
        ) as asked:
            tensors = {}
            for name, tensor in known.tensors.items():
                losses = {}
                for type_, loss in ((it, tensor.losses[it]) for it in offered if it in tensor.losses):
                    with suppress(FormatError):  # needs importance, and this tensor has none
                        losses[type_] = replace(loss, error=max(asked.evaluate({name: type_}).kld, 1e-9))
                tensors[name] = replace(tensor, alpha=1.0, alpha_source="probe", losses=losses)
        return replace(known, tensors=tensors)

    def fitted(self, way: str, like: Plan, sensitivity: Sensitivity | None) -> tuple[Plan, str, float]:
        """The plan of at most the same bytes; the stock mix that it is, if it is one; and its expected loss."""
        nbytes = data_bytes(like)
        weights = sum(tensor.size for tensor in self.model.tensors)
        budget = Budget(origin=Origin(file="benchmark", line=1), bpw=(8 * nbytes + 4) / weights)
        found = fit(
            self.model,
            Request(
                name=f"{self.name}-{way}",
                budget=budget,
                encoder=EncoderChoice(name="feedback") if way == "feedback" else None,
            ),
            self.registry,
            importance=self.importance,
            sensitivity=sensitivity,
            statistics=self.statistics if way == "feedback" else None,
        )
        evaluations, texts = self.evaluations, self.texts
        if way == "oracle":
            evaluations, texts = ORACLE_EVALUATIONS, tuple(self.judges)
        elif evaluations is None:
            evaluations = EVALUATIONS if way == "fit" else 0
        if evaluations and sensitivity is not None:
            found = measured_choice(
                found,
                Subject(model=self.model, registry=self.registry, importance=self.importance),
                Passes(texts=texts, tokens=TOKENS, threads=self.threads),
                Effort(evaluations=evaluations),
                sensitivity=sensitivity,
                out=self.work / "evaluations.jsonl",
                work=self.work,
                progress=Silent(),
            )
        assert data_bytes(found.plan) <= nbytes
        winner = found.winner
        return found.plan, winner.name if winner else "", winner.loss if winner else found.loss

    def key(self, plan: Plan) -> str:
        """Of all that a plan's figures depend on. Plans that give the same weights are run once."""
        digest = hashlib.blake2b(self.reference.key.encode(), digest_size=16)
        for a in plan.assignments:
            digest.update(f"{a.tensor.name} {a.type} {a.encoding}\n".encode())
        return digest.hexdigest()

    @contextmanager
    def made(self, plan: Plan) -> Iterator[Path]:
        """A plan's file, for as long as it is needed."""
        file = self.work / f"candidate.{os.getpid()}.gguf"
        apply_plan(plan, file, force=True)
        yield file
        file.unlink()

    def looked(self, plan: Plan, what: str) -> Looked:
        """What a plan's file goes on with, answers, and does in long contexts."""
        CONSOLE.print(f"{self.name}: {what}, closer", highlight=False)
        key = self.key(plan)
        if (kept := self.closer.kept(key)) is not None:
            return kept
        with self.made(plan) as file:
            return self.closer.look(file, key)

    def evaluated(self, plan: Plan, what: str) -> Positions:
        """What llama.cpp makes of a plan's file."""
        kept = self.work / "evaluations" / f"{self.key(plan)}.npy"
        if not kept.exists():
            CONSOLE.print(f"{self.name}: {what}", highlight=False)
            kept.parent.mkdir(exist_ok=True)
            with self.made(plan) as file:
                positions = score(file, self.reference, threads=self.threads)
            part = kept.with_suffix(".part.npy")
            np.save(part, positions.stacked().astype(np.float32))
            part.replace(kept)
        return Positions.from_stacked(np.load(kept).astype(np.float64))


def data_bytes(plan: Plan) -> int:
    return sum(a.nbytes for a in plan.assignments)


def figures(bench: Bench, positions: Positions) -> dict[str, Any]:
    """Of each text, and of all together."""
    names = {path.name: name for name, path in bench.validation.items()}
    parts = {"all": positions} | {
        names[name]: part for name, part in bench.reference.split(positions).items()
    }
    return {name: plain(summarise(part)) for name, part in parts.items()}


def compared(one: Positions, other: Positions) -> tuple[float, float]:
    """Relative change of the mean divergence from `other` to `one`, and its standard error: of a ratio of means."""
    ratio = float(one.divergence.mean() / other.divergence.mean())
    residual = one.divergence - ratio * other.divergence
    error = float(residual.std(ddof=1)) / math.sqrt(len(one)) / float(other.divergence.mean())
    return ratio - 1, error


def rows(bench: Bench, mixes: list[str], ways: list[str], closer: list[str]) -> Iterator[dict[str, Any]]:
    """One for each stock mix, with the fitted ones of its size."""
    found: Mapping[str, Sensitivity | None] = {way: bench.sensitivity(way) for way in ways}
    for mix in mixes:
        plan = bench.stock(mix)
        stock = bench.evaluated(plan, f"{mix}, stock")
        row: dict[str, Any] = {
            "mix": mix,
            "nbytes": data_bytes(plan),
            "bits_per_weight": plan.bits_per_weight,
            "stock": figures(bench, stock),
            "fitted": {},
        }
        for way in ways:
            mine, winner, loss = bench.fitted(way, plan, found[way])
            positions = bench.evaluated(mine, f"{mix}, {way}")
            change, error = compared(positions, stock)
            row["fitted"][way] = {
                "nbytes": data_bytes(mine),
                "bits_per_weight": mine.bits_per_weight,
                "is": winner,
                "expected": loss,
                "change": change,
                "change_error": error,
                "figures": figures(bench, positions),
            }
            CONSOLE.print(
                f"{bench.name} {mix:8} {way:8} {100 * change:+6.1f} ± {100 * error:.1f} %  {winner}",
                highlight=False,
            )
            if mix in closer and way == ways[0]:
                first, second = bench.looked(plan, f"{mix}, stock"), bench.looked(mine, f"{mix}, {way}")
                row["closer"] = {
                    "stock": bench.closer.figures(first),
                    "fitted": bench.closer.figures(second, beside=first),
                }
        yield row


def is_model(path: Path) -> bool:
    return path.is_file() or (path / "config.json").is_file()


def benches(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Iterator[Bench]:
    """The models that the command line names, each with its texts and matrices."""
    common = {"chunks": args.chunks, "threads": args.threads, "evaluations": args.evaluations}
    folder: Path = args.folder
    if is_model(folder):
        if not args.calibration or not args.validation:
            parser.error(
                "of a single model, name texts with --calibration NAME=FILE and --validation NAME=FILE"
            )
        name = folder.resolve().name.removesuffix(".gguf")
        yield Bench(
            name=name,
            path=folder,
            work=args.work / name,
            calibration=dict(args.calibration),
            validation=dict(args.validation),
            matrices=() if args.imatrix is None else (args.imatrix,),
            grams=args.statistics,
            **common,
        )
        return
    names = args.models or sorted(
        path.name for path in folder.iterdir() if (folder / f"{path.name}-extra").is_dir()
    )
    for name in names:
        extra = folder / f"{name}-extra"
        matrices = tuple(extra / f"imatrix.{kind}.gguf" for kind in args.kinds)
        if len(matrices) > 1 and (extra / "imatrix.merged.gguf").exists():
            matrices = (extra / "imatrix.merged.gguf",)
        yield Bench(
            name=name,
            path=folder / name,
            work=args.work / name,
            calibration={kind: folder / f"texts/{kind}.calib.txt" for kind in args.kinds},
            validation={kind: folder / f"texts/{kind}.val.txt" for kind in args.kinds},
            matrices=matrices,
            grams=None if args.statistics is None else args.statistics / name,
            **common,
        )


def named_text(said: str) -> tuple[str, Path]:
    """NAME=FILE, or FILE, which goes by its own name."""
    name, equals, path = said.rpartition("=")
    found = Path(path)
    if not found.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return name if equals else found.name.removesuffix(".txt"), found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=os.environ.get("QUANTRECIPE_MODELS"), metavar="MODEL"
    )
    parser.add_argument("--calibration", nargs="+", type=named_text, metavar="NAME=FILE")
    parser.add_argument("--validation", nargs="+", type=named_text, metavar="NAME=FILE")
    parser.add_argument(
        "--imatrix", type=Path, metavar="FILE", help="of MODEL; made of --calibration if left out"
    )
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="folders in FOLDER; all with a NAME-extra"
    )
    parser.add_argument("--mixes", nargs="+", choices=MIXES, default=list(MIXES))
    parser.add_argument("--closer", nargs="*", choices=MIXES, default=[], metavar="MIX")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(DEFAULT_WAYS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of texts in FOLDER")
    parser.add_argument(
        "--evaluations",
        type=int,
        help=f"mixes that every way tries on the calibration texts; default {EVALUATIONS} for fit, none for others",
    )
    parser.add_argument("--statistics", type=Path, metavar="GRAMS", help="for --ways feedback")
    parser.add_argument(
        "--chunks", type=int, metavar="N", help="the first N chunks of each text; default all"
    )
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument(
        "--work", type=Path, default=Path("quality-work"), metavar="DIR", help="where results are kept"
    )
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="write results here; default standard output"
    )
    args = parser.parse_args()
    if args.folder is None or not Path(args.folder).exists():
        parser.error("give a model, or the folder of the models, or set QUANTRECIPE_MODELS")
    args.folder = Path(args.folder)
    if "feedback" in args.ways and args.statistics is None:
        parser.error("--ways feedback needs --statistics")
    results: list[dict[str, Any]] = []
    for bench in benches(args, parser):
        bench.work.mkdir(parents=True, exist_ok=True)
        model: dict[str, Any] = {
            "model": bench.name,
            "weights": sum(tensor.size for tensor in bench.model.tensors),
            "reference": plain(bench.reference) | {"path": ""},
            "rows": [],
        }
        results.append(model)
        for row in rows(bench, args.mixes, args.ways, args.closer):
            model["rows"].append(row)
            said = {"probes": FIT_PROBES, "evaluations": EVALUATIONS, "tokens": TOKENS, "older": OLDER}
            text = json.dumps(said | {"models": results}, indent=1)
            if args.json:  # after each mix: what is known can be looked at while the rest is measured
                part = args.json.with_suffix(".part")
                part.write_text(text + "\n", encoding="utf-8")
                part.replace(args.json)
    if not args.json:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
