"""The picture of an importance matrix, and what happens where it can't be drawn."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import dat_bytes, write_gguf_imatrix

from quantrecipe.cli import main
from quantrecipe.cli.imatrix.energy_picture import draw
from quantrecipe.errors import OutputError
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.statistics import statistics

DATA = Path(__file__).parents[2] / "data" / "imatrix"
Output = pytest.CaptureFixture[str]


def svg(path: Path, title: str = "m") -> ET.Element:
    return ET.fromstring(draw(statistics(read_importance(path)), title=title, kind="svg"))


def texts(picture: ET.Element) -> list[str]:
    return ["".join(element.itertext()) for element in picture.iter("{http://www.w3.org/2000/svg}text")]


def fields(picture: ET.Element) -> list[str]:
    """The colours of the fields, row by row."""
    mesh = next(element for element in picture.iter() if element.get("id") == "QuadMesh_1")
    styles = [element.get("style", "") for element in mesh]
    return [style.split("fill: ")[1].split(";")[0] for style in styles]


def test_a_field_for_each_layer_and_role() -> None:
    picture = svg(DATA / "imatrix.code.gguf", "imatrix.code.gguf")
    said = texts(picture)
    for label in ("attn_k, attn_q, attn_v", "ffn_down", "0", "3", "activation energy, imatrix.code.gguf"):
        assert label in said
    colours = fields(picture)
    assert len(colours) == 4 * 4
    # ffn_down of layer 0 has the most energy, attn_output of layer 0 the least: the ends of the scale.
    assert (colours[2 * 4], colours[1 * 4]) == ("#fde725", "#440154")


def test_what_is_not_there_is_grey(tmp_path: Path) -> None:
    row = (np.ones((1, 4), np.float32), [1])
    names = ["blk.0.a.weight", "blk.0.b.weight", "blk.1.b.weight", "output.weight"]
    colours = fields(svg(write_gguf_imatrix(tmp_path / "m.gguf", dict.fromkeys(names, row))))
    rows = [colours[start : start + 3] for start in (0, 3, 6)]
    assert [[colour == "#eeeeee" for colour in row] for row in rows] == [
        [False, True, True],
        [False, False, True],
        [True, True, False],
    ]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_bytes_every_time(kind: str) -> None:
    tensors = statistics(read_importance(DATA / "experts" / "a.gguf"))
    assert draw(tensors, title="a", kind=kind) == draw(tensors, title="a", kind=kind)


@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [1e-30, 1e-30], [3e38, 3e38], [1.0]], ids=["zeros", "tiny", "huge", "one"]
)
def test_odd_values(tmp_path: Path, values: list[float]) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat_bytes([("blk.0.a.weight", 1, values)]))
    assert len(fields(svg(path))) == 1


def test_names_are_text(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    names = ["blk.999999999.$x^2$.weight", "blk.7.\x1b重み<b>.weight", "blk.0." + "long" * 50 + ".weight"]
    path.write_bytes(dat_bytes([(name, 1, [1, 2]) for name in names]))
    said = " ".join(texts(svg(path, "$m$")))
    assert "$x^2$" in said
    assert "\\x1b" in said
    assert "longlong…onglong" in said
    draw(statistics(read_importance(path)), title="$m$", kind="png")


class TestCommand:
    def test_writes_the_picture_beside_the_table(self, tmp_path: Path, capsys: Output) -> None:
        out = tmp_path / "m.PNG"
        assert main(["imatrix", "show", str(DATA / "imatrix.code.gguf"), "--picture", str(out)]) == 0
        assert out.read_bytes().startswith(b"\x89PNG")
        assert f"wrote {out}" in "".join(capsys.readouterr().out.splitlines())

    def test_existing_files_are_kept_unless_forced(self, tmp_path: Path, capsys: Output) -> None:
        out = tmp_path / "m.svg"
        out.write_text("precious")
        args = ["imatrix", "show", str(DATA / "imatrix.code.gguf"), "--picture", str(out)]
        assert main(args) == 1
        assert "exists; say --force" in capsys.readouterr().err
        assert out.read_text() == "precious"
        assert main([*args, "--force"]) == 0
        assert out.read_text().startswith("<?xml")

    def test_other_kinds_of_files(self, tmp_path: Path, capsys: Output) -> None:
        args = ["imatrix", "show", str(DATA / "imatrix.code.gguf"), "--picture", str(tmp_path / "m.txt")]
        assert main(args) == 1
        assert "end it with .svg or .png" in capsys.readouterr().err

    def test_without_matplotlib(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(OutputError, match=r"need matplotlib; pip install matplotlib"):
            draw(statistics(read_importance(DATA / "imatrix.code.gguf")), title="m", kind="svg")
