"""What `imatrix compute` does around the computation: divides texts, warns, makes a file to run, shows and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import quantrecipe
from quantrecipe.calibration import (
    CalibrationSettings,
    Change,
    Computed,
    Prepared,
    Ran,
    Saved,
    UncoveredExperts,
    compute,
    hash_of_files,
)
from quantrecipe.calibration.gram import Experts, Grams
from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_note, print_warning, printable
from quantrecipe.cli.options.texts import PARTS
from quantrecipe.cli.output_files import check_output, write_text
from quantrecipe.cli.progress import CalibrationBar
from quantrecipe.cli.units import counted
from quantrecipe.engine import RunOptions
from quantrecipe.errors import Problem, TextError
from quantrecipe.importance.provenance import CalibrationText, Provenance
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.memory.device import Settings
from quantrecipe.memory.footprint import Footprint, Room, Runs
from quantrecipe.memory.machine import detect_machine
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.model import Model
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

__all__ = ["Calibrating"]

_FEWEST_TOKENS = 20_000
_SHORT = 8  # a context that is so many times shorter than the model's own says little of long ones
_OVERLAP = 0.01  # of the n-grams: quotations and licences come to less
_SHOWN = 3


class Calibrating:
    """One run of the command, with what it was told."""

    def __init__(
        self,
        ctx: Context,
        model: Model,
        out: Path,
        settings: CalibrationSettings,
        *,
        quiet: bool,
    ) -> None:
        """quiet: stdout is for JSON alone."""
        self._ctx, self._model = ctx, model
        self._out, self._settings, self._quiet = out, settings, quiet
        self._fingerprint = str(fingerprint(model))
        self._template = ""
        self._hash = ""
        self._parts: dict[str, Path] = {}

    def divide(
        self, domains: Sequence[Domain], shares: tuple[int, int, int], *, force: bool
    ) -> tuple[Domain, ...]:
        """Write the three parts of the texts beside the matrix: what is left for calibration.

        TextError where nothing is left; OutputError where a part exists, unless `force`.
        """
        stem = self._out.name.removesuffix(".gguf").removesuffix(".dat").removesuffix(".imatrix")
        self._parts = {part: self._out.with_name(f"{stem}.{part}.jsonl") for part in PARTS}
        for path in self._parts.values():
            check_output(path, force=force)
        divided = [
            split([it for document in domain.documents for it in passages(document)], shares)
            for domain in domains
        ]
        for number, path in enumerate(self._parts.values()):
            write_text(path, json_lines_of(it for parts in divided for it in parts[number]), force=force)
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
                if found.share >= _OVERLAP:
                    worst = some_of([f"{place} {share:.0%}" for place, share in found.worst], _SHOWN)
                    what = (
                        f"{found.share:.0%} of the passages of {unseen.name} are in {domain.name}, too ({worst}): "
                        "what is measured on them looks better than it is"
                    )
                    print_warning(self._ctx.err, what, "leave them out of one of both")

    def compute(self, path: Path, domains: Sequence[Domain], **running: Unpack[RunOptions]) -> Computed:
        """Compute it, and say how far it is. The model's files are hashed meanwhile."""
        rendered = self._rendered(domains)
        with ThreadPoolExecutor(1) as pool, CalibrationBar(self._ctx.err) as bar:
            hashed = pool.submit(hash_of_files, self._model.files)
            bar.say("loading the model")
            computed = compute(
                path,
                rendered,
                self._out,
                self._settings,
                told={"model": self._fingerprint, "template": self._template},
                hear=_Hearing(self, bar).hear,
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
        *,
        experts: Experts,
        layers: int | None,
        **running: Unpack[RunOptions],
    ) -> Grams:
        """Compute the Gram matrices of the same inputs, and say what that takes, and what came of it."""
        from quantrecipe.cli.imatrix.gram import write_grams

        rendered = self._rendered(domains)
        if not self._hash:
            with CalibrationBar(self._ctx.err) as bar:
                bar.say("hashing the model")
                self._hash = hash_of_files(self._model.files)
        origin = Provenance(fingerprint=self._fingerprint, model=self._hash, template=self._template)
        return write_grams(
            self._ctx,
            self._say,
            path,
            rendered,
            folder,
            self._settings,
            experts=experts,
            layers=layers,
            origin=origin,
            **running,
        )

    def _rendered(self, domains: Sequence[Domain]) -> list[tuple[Domain, list[Rendered]]]:
        chats = any(document.is_chat for domain in domains for document in domain.documents)
        template = chat_template(self._model) if chats else None
        self._template = template.digest if template is not None else ""
        return [(domain, render(domain, template)) for domain in domains]

    def prepared(self, prepared: Prepared) -> None:
        """Say what the run will take, and warn of what is wrong with it, before it begins."""
        self._say(f"{_amounts(prepared)}; {_memory(self._footprint(prepared))}")
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

    def report(self, computed: Computed) -> None:
        """Say what came of it, after the matrix was written."""
        last = computed.collected.change
        if last is not None:
            how = "enough" if computed.collected.enough else "all was read"
            self._say(
                f"the last fifth of {last.tokens:,} tokens changed the matrices by {last.share:.2%} "
                f"(95th percentile; most: {printable(last.worst)}, {last.most:.2%}): {how}"
            )
        if computed.filled:
            self._say(
                f"{counted(computed.filled, 'expert')} got what all tokens give, by a pass through all experts"
            )
        for line in _uncovered(computed.uncovered):
            print_warning(self._ctx.err, line, "more text of other kinds, or --all-experts")
        for part, path in self._parts.items():
            use = {"search": "fit --text", "held-out": "eval --text, fit --verify"}.get(part, "this matrix")
            self._say(f"wrote {printable(str(path))}, for {use}")

    def document(self, computed: Computed | None) -> dict[str, object]:
        """The same for --json; of a matrix that stayed as it was, its name alone."""
        if computed is None:
            return {"file": self._out}
        prepared, collected = computed.prepared, computed.collected
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
            "parts": self._parts,
            "provenance": computed.measurement.provenance,
        }

    def _provenance(self, domains: Sequence[Domain], computed: Computed, hashed: Future[str]) -> Provenance:
        prepared, settings = computed.prepared, self._settings
        self._hash = hashed.result()
        share = computed.collected.tokens / max(1, prepared.all_tokens)  # less where it was enough
        return Provenance(
            texts=tuple(
                CalibrationText(
                    name=domain.name,
                    digest=domain.digest,
                    tokens=round(prepared.tokens[domain.name] * share),
                    weight=prepared.factors[domain.name],
                )
                for domain in domains
            ),
            template=self._template,
            contexts=settings.contexts,
            fingerprint=self._fingerprint,
            model=self._hash,
            version=quantrecipe.__version__,
            engine=prepared.facts.engine,
            skip=settings.skip,
            chunks=settings.chunks,
            all_experts=computed.filled > 0,
        )

    def _footprint(self, prepared: Prepared) -> Footprint:
        machine = detect_machine()
        gpu = max((it.free for it in machine.gpus), default=0)
        runs = Runs(self._model, Room(gpu=gpu, ram=machine.ram_free, unified=machine.unified))
        tensors = [
            (tensor, sum(extent.nbytes for extent in self._model.sources[tensor.name].extents))
            for tensor in self._model.tensors
        ]
        layers = None if gpu else 0
        context = max(*self._settings.contexts, 2048)
        return runs.footprint(tensors, Settings(context=context, layers=layers))

    def _say(self, what: str) -> None:
        if self._quiet:
            self._ctx.err.print(printable(what))
        else:
            self._ctx.say(what)


class _Hearing:
    """Shows what a run tells."""

    def __init__(self, run: Calibrating, bar: CalibrationBar) -> None:
        self._run, self._bar = run, bar
        self._done = 0

    def hear(self, what: Prepared | Ran | Change | Saved) -> None:
        match what:
            case Prepared():
                self._run.prepared(what)
                self._bar.start(what.all_tokens)
            case Ran(tokens=tokens):
                self._bar.read(tokens)
            case Change(share=share):
                self._bar.changed(share)
            case Saved(resumed=True, tokens=tokens):
                self._bar.resumed(tokens)
            case _:
                pass


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
    """A line for each kind of tensor whose experts lack tokens: gate and up of a layer have the same."""
    by_layer: dict[str, Mapping[int, int]] = {}
    for it in experts:
        by_layer.setdefault(it.tensor.rpartition(".ffn_")[0] or it.tensor, it.tokens)
    lines = [
        f"{printable(layer)}: {counted(len(tokens), 'expert')} reached by {min(tokens.values())} to "
        f"{max(tokens.values())} tokens ({layer_ranges(list(tokens))})"
        for layer, tokens in by_layer.items()
    ]
    return (
        lines
        if len(lines) <= _SHOWN
        else [*lines[:_SHOWN], f"… and {len(lines) - _SHOWN} more layers like these"]
    )
