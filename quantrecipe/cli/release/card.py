"""The body of a release's model card, as Markdown: which file for which memory, what each loses, how it was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from quantrecipe import __version__
from quantrecipe.cli.imatrix.calibrating import OVERLAP
from quantrecipe.cli.release.charts import CHARTS
from quantrecipe.cli.release.front_matter import Origin
from quantrecipe.cli.release.job import Item, Job, Made, MatrixMade, Measured
from quantrecipe.cli.release.uses import Uses
from quantrecipe.cli.tables.markup import code, escaped, markdown_rows
from quantrecipe.cli.units import bytes_text, count_text, loss_text
from quantrecipe.fit.picks import EXACT, FINE, Option
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.memory.footprint import Way
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.release.checksums import SUMS
from quantrecipe.texts import overlap
from quantrecipe.units import memory_text, tokens_text

__all__ = ["Facts", "card_body", "lock_path", "modelfile_path", "recipe_path", "senses_of"]

_WAYS: Mapping[Way, str] = {
    "experts beside it": "experts in main memory",
    "some layers": "some layers on the card",
    "cpu": "on the processor",
}
_HEADINGS = {"code": "code", "chat": "chat", "long context": "long contexts"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All that the card is made of.

    items:      files of the language model
    parts:      those of its projector and of its draft head
    charts:     keys of `CHARTS` that were drawn
    modelfiles: names of items that have one for ollama
    """

    job: Job
    items: Sequence[Item]
    parts: Sequence[Item]
    made: Mapping[str, Made]
    matrix: MatrixMade | None
    own_matrices: Mapping[str, MatrixMade]
    measured: Measured
    uses: Uses
    origin: Origin
    charts: Sequence[str]
    modelfiles: Sequence[str]

    @property
    def ordered(self) -> list[Item]:
        """The items, the smallest first."""
        return sorted(self.items, key=lambda it: (it.plan.nbytes, it.name))


def recipe_path(item: Item) -> str:
    """Where the recipe of a file is, in the folder."""
    return f"recipes/{item.name}.yaml"


def lock_path(item: Item) -> str:
    """Where its lock is."""
    return f"locks/{item.name}.lock"


def modelfile_path(item: Item) -> str:
    """Where its Modelfile for ollama is."""
    return f"ollama/Modelfile.{item.name}"


def card_body(facts: Facts) -> str:
    """Markdown; the same facts give the same text."""
    parts = [*_title(facts), *_which(facts), *_files(facts), *_projectors(facts), *_draft_heads(facts)]
    parts += [*_losses(facts), *_running(facts), *_made(facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(facts: Facts) -> Iterator[str]:
    job, repo = facts.job, facts.origin[0]
    yield f"# {escaped(job.name)} GGUF"
    if job.release.description:
        yield job.release.description.strip()
    source = f"[{escaped(repo)}](https://huggingface.co/{repo})" if repo else escaped(job.name)
    by = f" by {escaped(job.release.quantized_by)}" if job.release.quantized_by else ""
    weights = count_text(sum(tensor.size for tensor in job.model.tensors))
    yield f"{source} ({weights} weights) as GGUF files, quantized{by} with quantrecipe {__version__}."


def _which(facts: Facts) -> Iterator[str]:
    """A line for each size of graphics card at which the answer is another one."""
    uses = facts.uses
    if not uses.takes:
        return
    yield "## Which file"
    labels = {it.name: it.label for it in facts.items}
    rows = [
        [f"{memory_text(take.card)} or more", *(_pick(take.picks.get(use), labels) for use in _HEADINGS)]
        for take in uses.takes
    ]
    kinds = ("number", *("word" for _ in _HEADINGS))
    yield markdown_rows(("graphics card", *_HEADINGS.values()), kinds, rows)  # type: ignore[arg-type]  # kinds of columns
    losses = "the KL divergence that was measured" if uses.measured else "an estimate: nothing was measured"
    named = [name for name in ("code", "chat") if any(name in text.lower() for text in facts.measured.chunks)]
    by = f", for {' and '.join(named)} on the text of that name" if named else ""
    yield (
        f"With a context of {tokens_text(uses.settings.context)} and a KV cache of {uses.settings.kv}. What counts is "
        f"{losses}{by}. For code: the file that loses least, since one wrong token breaks a program, or, where some of "
        f"it stays off the card, the smallest that loses at most {EXACT:g}. For chat: the smallest that loses at most "
        f"{FINE:g}. For long contexts: of those, the one that leaves the most room for the cache."
    )


def _pick(option: Option | None, labels: Mapping[str, str]) -> str:
    if option is None:
        return "–"
    way = _WAYS.get(option.way, "")
    return code(labels[option.name]) + (f" ({way})" if way else "")


def _files(facts: Facts) -> Iterator[str]:
    yield "## Files"
    uses, measured = facts.uses, facts.measured.files
    columns: dict[str, str] = {"file": "word", "size": "number", "bits per weight": "number"}
    columns |= {"KL divergence": "number", "same top token": "number"} if measured else {}
    columns |= {"GPU memory": "number", "fits on": "number"} if uses.memory else {}
    columns |= {"tokens/s": "number"} if uses.paces else {}
    columns |= {"": "word"} if any(it.wish.note for it in facts.items) else {}
    rows = []
    for it in facts.ordered:
        first, count = facts.made[it.name].first, len(facts.made[it.name].sums)
        cells = {
            "file": f"[{escaped(first)}]({first})" + (f" and {count - 1} more" if count > 1 else ""),
            "size": bytes_text(it.plan.nbytes),
            "bits per weight": f"{it.plan.bits_per_weight:.2f}",
            "": escaped(it.wish.note),
        }
        if (figures := measured.get(it.name)) is not None:
            error = format(Decimal(f"{figures[0].kld_error:.1g}"), "f")
            cells["KL divergence"] = f"{loss_text(figures[0].kld)} ± {error}"
            cells["same top token"] = f"{100 * figures[0].top1:.1f} %"
        if (memory := uses.memory.get(it.name)) is not None:
            cells["GPU memory"] = bytes_text(memory.total)
            cells["fits on"] = "–" if memory.card is None else memory_text(memory.card)
        if (pace := uses.paces.get(it.name)) is not None and pace.token is not None:
            cells["tokens/s"] = f"{pace.token:.1f}"
        rows.append([cells.get(heading, "–") for heading in columns])
    yield markdown_rows(tuple(columns), tuple(columns.values()), rows)  # type: ignore[arg-type]  # kinds of columns
    yield " ".join(_legend(facts))
    if "spending" in facts.charts:
        said = "The bytes of each file by the role of its tensors, with their bits per weight"
        yield f"![{said}]({CHARTS['spending']})"


def _projectors(facts: Facts) -> Iterator[str]:
    """What the model sees or hears through."""
    files = [it for it in facts.parts if it.part == "mmproj"]
    if not files:
        return
    yield "### Projector"
    what = senses_of(files[0].plan.metadata)
    which = "this file" if len(files) == 1 else "one of these files"
    yield (
        f"For {what}, the model needs {which} beside it. llama.cpp takes it with `--mmproj`, or by itself with `-hf`; "
        "LM Studio finds it in the same folder. It comes on top of the memory that is said of the model."
    )
    yield _table_of_parts(facts, files)


def _draft_heads(facts: Facts) -> Iterator[str]:
    files = [it for it in facts.parts if it.part == "mtp"]
    if not files:
        return
    yield "### Draft head"
    yield (
        "The part of the model that guesses several tokens ahead, as a file of its own. Answers come faster where "
        "llama.cpp loads it as a draft model: `llama-server -m MODEL.gguf "
        f"--model-draft {facts.made[files[0].name].first} --spec-type draft-mtp`."
    )
    yield _table_of_parts(facts, files)


def _table_of_parts(facts: Facts, files: Sequence[Item]) -> str:
    rows = []
    for it in sorted(files, key=lambda it: (it.plan.nbytes, it.name)):
        name = facts.made[it.name].first
        rows.append(
            [f"[{escaped(name)}]({name})", bytes_text(it.plan.nbytes), f"{it.plan.bits_per_weight:.2f}"]
        )
    return markdown_rows(("file", "size", "bits per weight"), ("word", "number", "number"), rows)


def senses_of(metadata: Mapping[str, GGUFValue]) -> str:
    """What a projector with these metadata is for, in words."""
    known = {"clip.has_vision_encoder": "pictures", "clip.has_audio_encoder": "sound"}
    there = [word for key, word in known.items() if key in metadata and metadata[key].decode() is True]
    return " and ".join(there) or "what isn't text"


def _legend(facts: Facts) -> Iterator[str]:
    uses, measured = facts.uses, facts.measured
    if measured.files:
        yield (
            "KL divergence: how far the file's predictions are from those of the unquantized model, in nats, with its "
            "standard error; lower is better. Same top token: how often both hold the same token for the likeliest."
        )
    else:
        yield "Nothing was measured of these files."
    if uses.memory:
        yield (
            f"GPU memory: weights, KV cache and compute buffers, with all layers on the card, for "
            f"{tokens_text(uses.settings.context)} of context; it is computed, not measured. Fits on: the smallest "
            "usual card."
        )
    if uses.paces:
        yield f"Tokens/s: of answers, as measured on {escaped(uses.machine)}."


def _losses(facts: Facts) -> Iterator[str]:
    """What was measured, text by text."""
    measured = facts.measured
    if not measured.files:
        return
    yield "## What they lose"
    if "losses" in facts.charts:
        yield f"![Size against mean KL divergence of each file]({CHARTS['losses']})"
    texts = list(measured.chunks)
    headings = ["file", *(f"KL divergence, {escaped(text)}" for text in texts), "99th percentile"]
    headings += [f"perplexity, {escaped(text)}" for text in texts]
    rows = []
    for it in facts.ordered:
        if it.name in measured.files:
            whole, by_text = measured.files[it.name]
            rows.append(
                [
                    code(it.label),
                    *(loss_text(by_text[text].kld) for text in texts),
                    loss_text(whole.kld_99),
                    *(f"{by_text[text].perplexity:.3f}" for text in texts),
                ]
            )
    some = next(iter(measured.files.values()))[1]
    rows.append(
        ["unquantized", *("0" for _ in texts), "0", *(f"{some[text].reference:.3f}" for text in texts)]
    )
    yield markdown_rows(headings, ["word", *["number"] * (len(headings) - 1)], rows)  # type: ignore[list-item]
    counts = ", ".join(f"{escaped(text)} ({count} chunks)" for text, count in measured.chunks.items())
    yield (
        f"Measured on {counts} of {measured.n_ctx} tokens, by {escaped(measured.engine)}. The figures are those of "
        f"llama-perplexity --kl-divergence; they are in `measurements.json`.{_unseen(facts.job)}"
    )


def _unseen(job: Job) -> str:
    """Whether importance was computed on what is measured on, as far as that is known."""
    if not job.domains:
        return ""
    shared = {
        held.name: share
        for held in job.measured_on
        for domain in job.domains
        if (share := overlap(domain, held).share) >= OVERLAP
    }
    if not shared:
        return " The importance matrix was computed on other texts."
    named = " and ".join(f"{share:.0%} of the passages of {escaped(name)}" for name, share in shared.items())
    return f" The importance matrix was computed on {named}, too: these look better than they are."


def _running(facts: Facts) -> Iterator[str]:
    job = facts.job
    first = facts.ordered[-1]
    file = facts.made[first.name].first
    context = facts.uses.settings.context
    projector = next((facts.made[it.name].first for it in facts.parts if it.part == "mmproj"), None)
    lines = []
    if job.release.repo:
        parts = len(facts.made[first.name].sums)
        which = f"--include '{first.name}-*-of-{parts:05d}.gguf'" if parts > 1 else shlex.quote(file)
        if projector is not None:
            which += f" {'--include ' if parts > 1 else ''}{shlex.quote(projector)}"
        lines.append(f"hf download {job.release.repo} {which} --local-dir .")
    sees = "" if projector is None else f" --mmproj {shlex.quote(projector)}"
    lines.append(f"llama-server -m {shlex.quote(file)}{sees} -c {context}")
    if first.name in facts.modelfiles:
        name = job.name.lower()
        lines.append(f"ollama create {shlex.quote(name)} -f {shlex.quote(modelfile_path(first))}")
    yield "## How to run them"
    yield "```sh\n" + "\n".join(lines) + "\n```"
    said = []
    if any(len(made.sums) > 1 for made in facts.made.values()):
        said.append("A file that is split is loaded by the name of its first part.")
    said.append(f"`sha256sum -c --ignore-missing {SUMS}` checks what you downloaded.")
    if facts.modelfiles:
        said.append("`ollama/` has a Modelfile for each file that ollama can run.")
    yield " ".join(said)


def _made(facts: Facts) -> Iterator[str]:
    job = facts.job
    repo, commit = facts.origin
    model = f"hf://{repo}{f'@{commit}' if commit else ''}" if repo else "MODEL"
    yield "## How they were made"
    said = []
    place = f" at commit `{commit}`" if commit else ""
    said.append(f"* Source: {escaped(repo or job.name)}{place}, fingerprint `{fingerprint(job.model)}`.")
    said += [f"* {text}" for text in _matrix(facts)]
    options = {"mmproj": "the projector", "mtp": "the draft head"}
    others = " and ".join(
        f"{options[part]} with `--{part}`" for part in dict.fromkeys(it.part for it in facts.parts)
    )
    said.append(
        "* `recipes/` says which type each tensor gets, and why. `locks/` has every plan, tensor by tensor."
        + (f" `quantrecipe apply` makes {others}." if others else "")
    )
    yield "\n".join(said)
    texts = " (this needs the texts that `release.yaml` names)" if job.domains else ""
    yield f"All of it again{texts}, or the tensors of one file, checked against its lock:"
    one = facts.ordered[0]
    used = facts.own_matrices.get(one.name, facts.matrix if _uses(one) else None)
    matrix = "" if used is None else f" --imatrix {shlex.quote(used.path)}"
    read = "".join(f" {option}" for option in job.opening.options)
    lines = [
        f"pip install quantrecipe=={__version__}",
        f"quantrecipe release {shlex.quote(model)} release.yaml --to .{read}",
        f"quantrecipe apply {shlex.quote(recipe_path(one))} {shlex.quote(model)}{matrix}{read} \\",
        f"    --locked {shlex.quote(lock_path(one))} -o {shlex.quote(f'{one.name}.gguf')}",
    ]
    yield "```sh\n" + "\n".join(lines) + "\n```"


def _matrix(facts: Facts) -> Iterator[str]:
    """What importance the files were made with."""
    shared = facts.matrix
    without = [it.label for it in facts.ordered if not _uses(it)]
    but = f" These files use none: {', '.join(map(code, without))}." if without else ""
    if shared is not None:
        yield f"Importance matrix: {_link(facts, shared)}.{but}"
    elif facts.own_matrices:
        yield f"Importance matrices: each file has its own.{but}"
    else:
        yield "No importance matrix."
    for it in facts.ordered:
        if (own := facts.own_matrices.get(it.name)) is not None:
            yield f"That of {code(it.label)}: {_link(facts, own)}."


def _link(facts: Facts, matrix: MatrixMade) -> str:
    """The matrix, and the texts that it says it was computed on."""
    link = f"[{escaped(matrix.path)}]({matrix.path})"
    provenance = read_importance(facts.job.folder / matrix.path).provenance
    if provenance is None or not provenance.texts:
        return link
    named = (escaped(it.name) + (f" ({it.tokens:,} tokens)" if it.tokens else "") for it in provenance.texts)
    return f"{link}, computed on {', '.join(named)}"


def _uses(item: Item) -> bool:
    return any(a.importance for a in item.plan.assignments)
