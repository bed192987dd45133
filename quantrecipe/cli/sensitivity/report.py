"""A report on a sensitivity: one page of HTML with everything in it, or a folder of pictures."""

from __future__ import annotations

import html
from pathlib import Path

from quantrecipe.cli.errors import printable
from quantrecipe.cli.output_files import check_folder
from quantrecipe.cli.pictures.figure import check_pictures
from quantrecipe.cli.pictures.inline import inline_svg
from quantrecipe.cli.sensitivity.pictures import draw_costs, draw_front, draw_losses
from quantrecipe.cli.sensitivity.summary import roles_table, sentences
from quantrecipe.cli.tables import Kind, Table
from quantrecipe.cli.tables.markup import html_table
from quantrecipe.errors import OutputError
from quantrecipe.sensitivity import Sensitivity
from quantrecipe.whole_file import whole_file

__all__ = ["check_report", "write_report"]

_PICTURES = {"costs": draw_costs, "losses": draw_losses, "front": draw_front}
_CAPTIONS = {
    "costs": "Which tensors the output depends on: what this type costs each of them.",
    "losses": "What each type loses: dots are types, lines join those that no other beats at their size.",
    "front": "What each size allows. A mix on the line costs least for its bytes, as far as costs add up.",
}
_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.4rem } figure { margin: 2rem 0 } figure svg { max-width: 100%; height: auto }
svg * { stroke-linejoin: round; stroke-linecap: butt }
figcaption, dt { color: #555 } table { border-collapse: collapse; font-size: 13px } th { text-align: left }
th, td { padding: .1rem .6rem; border-bottom: 1px solid #ddd } .number { text-align: right }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dd { margin: 0; overflow-wrap: anywhere }
"""


def check_report(path: Path, *, force: bool) -> None:
    """OutputError, before any work, where the report couldn't be written or matplotlib isn't there."""
    if path.exists() and not force and (_is_page(path) or not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path} exists", "say --force to replace it, or name another")
    check_folder(path.parent if _is_page(path) else _existing(path), option="--report OUT")
    check_pictures()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there: what is missing is made."""
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def write_report(found: Sensitivity, path: Path, *, force: bool) -> list[Path]:
    """Write it; the paths that were written."""
    try:
        if _is_page(path):
            _write(path, _page(found).encode())
            return [path]
        path.mkdir(parents=True, exist_ok=True)
        written = []
        for name, draw in _PICTURES.items():
            for kind in ("png", "svg"):
                target = path / f"{name}.{kind}"
                _write(target, draw(found, kind))
                written.append(target)
        return written
    except OSError as error:
        raise OutputError(
            f"{path} can't be written: {error.strerror or error}", "name another place"
        ) from error


def _write(path: Path, data: bytes) -> None:
    with whole_file(path) as file:
        file.write(data)


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm")


def _page(found: Sensitivity) -> str:
    source = found.provenance
    facts = {
        "architecture": f"{source.arch}, {source.n_layers} layers",
        "losses": f"{source.analysis}, {source.sampling}",
        "weights of tensors": source.weighing,
        "importance": source.importance or "none",
        "text": source.text or "none",
        "engine": source.engine or "none",
    }
    title = f"Sensitivity of {printable(source.model)}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1><dl>",
        *(f"<dt>{name}</dt><dd>{html.escape(printable(text))}</dd>" for name, text in facts.items()),
        "</dl>",
    ]
    for name, draw in _PICTURES.items():
        svg = inline_svg(draw(found, "svg"), name, _CAPTIONS[name])
        parts.append(f"<figure>{svg}<figcaption>{_CAPTIONS[name]}</figcaption></figure>")
    parts.append(html_table(roles_table(found)))
    parts += [f"<p>{html.escape(str(said.text))}</p>" for said in sentences(found)]
    if probes := [probe for probe in found.probes if probe.used]:
        rows = [(f"{it.kld:.6f}", f"{it.standard_error:.6f}", it.what) for it in probes]
        columns: dict[str, Kind] = {"KL divergence": "number", "standard error": "number", "probe": "text"}
        parts += ["<h2>Probes</h2>", html_table(Table(columns, rows))]
    parts.append("</body></html>\n")
    return "\n".join(parts)
