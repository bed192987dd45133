"""quantrecipe eval, with llama.cpp's part played by a worker that invents figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.evaluated import REFERENCE, engine_folder, run, write_model
from support.terminal import show

from quantrecipe.cli import main
from quantrecipe.cli.eval.limits import LIMIT_NAMES
from quantrecipe.engine import libraries as libraries_module
from quantrecipe.evaluate import Text


def test_one_file_in_full(calls: list[dict[str, object]]) -> None:
    result = run(["q4.gguf", *REFERENCE])
    assert result.exit_code == 0, result.output
    assert "reference: bf16.gguf  code.txt (12 chunks), 3,060 positions, context 512" in result.output
    assert "32.00 bits per weight" in result.output
    for label in ("perplexity", "KL divergence, mean", "99.9 %", "top-1 agreement", "Δp"):
        assert label in result.output


def test_the_reference_is_run_once(calls: list[dict[str, object]]) -> None:
    run(["q4.gguf", *REFERENCE])
    run(["much-worse.gguf", *REFERENCE])
    assert [Path(str(call["model"])).name for call in calls] == ["bf16.gguf", "q4.gguf", "much-worse.gguf"]
    run(["q4.gguf", "--reference", "bf16.gguf", "--text", "prose.txt"])
    assert Path(str(calls[3]["model"])).name == "bf16.gguf"


def test_another_engine_gets_a_reference_of_its_own(calls: list[dict[str, object]], tmp_path: Path) -> None:
    """Engines round differently, by as much as Q8_0 loses."""
    run(["q4.gguf", *REFERENCE])
    same, other = (
        engine_folder(tmp_path / "same", b"libraries"),
        engine_folder(tmp_path / "other", b"other libraries"),
    )
    for engine in (same, other):
        run(["q4.gguf", *REFERENCE, "--engine", str(engine)])
    models = [Path(str(call["model"])).name for call in calls]
    assert models == ["bf16.gguf", "q4.gguf", "q4.gguf", "bf16.gguf", "q4.gguf"]
    libraries = [Path(str(call["library"])).parent.name for call in calls]
    assert libraries == ["engine", "engine", "same", "other", "other"]


def test_no_engine(
    calls: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each way stands on a line of its own, to be copied."""
    monkeypatch.delenv("QUANTRECIPE_ENGINE")
    monkeypatch.setattr(libraries_module, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--no-plugins", "eval", "q4.gguf", *REFERENCE]) == 1
    first, *ways = capsys.readouterr().err.splitlines()
    assert first == (
        "error: there is no llama.cpp to run models with; there are three ways to one (`quantrecipe help engine`):"
    )
    assert [way.split(" (")[0] for way in ways] == [
        *("  the llama.cpp that you have", "  a ready wheel", "  built from source"),
    ]
    assert calls == []


def test_a_damaged_cache_is_made_again(calls: list[dict[str, object]], tmp_path: Path) -> None:
    run(["q4.gguf", *REFERENCE])
    (kept,) = (tmp_path / "cache/references").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert run(["q4.gguf", *REFERENCE]).exit_code == 0
    assert len(calls) == 4


def test_several_files_and_texts(calls: list[dict[str, object]]) -> None:
    result = run(["q4.gguf", "much-worse.gguf", *REFERENCE, "--text", "prose.txt"])
    assert result.exit_code == 0, result.output
    heading, *lines = [line for line in result.output.splitlines() if line.startswith(("file", "q4", "much"))]
    assert re.split(r"  +", heading) == [
        *("file", "size", "bits/weight", "KL divergence", "against the first", "99th percentile"),
        *("same top-1 %", "perplexity"),
    ]
    assert re.split(r"  +", lines[1])[4] == "2.1 ×"
    by_text = [line.split()[:2] for line in result.output.splitlines() if line.startswith(("code", "prose"))]
    assert by_text == [
        [text, file] for text in ("code.txt", "prose.txt") for file in ("q4.gguf", "much-worse.gguf")
    ]


def test_no_file_and_no_figure_is_cut_at_80_columns(calls: list[dict[str, object]], tmp_path: Path) -> None:
    common = "release of the day/Qwen3-30B-A3B-Instruct-2507-quantrecipe-fitted-v3"
    Path(common).parent.mkdir()
    for name in ("Q4_K_M", "IQ4_XS", "UD-Q4_K_XL", "Q8_0", "BF16"):
        write_model(tmp_path / f"{common}-{name}-imatrix.gguf")
    files = sorted(Path(common).parent.iterdir())
    out = show(["eval", *files, *REFERENCE, "--text", "prose.txt"], width=80).out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "files in release of the day" in out
    rows = [
        line.split()[0]
        for line in out.splitlines()
        if " ± " in line and not line.startswith(("code", "prose"))
    ]
    assert rows == ["BF16", "IQ4_XS", "Q4_K_M", "Q8_0", "UD-Q4_K_XL"]


def test_files_of_one_name_are_told_apart(calls: list[dict[str, object]], tmp_path: Path) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        write_model(tmp_path / folder / "model.gguf")
    args = ["eval", "old/model.gguf", "new/model.gguf", *REFERENCE]
    piped = show(args, width=None).out.splitlines()
    assert [line.split()[0] for line in piped if " ± " in line] == ["old/model.gguf", "new/model.gguf"]
    narrow = show(args, width=80).out.splitlines()
    assert "file: */model.gguf; below is what stands for *" in narrow
    assert [line.split()[0] for line in narrow if " ± " in line] == ["old", "new"]


def test_json(calls: list[dict[str, object]]) -> None:
    result = run(["q4.gguf", "much-worse.gguf", *REFERENCE, "--json"])
    told = json.loads(result.output)
    first, second = told["files"]
    assert told["reference"]["texts"][0]["name"] == "code.txt"
    assert first["beside"] is None
    beside = second["beside"]
    assert beside["kld_mean"]["value"] == pytest.approx(len("much-worse.gguf") / len("q4.gguf") - 1)
    assert beside["kld_mean"]["low"] == pytest.approx(
        beside["kld_mean"]["high"]
    )  # the same at every position
    assert (beside["verdict"], beside["text_needed"]) == ("worse", None)
    assert (
        first["intervals"]["kld_mean"]["low"]
        < first["all"]["kld_mean"]
        < first["intervals"]["kld_mean"]["high"]
    )
    assert [part["first"] for part in first["intervals"]["by_context"]] == [257, 320, 384, 448]
    assert told["answers"] is None
    assert first["all"]["kld_mean"] == first["texts"]["code.txt"]["kld_mean"]
    assert first["bits_per_weight"] == 32


def test_limits(calls: list[dict[str, object]]) -> None:
    assert run(["q4.gguf", *REFERENCE, "--fail-above", "kld=0.1,ppl=1e6"]).exit_code == 0
    result = run(["q4.gguf", "much-worse.gguf", *REFERENCE, "--fail-above", "kld=0.010, top1-lost=0.01"])
    assert result.exit_code == 1
    assert "against the first" in result.output  # the table comes all the same
    problems = [line for line in result.output.splitlines() if line.startswith("error")]
    assert [problem.split(" is ")[0] for problem in problems] == [
        "error: q4.gguf: top1-lost",
        "error: much-worse.gguf: kld",
        "error: much-worse.gguf: top1-lost",
    ]
    assert problems[1].endswith("above 0.01")


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_every_figure_can_be_limited(calls: list[dict[str, object]], name: str) -> None:
    assert run(["q4.gguf", *REFERENCE, "--fail-above", f"{name}=-1"]).exit_code == 1
    assert run(["q4.gguf", *REFERENCE, "--fail-above", f"{name}=inf"]).exit_code == 0


@pytest.mark.parametrize("limits", ["klx=1", "kld", "kld=x", "kld=nan"])
def test_limits_that_are_none(calls: list[dict[str, object]], limits: str) -> None:
    result = run(["q4.gguf", *REFERENCE, "--fail-above", limits])
    assert result.exit_code == 2
    assert calls == []


def test_a_reference_of_one_s_own(calls: list[dict[str, object]]) -> None:
    assert run([*REFERENCE, "--save-reference", "mine.reference"]).exit_code == 0
    assert run([*REFERENCE, "--save-reference", "mine.reference"]).exit_code == 1
    assert run(["q4.gguf", "--reference", "mine.reference"]).exit_code == 0
    assert run(["q4.gguf", "--reference", "mine.reference", "--text", "code.txt"]).exit_code == 0
    other = run(["q4.gguf", "--reference", "mine.reference", "--text", "prose.txt"])
    assert "made with other texts: code.txt" in other.output
    assert [call["texts"] is None for call in calls] == [False, True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (REFERENCE, "Give a FILE"),
        (["q4.gguf", "--reference", "bf16.gguf"], "Say with --text"),
        (["q4.gguf", "--reference", "nothing.gguf", "--text", "code.txt"], "there is no such file"),
        (["q4.gguf", "--reference", "bf16.gguf", "--text", "nothing.txt"], "the text can't be read"),
        (["nothing.gguf", *REFERENCE], "nothing.gguf"),
        (["q4.gguf", "--reference", ".", "--text", "code.txt"], "is not a model, but a folder of GGUF files"),
        (["q4.gguf", *REFERENCE, "--imatrix", "none"], "--imatrix is for recipes"),
        (["q4.gguf", *REFERENCE, "--statistics", "grams"], "--statistics is for recipes"),
        (["q4.gguf", *REFERENCE, "--keep"], "--keep is for files that are made"),
        (["q4.gguf", *REFERENCE, "--answers", "a.md"], "--answers needs --prompts"),
        (
            ["q4.gguf", *REFERENCE, "--prompts", "code.txt", "--answers", "a.doc"],
            "end it with .md, .html or .json",
        ),
        (["q4.gguf", *REFERENCE, "--prompts", "nothing.txt"], "the prompts can't be read"),
        (["Q9_Z", *REFERENCE], "neither a recipe file nor the name of a shipped recipe"),
        (["Q4_0@nothing.gguf", *REFERENCE], "nothing.gguf: can't be read"),
        (["Q8_0", *REFERENCE, "--work-dir", "nowhere"], "the folder nowhere doesn't exist"),
        (["q4.gguf", *REFERENCE, "--plot", "x.jpg"], "end it with .svg or .png"),
    ],
)
def test_what_is_refused(calls: list[dict[str, object]], arguments: list[str], message: str) -> None:
    result = run(arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output.replace("\n", " ")
    assert all(call["texts"] is not None for call in calls)


def test_no_two_files_look_alike_in_the_picture(calls: list[dict[str, object]], tmp_path: Path) -> None:
    long = "Qwen3-30B-A3B-Instruct-2507-quantrecipe-fitted-version-3"
    for name in ("old/model", "new/model", f"{long}-Q4_K_M-imatrix", f"{long}-Q5_K_M-imatrix"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_model(tmp_path / f"{name}.gguf")
    files = [
        "old/model.gguf",
        "new/model.gguf",
        *(f"{long}-{kind}-imatrix.gguf" for kind in ("Q4_K_M", "Q5_K_M")),
    ]
    assert run([*files, *REFERENCE, "--plot", "a.svg"]).exit_code == 0
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(name in drawn for name in ("old/model", "new/model", "Q4_K_M-imatrix", "Q5_K_M-imatrix"))


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture(calls: list[dict[str, object]], tmp_path: Path, kind: str) -> None:
    files = ["q4.gguf", "much-worse.gguf"]
    assert run([*files, *REFERENCE, "--text", "prose.txt", "--plot", f"a.{kind}"]).exit_code == 0
    assert run([*files, *REFERENCE, "--text", "prose.txt", "--plot", f"b.{kind}"]).exit_code == 0
    data = (tmp_path / f"a.{kind}").read_bytes()
    assert data == (tmp_path / f"b.{kind}").read_bytes()
    if kind == "svg":
        for told in (b"much-worse", b"mean KL divergence", b"prose.txt", b"against bf16.gguf"):
            assert told in data
    before = len(calls)
    assert run([*files, *REFERENCE, "--plot", f"a.{kind}"]).exit_code == 1  # it exists
    assert len(calls) == before


def test_figures_are_shown_before_they_are_drawn(
    calls: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")

    def broken(*args: object, **more: object) -> bytes:
        raise ValueError("no such font")

    monkeypatch.setattr("quantrecipe.cli.eval.picture.draw", broken)
    result = run(["q4.gguf", *REFERENCE, "--plot", "a.png"])
    assert result.exit_code == 1
    assert "top-1 agreement" in result.output
    assert "the picture can't be drawn: ValueError: no such font" in " ".join(result.output.split())


class TestChats:
    ARGUMENTS = ("q4.gguf", "--reference", "bf16.gguf", "--text", "talk=chats.jsonl")

    @pytest.fixture(autouse=True)
    def chats(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        line = '{"messages": [{"role": "user", "content": "hi"}]}\n'
        (tmp_path / "chats.jsonl").write_text(line * 2, encoding="utf-8")

    def texts(self, calls: list[dict[str, object]]) -> list[tuple[str, bytes]]:
        asked: list[Text] = calls[0]["texts"]  # type: ignore[assignment]  # a list
        return [(text.name, text.data) for text in asked]

    def test_the_reference_s_template_writes_them(
        self, calls: list[dict[str, object]], tmp_path: Path
    ) -> None:
        write_model(tmp_path / "bf16.gguf", **{"tokenizer.chat_template": "<{{ messages[0].content }}>"})
        result = run(self.ARGUMENTS)
        assert result.exit_code == 0, result.output
        assert self.texts(calls) == [("talk", b"<hi>\n\n<hi>")]

    def test_a_model_without_a_template_is_an_error(self, calls: list[dict[str, object]]) -> None:
        refused = run(self.ARGUMENTS)
        assert refused.exit_code == 1
        assert "chats.jsonl:1: is a chat, and the model has no chat template" in " ".join(
            refused.output.split()
        )
        assert calls == []

    def test_they_are_read_as_they_are_if_one_insists(
        self, calls: list[dict[str, object]], tmp_path: Path
    ) -> None:
        assert run([*self.ARGUMENTS, "--raw"]).exit_code == 0
        assert self.texts(calls) == [("talk", (tmp_path / "chats.jsonl").read_bytes())]

    def test_with_a_saved_reference_the_first_file_has_the_template(
        self, calls: list[dict[str, object]], tmp_path: Path
    ) -> None:
        assert (
            run(
                ["--reference", "bf16.gguf", "--text", "code.txt", "--save-reference", "a.reference"]
            ).exit_code
            == 0
        )
        write_model(
            tmp_path / "q4.gguf", **{"tokenizer.chat_template": "{{ raise_exception('it was asked') }}"}
        )
        result = run(["q4.gguf", "--reference", "a.reference", "--text", "chats.jsonl"])
        assert "it was asked" in result.output


def test_a_folder_is_one_text(calls: list[dict[str, object]], tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name in ("b.py", "a.py"):
        (tmp_path / "src" / name).write_text(f"{name}\n", encoding="utf-8")
    (tmp_path / "src/old.txt").write_bytes("naïve".encode("latin-1"))
    result = run(["q4.gguf", "--reference", "bf16.gguf", "--text", "src:2"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "1 file wasn't read of src: old.txt (isn't text in UTF-8: byte 2 is 0xef)" in said
    assert "the weight 2 of src changes nothing here" in said
    asked: list[Text] = calls[0]["texts"]  # type: ignore[assignment]  # a list
    assert asked[0].data == b"a.py\n\n\nb.py\n"


class TestVerdicts:
    def test_each_file_beside_the_first(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        write_model(tmp_path / "q4x.gguf")
        out = " ".join(run(["q4.gguf", "q4x.gguf", "much-worse.gguf", *REFERENCE]).output.split())
        assert (
            "q4x.gguf against q4.gguf: don't go without q4.gguf; mean KL divergence +14.3 % (+14.3 to +14.3)"
            in out
        )
        assert "much-worse.gguf against q4.gguf: don't go without q4.gguf; mean KL divergence 2.1 ×" in out
        assert "size +0.0 %." in out

    @pytest.mark.parametrize("given", [["q4.gguf", "much-worse.gguf"], ["q4.gguf"]])
    def test_another_file_to_compare_with(self, calls: list[dict[str, object]], given: list[str]) -> None:
        told = json.loads(run([*given, *REFERENCE, "--against", "much-worse.gguf", "--json"]).output)
        assert [file["name"] for file in told["files"]] == ["much-worse.gguf", "q4.gguf"]
        assert told["files"][1]["beside"]["verdict"] == "better"

    def test_by_tokens_of_context(self, calls: list[dict[str, object]]) -> None:
        lines = run(["q4.gguf", "much-worse.gguf", *REFERENCE, "--by-context"]).output.splitlines()
        rows = [
            line.split()[:4] for line in lines if " to " in line and ".gguf" in line and "against" not in line
        ]
        assert [row[0] for row in rows] == ["257", "257", "320", "320", "384", "384", "448", "448"]
        assert "context" not in run(["q4.gguf", *REFERENCE]).output.replace("context 512", "")

    def test_the_noise_is_told(self, calls: list[dict[str, object]]) -> None:
        assert (
            "the engine's noise wasn't measured" in run(["q4.gguf", *REFERENCE]).output
        )  # by what stands in for it
        assert calls[0]["settings"].noise_chunks == 8  # type: ignore[attr-defined]  # Settings
