"""The page: it says what the plan or the file says, is valid HTML, and asks nothing of anybody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.pages import Page, read_page

from quantrecipe.cli import main
from quantrecipe.evaluate import Evaluation
from quantrecipe.gguf.header import read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity.file import write_sensitivity
from quantrecipe.sensitivity.prior import estimate

pytest.importorskip("matplotlib")

DATA = Path(__file__).parents[2] / "data"
EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny-code"
LONG = "a folder of sixty characters, as people make them, with blanks"
HOSTILE = "<script>alert(1)</script>\"&'<b>"

RECIPE = f"""\
quantrecipe: 1
name: mine
default: Q4_K
rules:
  - tensors: blk.*.ffn_down
    layers: last 1
    type: Q6_K
    why: |
      it needs {HOSTILE} more
  - tensors: not_there
    type: Q8_0
    optional: true
"""


@pytest.fixture(scope="module", autouse=True)
def few_mixes() -> Iterator[None]:
    """Three of llama-quantize's mixes stand for all of them: a test would wait longest for those."""
    names = ("llama.cpp/Q2_K", "llama.cpp/Q4_K_M", "llama.cpp/Q4_K", "llama.cpp/COPY")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantrecipe.cli.report.estimates.shipped_recipes", lambda registry: names)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a recipe, a file made of them, and one of another program's."""
    path = tmp_path_factory.mktemp("report")
    metadata = llama_metadata() | {"general.name": GGUFValue.of(ValueType.STRING, HOSTILE)}
    write_gguf(path / "model.gguf", llama_tensors(layers=2), metadata)
    (path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    (path / LONG).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["apply", "mine.yaml", "model.gguf", "-o", f"{LONG}/made.gguf"]) == 0
        assert main(["apply", "Q5_K_M", "model.gguf", "-o", "other.gguf", "--no-provenance"]) == 0
    return path


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def written(*words: str, out: str = "page.html") -> Page:
    assert main(["report", *words, "-o", out, "--force"]) == 0
    return read_page(Path(out).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def planned(folder: Path) -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return written("mine.yaml", "model.gguf", "--base", "Q4_K_M", out="planned.html")


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    return make_plan(load_recipe(folder / "mine.yaml"), open_model(folder / "model.gguf"))


class TestNumbers:
    def test_the_map_is_the_plan(self, planned: Page, plan: Plan) -> None:
        table = planned.table("Type of each tensor")
        types = {a.tensor.name: a.type for a in plan.assignments}
        roles = table.headings[1:]
        assert roles[-1] == "all else"
        shown = {
            f"blk.{row[0]}.{role}.weight": cell
            for row in table.rows[1:]
            for role, cell in zip(roles[:-1], row[1:-1], strict=True)
        }
        assert shown == {
            name: type_ for name, type_ in types.items() if name.startswith("blk.") and "norm" not in name
        }
        assert {row[-1] for row in table.rows[1:]} == {"F32"}
        assert shown["blk.1.ffn_down.weight"] == "Q6_K"

    def test_what_is_outside_the_layers_is_there(self, planned: Page, plan: Plan) -> None:
        table = planned.table("Tensors outside the layers")
        outside = {a.tensor.role: a.type for a in plan.assignments if a.tensor.layer is None}
        assert dict(zip(table.column("tensor"), table.column("type"), strict=True)) == outside

    def test_counts_add_up(self, planned: Page, plan: Plan) -> None:
        for caption, heading in (
            ("The types", "tensors"),
            ("Bytes by role", "tensors"),
            ("What decided", "count"),
        ):
            assert sum(map(int, planned.table(caption).column(heading))) == len(plan.assignments), caption
        assert f"{plan.nbytes:,} bytes" in planned.text
        assert f"{plan.bits_per_weight:.3f}" in planned.text

    def test_rules_stand_beside_what_they_decided(self, planned: Page) -> None:
        table = planned.table("What decided")
        row = next(row for row in table.rows if row[0] == "mine.yaml:5")
        assert row[1] == "blk.*.ffn_down, layers last 1 → Q6_K"
        assert row[2:5] == ["Q6_K", "1", "1"]
        assert row[-1] == f"it needs {HOSTILE} more"
        idle = planned.table("Rules that decide nothing")
        assert [row[1] for row in idle.rows[1:]] == ["not_there → Q8_0"]

    def test_losses_are_those_of_the_optimiser(self, planned: Page, plan: Plan) -> None:
        known = estimate(plan.model, load_registry())
        total = sum(known.cost(a.tensor.name, a.type) or 0.0 for a in plan.assignments if a.type != "F32")
        table = planned.table("Mixes of this model")
        rows = {row[0]: row for row in table.rows[1:]}
        assert float(rows["mine"][3]) == pytest.approx(total, rel=0.01)
        assert rows.keys() == {"mine", "Q4_K_M", "Q2_K"} | {"Q4_K_M"}  # second names and floats are left out
        cells = planned.table("Expected loss of each tensor")
        unit = 1e-3 if "thousandths" in cells.caption else 1e-6
        place = cells.headings.index("ffn_down")
        expected = known.cost("blk.1.ffn_down.weight", "Q6_K")
        assert expected is not None
        assert float(cells.rows[2][place]) * unit == pytest.approx(expected, rel=0.06)

    def test_what_differs_from_the_base(self, planned: Page) -> None:
        table = planned.table("What changes: violet")
        base = make_plan(load_recipe("Q4_K_M"), open_model("model.gguf"))
        before = {a.tensor.name: a.type for a in base.assignments}
        place = table.headings.index("attn_v")
        shown = [row[place] for row in table.rows[1:]]
        was = [before[f"blk.{layer}.attn_v.weight"] for layer in (0, 1)]
        assert shown == [f"{type_} → Q4_K" if type_ != "Q4_K" else "Q4_K" for type_ in was]
        assert "from" in planned.text.lower()


PAGES: dict[str, list[str]] = {
    "a plan": ["mine.yaml", "model.gguf"],
    "a file of ours": [f"{LONG}/made.gguf"],
    "a file of another program": ["other.gguf"],
    "two files": ["other.gguf", f"{LONG}/made.gguf"],
    "two recipes": ["Q4_K_M", "mine.yaml", "model.gguf"],
    "a file and a recipe": ["other.gguf", "--base", "mine.yaml"],
    "memory": ["mine.yaml", "model.gguf", "--vram", "1GiB", "--context", "512"],
}


@pytest.mark.parametrize("words", PAGES.values(), ids=PAGES.keys())
def test_pages_are_valid_and_of_one_piece(words: list[str]) -> None:
    page = written(*words)
    assert page.problems == []
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert {*page.links} == {f"#{name}" for name in page.ids if f"{name}-title" in page.ids}
    assert all(table.caption for table in page.tables)
    assert all(scope in ("col", "row") for table in page.tables for scope in table.scopes)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & {*page.tags}
    addresses = [
        value for _, name, value in page.attributes if name in ("src", "href", "xlink:href", "action")
    ]
    assert all(str(value).startswith("#") for value in addresses)
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and name == "content")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert not re.search(r"@import|url\((?!#)", Path("page.html").read_text(encoding="utf-8"))
    regions = [value for _, name, value in page.attributes if name == "tabindex"]
    assert len(regions) == len(page.tables)  # each can be scrolled by the keyboard


def test_texts_from_files_are_text(planned: Page) -> None:
    assert HOSTILE in planned.text
    assert "script" not in planned.tags
    # The model's name, here and in the provenance, a reason, and the recipe's text.
    assert planned.text.count("<script>alert(1)</script>") == 4


def test_hostile_tensors_are_text() -> None:
    tensors = {
        f"blk.0.{HOSTILE}.weight": np.ones((64, 256), np.float32),
        f"{HOSTILE}\x1b[31m.weight": np.ones((4, 256), np.float32),
        **llama_tensors(layers=1),
    }
    write_gguf(Path("hostile.gguf"), tensors, llama_metadata(block_count=1), type_="F16")
    page = written("hostile.gguf")
    assert page.problems == []
    assert HOSTILE in page.table("Type of each tensor").headings
    assert f"{HOSTILE}\\x1b[31m" in page.text
    assert not {"script", "b"} & {*page.tags}


def test_the_same_page_has_the_same_bytes() -> None:
    written("mine.yaml", "model.gguf", out="one.html")
    written("mine.yaml", "model.gguf", out="two.html")
    assert Path("one.html").read_bytes() == Path("two.html").read_bytes()


class TestFiles:
    def test_a_file_of_ours_says_its_recipe(self) -> None:
        page = written(f"{LONG}/made.gguf")
        assert "The recipe that the file has in it" in page.text
        row = next(row for row in page.table("What decided").rows if row[2] == "Q6_K")
        assert row[1:5] == ["blk.*.ffn_down, layers last 1 → Q6_K", "Q6_K", "1", "1"]
        assert len(page.table("Hashes of the data").rows) == 1 + len(open_model(f"{LONG}/made.gguf").tensors)

    def test_of_another_file_a_recipe_is_inferred(self) -> None:
        page = written("other.gguf")
        assert "was inferred from them" in page.text
        assert "llama.cpp/Q5_K_M" in page.text
        assert "No hashes of its data are recorded" in page.text
        assert page.table("Mixes of this model").column("mix") == ["other.gguf", "Q2_K", "Q4_K_M"]

    def test_what_another_program_copied_along_is_not_believed(self) -> None:
        """llama-quantize leaves our records in a file of other types."""
        made, other = (read_header(name) for name in (f"{LONG}/made.gguf", "other.gguf"))
        metadata = {
            **other.metadata,
            **{key: it for key, it in made.metadata.items() if key.startswith("quantrecipe.")},
        }
        header = encode_header(metadata, other.tensors, other.alignment)
        data = Path("other.gguf").read_bytes()[other.data_start :]
        Path("copied.gguf").write_bytes(header + data)
        page = written("copied.gguf")
        assert "aren't those of the recorded recipe" in page.text
        assert "was inferred from them" in page.text
        assert not [it for it in page.tables if it.caption.startswith("Hashes")]
        assert "quantrecipe.plan.digest" not in page.text

    def test_a_file_with_pruned_layers(self) -> None:
        Path("pruned.yaml").write_text("quantrecipe: 1\nextends: mine.yaml\nprune: 0\n", encoding="utf-8")
        tensors = llama_tensors(layers=3)
        write_gguf(Path("three.gguf"), tensors, llama_metadata(block_count=3))
        assert main(["apply", "pruned.yaml", "three.gguf", "-o", "pruned.gguf", "--force"]) == 0
        page = written("pruned.gguf")
        assert "layers were pruned" in page.text
        assert len(page.table("Type of each tensor").rows) == 1 + 2
        page = written("pruned.yaml", "three.gguf", "--base", "mine.yaml")
        changes = page.table("What changes: violet")
        assert set(changes.rows[3][1:]) == {"Q4_K (gone)", "Q6_K (gone)", "F32 (gone)"}

    def test_a_model_with_one_layer(self) -> None:
        write_gguf(Path("one.gguf"), llama_tensors(layers=1), llama_metadata(block_count=1), type_="F16")
        assert len(written("one.gguf").table("Type of each tensor").rows) == 2

    def test_importance_is_told_of(self) -> None:
        page = written("Q4_K_M", str(EXAMPLE), "--imatrix", str(DATA / "imatrix" / "imatrix.code.gguf"))
        assert "covers 28 of 29 tensors" in page.text


def evaluation(name: str, nbytes: int, bits: float, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys((it.name for it in fields(Evaluation)), 0.5)
    every = {**figures, "positions": 9, "kld_mean": 0.0125, "kld_mean_error": 0.0005}
    interval = {"value": 0.0125, "low": 0.0115, "high": 0.0135}
    sure = dict.fromkeys(["perplexity", "kld_mean", "kld_99", "kld_999", "top1"], interval)
    places = [{"first": first, "last": first + 7, "kld_mean": interval} for first in (8, 16)]
    return {
        "file": name,
        "name": name,
        "recipe": None,
        "imatrix": None,
        "nbytes": nbytes,
        "bits_per_weight": bits,
        "all": every,
        "texts": {HOSTILE: every, "prose": every},
        "intervals": {**sure, "by_text": {HOSTILE: interval, "prose": interval}, "by_context": places},
        "beside": None,
        **more,
    }


def write_evaluations(*files: dict[str, Any]) -> None:
    texts = [{"name": name, "digest": "0" * 32, "chunks": 2} for name in (HOSTILE, "prose")]
    reference = {"model": "bf16.gguf", "key": "k", "n_ctx": 16, "texts": texts, "positions": 9, "noise": None}
    document = {"reference": reference, "files": files, "answers": None, "questions": None}
    Path("eval.json").write_text(json.dumps(document), encoding="utf-8")


class TestEvaluations:
    def sized(self, path: str) -> tuple[int, float]:
        model = open_model(path)
        data = sum(model.sources[tensor.name].nbytes for tensor in model.tensors)
        return Path(path).stat().st_size, round(8 * data / sum(tensor.size for tensor in model.tensors), 4)

    def test_they_are_shown(self) -> None:
        write_evaluations(
            evaluation("made.gguf", *self.sized(f"{LONG}/made.gguf")),
            evaluation("other.gguf", *self.sized("other.gguf")),
        )
        page = written(f"{LONG}/made.gguf", "--eval", "eval.json")
        assert page.problems == []
        assert "0.0125" in page.table("All figures of made.gguf").rows[4][1]
        assert [row[0] for row in page.table("Quantiles").rows[1:]] == ["made.gguf", "other.gguf"]
        assert [row[0] for row in page.table("By tokens of context").rows[1:]] == ["8 to 15"] * 2 + [
            "16 to 23"
        ] * 2
        assert HOSTILE in page.text
        assert page.tags.count("svg") == 2 + 3
        mixes = page.table("Mixes of this model")
        measured = dict(zip(mixes.column("mix"), mixes.column("measured loss"), strict=True))
        assert measured["made.gguf"] == measured["other.gguf"] == "0.0125 ± 0.0005"
        assert measured["Q2_K"] == ""

    def test_verdicts_are_beside_the_first_file_of_the_run(self) -> None:
        none = {key: {"value": 0.5} for key in ("kld_mean", "kld_99", "kld_999", "perplexity", "top1")}
        beside = {**none, "verdict": "unknown", "text_needed": None}
        write_evaluations(
            evaluation("other.gguf", *self.sized("other.gguf")),
            evaluation("made.gguf", *self.sized(f"{LONG}/made.gguf"), beside=beside),
        )
        page = written(f"{LONG}/made.gguf", "--eval", "eval.json")
        assert "made.gguf against other.gguf: can't be told apart" in page.text
        assert [row[0] for row in page.table("Quantiles").rows[1:]] == ["made.gguf", "other.gguf"]

    def test_files_of_several_runs_are_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        size = self.sized("other.gguf")
        strange = evaluation("b.gguf", *size)
        strange["texts"] = {"prose": strange["all"]}
        write_evaluations(evaluation("other.gguf", *size), strange)
        assert main(["report", "other.gguf", "-o", "no.html", "--eval", "eval.json"]) == 1
        assert "its files aren't of the same texts" in " ".join(capsys.readouterr().err.split())

    def test_of_two_files_of_one_size_it_is_the_one_of_this_name(self) -> None:
        size = self.sized("other.gguf")
        files = [evaluation("twin.gguf", *size), evaluation("elsewhere/other.gguf", *size)]
        write_evaluations(*files)
        page = written("other.gguf", "--eval", "eval.json")
        assert page.table("All figures of elsewhere/other.gguf").rows

    def test_another_file_s_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        nbytes, bits = self.sized(f"{LONG}/made.gguf")
        write_evaluations(evaluation("other.gguf", nbytes + 32, bits))  # as many bits, and not the same file
        assert main(["report", f"{LONG}/made.gguf", "-o", "no.html", "--eval", "eval.json"]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "eval.json: evaluates other.gguf, and no file of" in said
        assert "evaluate this file, too" in said
        page = written("mine.yaml", "model.gguf", "--eval", "eval.json")  # a plan has no file yet
        assert "isn't among the files that were evaluated" in page.text

    def test_another_model_s_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        write_evaluations(evaluation("big.gguf", 2**33, 4.5))
        assert main(["report", "other.gguf", "-o", "no.html", "--eval", "eval.json"]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "evaluates big.gguf, which has some 1.53e+10 weights, and this model has" in said

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "is no evaluation: is not valid JSON"),
            ("[]", "is no evaluation: is not a JSON object"),
            ('{"reference": 3, "files": []}', "is no evaluation: reference: expected `object`"),
            (None, "can't be read: No such file"),
        ],
    )
    def test_what_is_none_is_refused(
        self, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("eval.json").unlink(missing_ok=True)
        if text is not None:
            Path("eval.json").write_text(text, encoding="utf-8")
        assert main(["report", "other.gguf", "-o", "no.html", "--eval", "eval.json"]) == 1
        assert f"eval.json: {said}" in " ".join(capsys.readouterr().err.split())


def test_a_sensitivity_file_takes_the_place_of_typical_values() -> None:
    found = estimate(open_model("model.gguf"), load_registry())
    known = found.tensors["blk.0.attn_v.weight"]
    tensors = {**found.tensors, known.name: replace(known, alpha=7.0)}
    write_sensitivity(replace(found, tensors=tensors), Path("s.jsonl"))
    page = written("mine.yaml", "model.gguf", "--sensitivity", "s.jsonl")
    assert "by the sensitivity file" in page.text
    assert "nobody measured" not in page.text
    table = page.table("Expected loss of each tensor, in thousandths")
    expected = 7.0 * known.losses["Q4_K"].error
    assert float(table.rows[1][table.headings.index("attn_v")]) / 1000 == pytest.approx(expected, rel=0.06)


WRONG: dict[str, tuple[list[str], int, str]] = {
    "the page exists": (["other.gguf", "-o", "model.gguf.html"], 1, "model.gguf.html exists"),
    "a name of something else": (["other.gguf", "-o", "page.pdf"], 1, "end it with .html"),
    "no folder": (["other.gguf", "-o", "nowhere/p.html"], 1, "the folder nowhere doesn't exist"),
    "a recipe alone": (["mine.yaml"], 2, "name the model behind it"),
    "a shipped recipe alone": (["Q4_K_M"], 2, "Q4_K_M is a recipe: name the model behind it"),
    "two recipes": (["Q4_K_M", "mine.yaml"], 2, "mine.yaml is a recipe: name the model behind it"),
    "nothing": (["nothing"], 1, "nothing: there is no such file or folder"),
    "a matrix": ([str(DATA / "imatrix" / "imatrix.code.gguf")], 1, "importance matrix"),
    "a file that is quantized": (["Q4_K_M", "other.gguf"], 1, "say --allow-requantize"),
    "the model first": (["model.gguf", "mine.yaml"], 2, "recipes stand first"),
    "three files": (["a.gguf", "b.gguf", "c.gguf"], 2, "give one file, two files, or one or two recipes"),
    "shapes alone": (["shapes/qwen3-0.6b"], 1, "isn't quantized; name the recipe"),
    "two bases": (["Q4_K_M", "mine.yaml", "model.gguf", "--base", "Q8_0"], 2, "leave the other one out"),
    "two files and a base": (["other.gguf", "model.gguf", "--base", "Q8_0"], 2, "leave the other one out"),
    "limits of a file": (["other.gguf", "--vram", "8GiB"], 2, "--vram is for a recipe and a model"),
    "files of two models": (["stranger.gguf", "other.gguf"], 1, "has no tensor in common with stranger.gguf"),
    "losses of another model": (
        ["other.gguf", "--sensitivity", "foreign.jsonl"],
        1,
        "weights, and was measured with",
    ),
}


@pytest.mark.parametrize(("words", "status", "said"), WRONG.values(), ids=WRONG.keys())
def test_says_what_is_wrong(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.gguf.html").write_text("kept", encoding="utf-8")
    write_gguf(Path("stranger.gguf"), {"strange.weight": np.ones((4, 256), np.float32)})
    write_sensitivity(estimate(open_model(EXAMPLE), load_registry()), Path("foreign.jsonl"))
    capsys.readouterr()
    output = [] if "-o" in words else ["-o", "no.html"]
    assert main(["report", *words, *output]) == status
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("no.html").exists()
    assert Path("model.gguf.html").read_text(encoding="utf-8") == "kept"


def test_a_model_is_never_replaced_by_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.html").write_bytes(Path("model.gguf").read_bytes())
    assert main(["report", "not-there.gguf", "-o", "model.html", "--force"]) == 1
    assert "model.html is a model or a matrix" in " ".join(capsys.readouterr().err.split())


def test_without_matplotlib_it_says_so_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quantrecipe.cli.pictures.figure.find_spec", lambda name: None)
    assert main(["report", "not-there.gguf", "-o", "no.html"]) == 1
    assert "pictures need matplotlib; pip install matplotlib" in " ".join(capsys.readouterr().err.split())
