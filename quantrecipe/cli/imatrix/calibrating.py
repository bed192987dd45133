"""What `imatrix compute` does around the computation: divides texts, warns, makes a file to run, shows and reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import quantrecipe
from quantrecipe.api import Executor
from quantrecipe.calibration import (
    Another,
    CalibrationSettings,
    Change,
    Computed,
    Prepared,
    Ran,
    Refill,
    Saved,
    UncoveredExperts,
    Unusable,
    WorkerNote,
    compute_importance,
    hash_of_files,
    provenance_of,
    sums_path,
)
from quantrecipe.calibration.gram import Experts, Grams
from quantrecipe.cli.context import Context, watched
from quantrecipe.cli.errors import print_note, print_warning, printable
from quantrecipe.cli.options.texts import PARTS
from quantrecipe.cli.output_files import check_output, write_text
from quantrecipe.cli.planned.coverage_table import render_coverage
from quantrecipe.cli.progress import CalibrationBar
from quantrecipe.cli.tables import Paragraph
from quantrecipe.cli.units import counted, duration_text
from quantrecipe.engine import RunOptions
from quantrecipe.errors import ImportanceError, OutputError, Problem, TextError
from quantrecipe.importance.coverage import Coverage, coverage
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.measure.measurement import quantizable
from quantrecipe.memory.device import Settings
from quantrecipe.memory.footprint import Footprint, Room, Runs
from quantrecipe.memory.machine import detect_machine
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.model import Model
from quantrecipe.output.locks import held
from quantrecipe.output.paths import check_path
from quantrecipe.registry import Registry
from quantrecipe.texts import (
    FEWEST_SAMPLES,
    Domain,
    Rendered,
    cautions,
    chat_template,
    json_lines_of,
    overlap,
    passages,
    render,
    split,
)
from quantrecipe.units import memory_text
from quantrecipe.wording import some_of

__all__ = ["OVERLAP", "Calibrating"]

_FEWEST_TOKENS = 20_000
_SHORT = 8  # a context that is so many times shorter than the model's own says little of long ones
OVERLAP = 0.01  # of the n-grams: quotations and licences come to less
_SHOWN = 3


class Calibrating:
    """One run of the command, with what it was told."""

    def __init__(
        self,
        ctx: Context,
        model: Model,
        registry: Registry,
        out: Path,
        settings: CalibrationSettings,
    ) -> None:
        self._ctx, self._model, self._registry = ctx, model, registry
        self._out, self._settings = out, settings
        self._fingerprint = str(fingerprint(model))
        self._template = ""
        self._hash = self._each = ""
        self._parts: dict[str, Path] = {}
        self._inputs: list[tuple[Path, str]] = []

    def spare(self, texts: Sequence[Domain]) -> None:
        """OutputError where the matrix would be written over what is read, whatever may be replaced."""
        self._inputs = [(path, "a file of the model") for path in self._model.files]
        self._inputs += [(path, "a text that is read") for text in texts for path in text.files]
        check_path(self._out, self._inputs)

    def divide(
        self, domains: Sequence[Domain], shares: tuple[int, int, int], *, force: bool
    ) -> tuple[Domain, ...]:
        """Write the parts of the texts beside the matrix, but for empty ones: what is left for calibration.

        TextError where nothing is left; OutputError where a part exists, unless `force`. One that holds the same
        already is from a run that was stopped, and stays.
        """
        stem = self._out.name.removesuffix(".gguf").removesuffix(".dat").removesuffix(".imatrix")
        divided = [
            split([it for document in domain.documents for it in passages(document)], shares)
            for domain in domains
        ]
        texts: dict[Path, str] = {}
        for number, (part, share) in enumerate(zip(PARTS, shares, strict=True)):
            if text := json_lines_of(it for parts in divided for it in parts[number]):
                self._parts[part] = self._out.with_name(f"{stem}.{part}.jsonl")
                texts[self._parts[part]] = text
            elif share:
                print_warning(self._ctx.err, f"the {part} part got none of the texts", "give more texts")
        texts = {path: text for path, text in texts.items() if not _holds(path, text)}
        for path in texts:
            check_output(path, force=force)
            check_path(path, self._inputs)
        for path, text in texts.items():
            write_text(path, text, force=force)
        for domain, (calibration, *_) in zip(domains, divided, strict=True):
            if not calibration:
                what = f"nothing of {domain.name} is in the calibration part: the matrix doesn't know it"
                print_warning(self._ctx.err, what, "give more of it, or leave out --split")
        left = [
            replace(domain, documents=parts[0])
            for domain, parts in zip(domains, divided, strict=True)
            if parts[0]
        ]
        if not left:
            what = (
                f"{shares[0]} % of {counted(sum(len(it.documents) for it in domains), 'document')} are none"
            )
            raise TextError(what, "give more texts, or leave out --split")
        return tuple(left)

    def caution(self, domains: Sequence[Domain], held_out: Sequence[Domain]) -> None:
        """Warn of what is wrong with texts before they are run: too few, unweighted, or those of the evaluation."""
        for caution in cautions(domains):
            print_warning(self._ctx.err, caution.what, caution.remedy)
        for unseen in held_out:
            for domain in domains:
                found = overlap(domain, unseen)
                if found.share >= OVERLAP:
                    worst = some_of([f"{place} {share:.0%}" for place, share in found.worst], _SHOWN)
                    what = (
                        f"{found.share:.0%} of the passages of {unseen.name} are in {domain.name}, too ({worst}): "
                        "what is measured on them looks better than it is"
                    )
                    print_warning(self._ctx.err, what, "leave them out of one of both")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """OutputError while another run computes the same matrix: each would take the other's sums for its own."""
        sums = sums_path(self._out)
        busy = OutputError(f"another run computes {self._out}", "wait for it, or name another file with -o")
        with held(sums.with_name(f"{sums.name}.quantrecipe-lock"), busy):
            yield

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Whatever stops the run, say what is kept of it."""
        try:
            yield
        except BaseException:
            kept = sums_path(self._out)
            if kept.exists():
                what = f"what was read is kept in {kept}"
                print_note(self._ctx.err, Problem(what=what, remedy="the same command goes on from there"))
            raise

    def compute(
        self,
        path: Path,
        domains: Sequence[Domain],
        executor: Executor | None = None,
        **running: Unpack[RunOptions],
    ) -> Computed:
        """Compute it, and say how far it is. The model's files are hashed meanwhile.

        executor: whose workers run the model; None for this machine alone
        """
        self._each = " for each worker" if executor is not None else ""
        rendered = self._rendered(domains)
        with ExitStack() as stack:
            pool, stopped = stack.enter_context(ThreadPoolExecutor(1)), threading.Event()
            # The pool waits for its thread, which may have hours of files to read.
            stack.callback(stopped.set)
            bar = stack.enter_context(CalibrationBar(self._ctx.err))
            hashed = pool.submit(hash_of_files, self._model.files, stopped)
            bar.say("loading the model")
            computed = compute_importance(
                path,
                rendered,
                self._out,
                self._settings,
                told={
                    "model": self._fingerprint,
                    "template": self._template,
                    "version": quantrecipe.__version__,
                },
                hear=_Hearing(self, bar).hear,
                executor=executor,
                memory=0 if executor is None else self._footprint().ram.total,
                **running,
            )
            bar.say("hashing the model")
            provenance = self._provenance(domains, computed, hashed)
        return replace(computed, measurement=replace(computed.measurement, provenance=provenance))

    def compute_grams(
        self,
        path: Path,
        domains: Sequence[Domain],
        folder: Path,
        executor: Executor | None = None,
        *,
        experts: Experts,
        layers: int | None,
        **running: Unpack[RunOptions],
    ) -> Grams:
        """Compute the Gram matrices of the same inputs, and say what that takes, and what came of it.

        executor: as for `compute`
        """
        from quantrecipe.cli.imatrix.gram import write_grams

        rendered = self._rendered(domains)
        if not self._hash:
            with CalibrationBar(self._ctx.err) as bar:
                bar.say("hashing the model")
                self._hash = hash_of_files(self._model.files)
        return write_grams(
            self._ctx,
            self._tell,
            path,
            rendered,
            folder,
            self._settings,
            experts=experts,
            layers=layers,
            origin=self._origin,
            executor=executor,
            memory=0 if executor is None else self._footprint().ram.total,
            **running,
        )

    def _rendered(self, domains: Sequence[Domain]) -> list[tuple[Domain, list[Rendered]]]:
        chats = any(document.is_chat for domain in domains for document in domain.documents)
        template = chat_template(self._model) if chats else None
        self._template = template.digest if template is not None else ""
        return [(domain, render(domain, template)) for domain in domains]

    def prepared(self, prepared: Prepared) -> None:
        """Say what the run will take, and warn of what is wrong with it, before it begins."""
        self._tell(f"{_amounts(prepared)}; {_memory(self._footprint())}{self._each}")
        if prepared.all_tokens < _FEWEST_TOKENS:
            what = f"{prepared.all_tokens:,} tokens are few: chance decides much in fewer than {_FEWEST_TOKENS:,}"
            print_warning(self._ctx.err, what, "give more text")
        elif prepared.samples < FEWEST_SAMPLES:
            what = f"{prepared.samples} samples are few: each weighs much in fewer than {FEWEST_SAMPLES}"
            print_warning(self._ctx.err, what, "give more texts")
        trained, longest = prepared.facts.n_ctx, max(self._settings.contexts)
        if trained >= _SHORT * longest:
            what = f"the model was trained with contexts of {trained:,} tokens, and reads {longest:,} at a time here"
            print_note(
                self._ctx.err, Problem(what=what, remedy=f"long ones too: --context {longest},{8 * longest}")
            )

    def timed(self, speed: float, left: float) -> None:
        """Say how long it will take, as far as the first tokens tell; a bar shows it all the time."""
        if not watched(self._ctx.err):
            self._tell(f"about {duration_text(left)}, at {speed:,.0f} tokens/s")

    def another(self, other: Another) -> None:
        """Warn that what another run has read will be lost."""
        what = (
            f"{other.path} is of a run with other texts or settings, another model or another version, which has "
            f"read {other.tokens:,} tokens: it will be replaced"
        )
        print_warning(self._ctx.err, what, "to keep it, stop now, and name another file with -o")

    def unusable(self, left: Unusable) -> None:
        """Warn that what lies there is lost."""
        what = (
            f"{left.path} is damaged, or another program's or version's: the run begins anew, and replaces it"
        )
        print_warning(
            self._ctx.err, what, "look at the disk; to keep it, stop now, and name another file with -o"
        )

    def worker_note(self, what: str) -> None:
        """Say what has become of an executor's workers."""
        print_note(self._ctx.err, Problem(what=printable(what)))

    def resumed(self, tokens: int) -> None:
        """Say that the run goes on from one before it."""
        self._tell(f"goes on after {tokens:,} tokens, which an earlier run has read")

    def report(self, computed: Computed) -> None:
        """Say what came of it, after the matrix was written: what it covers, and what more text would change."""
        found = self._coverage()
        last = computed.collected.change
        if last is not None:
            how = "enough" if computed.collected.enough else "all was read"
            self._ctx.say(
                f"the last fifth of {last.tokens:,} tokens moved {last.share:.2%} of the importance to other columns "
                f"(95th percentile; most: {printable(last.worst)}, {last.most:.2%}): {how}"
            )
        if computed.filled:
            self._ctx.say(
                f"{counted(computed.filled, 'expert')} got what all tokens give, by a pass through all experts"
            )
        if found is not None and (found.missing or found.misfit or found.partly):
            self._ctx.console.print(render_coverage(found))
        for line in _uncovered(computed.uncovered):
            filled = "" if self._settings.all_experts else ", or --all-experts"
            print_warning(self._ctx.err, line, f"more text of other kinds{filled}")
        for part, path in self._parts.items():
            use = {"search": "fit --text", "held-out": "eval --text, fit --verify"}.get(part, "this matrix")
            self._ctx.say(f"wrote {printable(str(path))}, for {use}")

    def document(self, computed: Computed | None) -> dict[str, object]:
        """The same for --json; of a matrix that stayed as it was, its name alone."""
        if computed is None:
            return {"file": self._out}
        prepared, collected = computed.prepared, computed.collected
        found = self._coverage()
        return {
            "file": self._out,
            "entries": len(computed.measurement.tensors),
            "tokens": collected.tokens,
            "domains": {
                name: {"tokens": tokens, "chunks": prepared.chunks[name], "factor": prepared.factors[name]}
                for name, tokens in prepared.tokens.items()
            },
            "change": collected.change,
            "enough": collected.enough,
            "uncovered_experts": {it.tensor: dict(it.tokens) for it in computed.uncovered},
            "filled_experts": computed.filled,
            "missing_tensors": None if found is None else [it.tensor.name for it in found.missing],
            "parts": self._parts,
            "provenance": computed.measurement.provenance,
        }

    def _coverage(self) -> Coverage | None:
        """How the matrix that was written fits the model; None where most of it fits none of its tensors.

        That would be an engine with names of its own for weights: the matrix is there, and nobody could use it here.
        """
        matrix = read_importance(self._out)
        try:
            return coverage(quantizable(self._model, self._registry), matrix, model=self._model.tensors)
        except ImportanceError as error:
            print_warning(self._ctx.err, str(error))
            return None

    def _provenance(self, domains: Sequence[Domain], computed: Computed, hashed: Future[str]) -> Provenance:
        self._hash = hashed.result()
        return provenance_of(
            self._origin,
            domains,
            computed.prepared,
            self._settings,
            computed.read,
            all_experts=computed.filled > 0,
        )

    @property
    def _origin(self) -> Provenance:
        """The model, once its files are hashed, and the template."""
        return Provenance(fingerprint=self._fingerprint, model=self._hash, template=self._template)

    def _footprint(self) -> Footprint:
        machine = detect_machine()
        gpu = max((it.free for it in machine.gpus), default=0)
        runs = Runs(self._model, Room(gpu=gpu, ram=machine.ram_free, unified=machine.unified))
        sources = self._model.sources
        tensors = [
            (tensor, sources[tensor.name].row_bytes * sources[tensor.name].total_rows)
            for tensor in self._model.tensors
        ]
        layers = None if gpu else 0
        context = max(*self._settings.contexts, 2048)
        return runs.footprint(tensors, Settings(context=context, layers=layers))

    def _tell(self, what: str) -> None:
        """A sentence on stderr: it is about the run, and a bar may be drawn there."""
        self._ctx.err.print(Paragraph(what, indent=2))


class _Hearing:
    """Shows what a run tells."""

    def __init__(self, run: Calibrating, bar: CalibrationBar) -> None:
        self._run, self._bar = run, bar
        self._begun = self._before = 0.0
        self._all = 0
        self._told = False

    def hear(self, what: Prepared | Another | Unusable | Ran | Change | Saved | Refill | WorkerNote) -> None:
        match what:
            case Prepared(all_tokens=tokens):
                self._run.prepared(what)
                self._bar.start(tokens)
                self._all, self._begun = tokens, time.monotonic()
            case Ran(tokens=tokens):
                self._bar.read(tokens)
                self._tell_time(tokens)
            case Refill(tokens=tokens):
                self._bar.start(tokens, "all experts")
            case Another():
                self._run.another(what)
            case Unusable():
                self._run.unusable(what)
            case WorkerNote(what=text):
                self._run.worker_note(text)
            case Change(share=share):
                self._bar.changed(share)
            case Saved(resumed=True, tokens=tokens):
                self._bar.resumed(tokens)
                self._run.resumed(tokens)
                self._before = tokens
            case _:
                pass

    def _tell_time(self, tokens: int) -> None:
        """Once, after the first tokens: what a bar shows all the time isn't seen in a log."""
        if not self._told:
            self._told = True
            speed = (tokens - self._before) / max(time.monotonic() - self._begun, 1e-9)
            if tokens < self._all:
                self._run.timed(speed, (self._all - tokens) / speed)


def _amounts(prepared: Prepared) -> str:
    """ "97,280 tokens in 190 chunks"; of several domains each."""
    each = [
        f"{printable(name)} {tokens:,} tokens in {counted(prepared.chunks[name], 'chunk')}"
        for name, tokens in prepared.tokens.items()
    ]
    return f"reading {', '.join(each)}"


def _memory(footprint: Footprint) -> str:
    ram, gpu = footprint.ram.total, footprint.gpu.total
    parts = [f"about {memory_text(ram)} of memory"] + ([f"{memory_text(gpu)} of the GPU's"] if gpu else [])
    return f"takes {' and '.join(parts)}"


def _uncovered(experts: Sequence[UncoveredExperts]) -> list[str]:
    """A line for each layer whose experts lack tokens: its matrices have the same ones."""
    by_layer: dict[str, Mapping[int, int]] = {}
    for it in experts:
        by_layer.setdefault(it.tensor.rpartition(".ffn_")[0] or it.tensor, it.tokens)
    lines = [
        f"{printable(layer)}: few tokens reached {_experts(tokens)}" for layer, tokens in by_layer.items()
    ]
    return (
        lines
        if len(lines) <= _SHOWN
        else [*lines[:_SHOWN], f"… and {len(lines) - _SHOWN} more layers like these"]
    )


def _experts(tokens: Mapping[int, int]) -> str:
    """ "expert 3 (12)", each with its tokens; of many, their numbers, and the fewest and the most."""
    if len(tokens) <= _SHOWN:
        each = ", ".join(f"{expert} ({count:,})" for expert, count in tokens.items())
        return f"expert{'s' if len(tokens) > 1 else ''} {each}"
    fewest, most = min(tokens.values()), max(tokens.values())
    counts = f"{fewest:,} to {most:,}" if fewest < most else f"{most:,} each"
    return f"{len(tokens)} experts ({counts}): {layer_ranges(list(tokens))}"


def _holds(path: Path, text: str) -> bool:
    """Whether the file is there, and has this text."""
    try:
        return path.is_file() and not path.is_symlink() and path.read_bytes() == text.encode()
    except OSError:
        return False
