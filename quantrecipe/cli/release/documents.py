"""What stands beside the files of a release: recipes, locks, charts, figures, Modelfiles, checksums, and the card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.output_files import write_file
from quantrecipe.cli.release.card import Facts, card_body, lock_path, modelfile_path, recipe_path
from quantrecipe.cli.release.charts import CHARTS, draw_losses, draw_spending
from quantrecipe.cli.release.front_matter import front_matter, origin_of
from quantrecipe.cli.release.job import Item, Job, Made, MatrixMade, Measured
from quantrecipe.cli.release.matrix import own_matrices
from quantrecipe.cli.release.modelfile import modelfile_text, why_not_ollama
from quantrecipe.cli.release.uses import uses_of
from quantrecipe.errors import OutputError
from quantrecipe.plain_data import plain
from quantrecipe.plan.review.lock import make_lock
from quantrecipe.plan.review.lock_file import lock_text
from quantrecipe.release.checksums import SUMS, files_below
from quantrecipe.release.kept_card import MergedCard, merge_card
from quantrecipe.sha256sums import hash_file, sums_text
from quantrecipe.wording import some_of

__all__ = ["CARD", "FIGURES", "RELEASE_FILE", "write_documents"]

_SHOWN = 3
"""Files that a message names."""

CARD, FIGURES, RELEASE_FILE = "README.md", "measurements.json", "release.yaml"


def write_documents(
    job: Job,
    items: Sequence[Item],
    made: Mapping[str, Made],
    matrix: MatrixMade | None,
    measured: Measured,
) -> MergedCard:
    """Write all of it, and return what became of the card. Texts that are as they were aren't written again."""
    texts = {RELEASE_FILE: job.release.text}
    for it in items:
        texts[recipe_path(it)] = it.recipe.text
        texts[lock_path(it)] = lock_text(make_lock(it.plan, job.registry))
    if measured.files:
        texts[FIGURES] = json.dumps(plain(measured), indent=2) + "\n"
    models = [it for it in items if it.part == "model"]
    uses = uses_of(job, models, measured)
    refused = {it.name: why for it in models if (why := why_not_ollama(it, made[it.name]))}
    for why in dict.fromkeys(refused.values()):
        names = some_of([f"{name}.gguf" for name, its in refused.items() if its == why], _SHOWN)
        job.say(f"no Modelfile for {names}: {why}")
    projector = next((made[it.name].first for it in items if it.part == "mmproj"), None)
    for it in models:
        if it.name in refused:
            continue
        texts[modelfile_path(it)] = modelfile_text(
            made[it.name].first, it.plan.written, projector, context=uses.settings.context
        )
    files = {path: text.encode() for path, text in texts.items()} | _charts(job, models, measured)
    for path, data in files.items():
        _write(job.folder / path, data)
    sums = {path: sha256 for it in made.values() for path, sha256 in it.sums.items()}
    sums |= {path: hash_file(job.folder / path) for path in files}
    own = own_matrices(job, items, matrix)
    sums |= {it.path: it.sha256 for it in [*([] if matrix is None else [matrix]), *own.values()]}
    _write(job.folder / SUMS, sums_text(sums).encode())
    origin = origin_of(job.release, job.model)
    facts = Facts(
        job=job,
        items=models,
        parts=[it for it in items if it.part != "model"],
        made=made,
        matrix=matrix,
        own_matrices=own,
        measured=measured,
        uses=uses,
        origin=origin,
        charts=[key for key, path in CHARTS.items() if path in files],
        modelfiles=[it.name for it in models if it.name not in refused],
    )
    _tell_left(job, {*sums, SUMS, CARD})
    front = front_matter(job.release, job.model, origin, imatrix=bool(matrix or own))
    return _write_card(job, front, card_body(facts))


def _charts(job: Job, items: Sequence[Item], measured: Measured) -> dict[str, bytes]:
    """The charts by path. Without matplotlib there are none, which is a warning."""
    if find_spec("matplotlib") is None:
        print_warning(
            job.ctx.err, "there are no charts, since matplotlib isn't installed", "pip install matplotlib"
        )
        return {}
    charts = {CHARTS["spending"]: draw_spending(items, model=job.name)}
    if measured.files:
        charts[CHARTS["losses"]] = draw_losses(items, measured, model=job.name)
    return charts


def _write_card(job: Job, front: str, body: str) -> MergedCard:
    path = job.folder / CARD
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"can't be read: {what}", "move it away", file=path) from error
    card = merge_card(old, front, body, force=job.force)
    _write(path, card.text.encode())
    return card


def _write(path: Path, data: bytes) -> None:
    """Write a file that is small, unless it is the same already."""
    try:
        if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"can't be written: {error.strerror or error}", file=path) from error
    write_file(path, len(data), [data], force=True)


def _tell_left(job: Job, ours: Iterable[str]) -> None:
    """Say what lies in the folder and isn't part of the release any more, or never was."""
    left = [path for path in files_below(job.folder) if path not in {*ours}]
    for path in left:
        job.say(
            f"{printable(path)} isn't part of the release, and won't be published; remove it if it is old"
        )
