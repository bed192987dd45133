"""quantrecipe eval, with llama.cpp's part played by a worker that invents figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.imatrix_files import with_provenance
from support.pages import read_page
from support.statistics import write_statistics
from support.terminal import show

from quantrecipe.cli import main
from quantrecipe.cli.app import app
from quantrecipe.cli.eval.limits import LIMIT_NAMES
from quantrecipe.core.cache import cache_folder
from quantrecipe.engine import Engine, find_engine
from quantrecipe.engine import libraries as libraries_module
from quantrecipe.engine.session import existing_gguf
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Positions, Text
from quantrecipe.evaluate import continuations as continuations_module
from quantrecipe.evaluate import prompts as prompts_module
from quantrecipe.evaluate import questions as questions_module
from quantrecipe.evaluate import requests as requests_module
from quantrecipe.evaluate.compact import compact
from quantrecipe.evaluate.prompts import Answers, Prompt
from quantrecipe.evaluate.reference import Reference, ScoredText, read_reference, write_reference
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.importance.provenance import Provenance
from quantrecipe.model.open_model import open_model
from quantrecipe.model.pairs import text as gguf_text

N_CTX, CHUNKS, SCORED, VOCABULARY = 512, 12, 255, 100


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, object]]:
    """What sessions were asked for."""
    asked: list[dict[str, object]] = []

    class FakeSession:
        """What a session would answer; the process that it would start isn't there."""

        opened: ClassVar[list[str]] = []

        def __init__(self, path: Path, *, engine: Engine | Path | None, **running: object) -> None:
            self.path, self.library = existing_gguf(path), find_engine(engine).library

        def __enter__(self) -> FakeSession:
            self.opened.append(self.path.name)
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def call(self, function: object, *arguments: Any, hear: object = None) -> object:
            facts = {"model": str(self.path), "library": self.library, "nbytes": self.path.stat().st_size}
            if function is requests_module.run_reference:
                texts, out, settings = arguments
                asked.append(facts | {"texts": texts, "settings": settings})
                _write_reference(out, self.path, settings.key, texts)
                return None
            if function is continuations_module._continued:
                asked.append(facts | {"texts": None, "places": arguments[1]})
                # From a token on that depends on the name, others than the reference's.
                same = 128 if "bf16" in self.path.name else 100 - 2 * len(self.path.name)
                return tuple((*range(same), *[9] * (128 - same)) for _ in arguments[1])
            if function is questions_module._asked:
                asked.append(facts | {"texts": None, "questions": arguments[0]})
                # The reference is right; other models are wrong in every third question, or all but every third.
                wrong = {"bf16.gguf": (), "q4.gguf": (0,)}.get(self.path.name, (0, 1))
                return ["B" if n % 3 not in wrong else "A" for n, _ in enumerate(arguments[0])]
            if function is prompts_module._answers:
                asked.append(facts | {"texts": None, "prompts": arguments})
                return _answers(self.path, *arguments)
            asked.append(facts | {"texts": None})
            rng = np.random.default_rng(0)
            kld = 0.001 * len(self.path.name)  # a longer name is a worse model
            count = sum(text.chunks for text in read_reference(arguments[0]).texts) * SCORED
            cost = rng.exponential(2, count)
            return Positions(
                cost=cost + kld,
                reference_cost=cost,
                divergence=kld * rng.exponential(1, count),
                agrees=(rng.random(count) < 0.9).astype(float),
            )

    monkeypatch.setattr(requests_module, "Session", FakeSession)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/kernels").symlink_to(cache_folder() / "kernels")  # compiled once, for all tests
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("QUANTRECIPE_ENGINE", str(_engine(tmp_path / "engine", b"libraries")))
    monkeypatch.chdir(tmp_path)
    for name in ("bf16.gguf", "q4.gguf", "much-worse.gguf"):
        _write_gguf(tmp_path / name)
    for name in ("code.txt", "prose.txt"):
        (tmp_path / name).write_text(f"some {name}", encoding="utf-8")
    return asked


def _engine(folder: Path, data: bytes) -> Path:
    """A folder that would have llama.cpp's libraries; nothing here loads them."""
    folder.mkdir()
    (folder / "libllama.so").write_bytes(data)
    return folder


def _write_gguf(path: Path, **metadata: str) -> None:
    entry = TensorEntry(name="token_embd.weight", shape=(4, 32), ggml_type=0, offset=0)
    values = {"general.architecture": "llama"} | metadata
    header = encode_header({key: gguf_text(value) for key, value in values.items()}, [entry])
    path.write_bytes(header + bytes(4 * 32 * 4))


def _write_reference(path: Path, model: Path, key: str, texts: Sequence[Text]) -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, VOCABULARY, (CHUNKS * len(texts), N_CTX)).astype(np.int32)
    logits = rng.standard_normal((len(tokens), SCORED, VOCABULARY)).astype(np.float32)
    reference = Reference(
        path=path,
        model=model.name,
        key=key,
        n_ctx=N_CTX,
        n_vocab=VOCABULARY,
        vocabulary="",
        tail=0.003,
        texts=tuple(ScoredText(name=text.name, digest=text.digest, chunks=CHUNKS) for text in texts),
        tokens=tokens,
    )
    write_reference(reference, [compact(some, tokens[0, -SCORED:]) for some in logits])


def _answers(
    path: Path,
    prompts: Sequence[Prompt],
    source: str,
    most: int,
    like: Answers | None,
    side_by_side: int | None,
) -> Answers:
    """Of each prompt its line; of a file whose name has an s, every other one followed by something else."""
    said = [
        (prompt.line, 90) if "s" in path.name and prompt.line % 2 else (prompt.line,) for prompt in prompts
    ]
    return Answers(
        prompts=tuple((prompt.line,) for prompt in prompts),
        n_vocab=VOCABULARY,
        vocabulary="",
        most=most,
        tokens=tuple(said),
        texts=tuple(" ".join(f"<b>{token}</b>" for token in its) for its in said),
    )


def run(arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(app, ["--no-plugins", "eval", *arguments])


REFERENCE = ["--reference", "bf16.gguf", "--text", "code.txt"]


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
    same, other = _engine(tmp_path / "same", b"libraries"), _engine(tmp_path / "other", b"other libraries")
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
        _write_gguf(tmp_path / f"{common}-{name}-imatrix.gguf")
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
        _write_gguf(tmp_path / folder / "model.gguf")
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
        _write_gguf(tmp_path / f"{name}.gguf")
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
        _write_gguf(tmp_path / "bf16.gguf", **{"tokenizer.chat_template": "<{{ messages[0].content }}>"})
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
        _write_gguf(
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
        _write_gguf(tmp_path / "q4x.gguf")
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


EXAMPLE = str(Path(__file__).parents[3] / "examples/tiny-code")
CODE, PROSE = (
    str(Path(__file__).parents[2] / f"data/imatrix/imatrix.{text}.gguf") for text in ("code", "prose")
)
OF_EXAMPLE = ["--reference", EXAMPLE, "--text", "code.txt"]


class TestRecipes:
    def test_the_matrix_of_another_model_is_refused_unless_somebody_insists(
        self, calls: list[dict[str, object]], tmp_path: Path
    ) -> None:
        stated = Provenance(fingerprint=f"v1:{'0' * 16}:{'0' * 32}")
        with_provenance(Path(CODE), stated, tmp_path / "other.gguf")
        arguments = ["Q4_0", *OF_EXAMPLE, "--imatrix", "other.gguf"]
        refused = run(arguments)
        assert refused.exit_code == 1
        assert "other.gguf: is the importance matrix of another model" in " ".join(refused.output.split())
        assert calls == []
        assert run([*arguments, "--imatrix-of-another-model"]).exit_code == 0

    def test_files_are_made_and_removed(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        result = run(["Q8_0", "llama.cpp/F16", *OF_EXAMPLE, "--json"])
        assert result.exit_code == 0, result.output
        assert (
            "making 3 files, 17.95 MiB, in the current folder; they are removed afterwards" in result.stderr
        )
        told = json.loads(result.stdout)["files"]
        assert [(it["name"], it["file"], it["recipe"]) for it in told] == [
            *(("Q8_0", None, "Q8_0"), ("llama.cpp/F16", None, "llama.cpp/F16")),
        ]
        # They were there, each of the size that was told, while they were run.
        assert [call["nbytes"] for call in calls[1:]] == [it["nbytes"] for it in told]
        assert [it["bits_per_weight"] for it in told] == pytest.approx([8.5083, 16.0065], abs=0.01)
        names = [Path(str(call["model"])).name for call in calls]
        assert names == ["tiny-code-unquantized.gguf", "tiny-code-Q8_0.gguf", "tiny-code-F16.gguf"]
        cached = [path for path in tmp_path.rglob("*") if path not in before]
        assert [path.parent.name for path in cached if path.is_file()] == ["references"]

    def test_the_reference_of_a_folder_is_kept(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        """Neither it nor the GGUF that it would take is made again, until prompts need that."""
        run(["Q8_0", *OF_EXAMPLE])
        assert "making 1 file, " in run(["Q8_0", *OF_EXAMPLE]).stderr
        assert [Path(str(call["model"])).name for call in calls[2:]] == ["tiny-code-Q8_0.gguf"]
        (tmp_path / "prompts.txt").write_text("Hi", encoding="utf-8")
        for count in (2, 1):
            result = run(["Q8_0", *OF_EXAMPLE, "--prompts", "prompts.txt"])
            assert result.exit_code == 0, result.output
            assert f"making {count} file" in result.stderr

    def test_a_file_of_a_gguf(self, calls: list[dict[str, object]]) -> None:
        result = run(["q4.gguf", "Q8_0", *REFERENCE])
        assert result.exit_code == 0, result.output
        assert "making 1 file, " in result.stderr
        assert "it is removed afterwards (--keep keeps it)" in result.stderr
        assert "Q8_0 against q4.gguf: " in result.output

    def test_kept_where_one_says(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        args = ["Q8_0", *REFERENCE, "--work-dir", "made", "--keep", "--json"]
        result = run(args)
        assert json.loads(result.stdout)["files"][0]["file"] == "made/bf16-Q8_0.gguf"
        assert [path.name for path in (tmp_path / "made").iterdir()] == ["bf16-Q8_0.gguf"]
        again = run(args)
        assert again.exit_code == 1
        assert "bf16-Q8_0.gguf" in again.output
        assert run([*args, "--force"]).exit_code == 0

    def test_nothing_is_left_of_a_failure(
        self, calls: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def fail(*arguments: object, **more: object) -> None:
            raise EvaluationError("stopped")

        monkeypatch.setattr("quantrecipe.cli.eval.run.evaluate_files", fail)
        before = set(tmp_path.iterdir())
        assert "stopped" in run(["Q8_0", *REFERENCE]).output
        assert set(tmp_path.iterdir()) == before

    def test_with_each_importance_matrix(self, calls: list[dict[str, object]]) -> None:
        result = run(["Q4_0", "Q8_0", *OF_EXAMPLE, *matrices("none", CODE, PROSE), "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["files"]
        assert [(it["name"], it["imatrix"]) for it in told] == [
            ("Q4_0@none", None),
            ("Q4_0@imatrix.code.gguf", CODE),
            ("Q4_0@imatrix.prose.gguf", PROSE),
            ("Q8_0", None),  # takes none, and is made once
        ]
        names = [Path(str(call["model"])).name for call in calls[1:]]
        assert len(set(names)) == 4

    def test_an_argument_s_own_matrix(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/imatrix.code.gguf").write_bytes(Path(PROSE).read_bytes())
        args = [f"Q4_0@{CODE}", "Q4_0@a/imatrix.code.gguf", "Q4_0@none", "Q4_0", f"Q8_0@{CODE}"]
        result = run([*args, *OF_EXAMPLE, *matrices(PROSE), "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["files"]
        assert [(it["name"], it["imatrix"]) for it in told] == [
            (f"Q4_0@{CODE}", CODE),  # the whole path, since another has the same name
            ("Q4_0@a/imatrix.code.gguf", "a/imatrix.code.gguf"),
            ("Q4_0@none", None),
            ("Q4_0", PROSE),
            (f"Q8_0@{CODE}", None),
        ]
        assert "no type of this recipe uses importance" in result.stderr
        names = [Path(str(call["model"])).name for call in calls[1:]]
        assert len(set(names)) == 5

    def test_a_recipe_s_own_matrix(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        """It counts where nothing else is said; `none` means none."""
        text = f"quantrecipe: 1\nname: mine\nextends: llama.cpp/Q4_0\nimportance: {{file: '{CODE}'}}\n"
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        args = ["mine.yaml", "mine.yaml@none", "Q4_0", f"Q4_0@{CODE}", "--work-dir", ".", "--keep"]
        result = run([*args, *OF_EXAMPLE, "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["files"]
        assert [it["imatrix"] for it in told] == [CODE, None, None, CODE]
        names = ("mine", "mine-none", "Q4_0", "Q4_0-imatrix.code")
        own, none, plain, given = (_data(tmp_path / f"tiny-code-{name}.gguf") for name in names)
        assert own == given
        assert none == plain
        assert own != none

    def test_a_recipe_with_an_encoder(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        """Both files have the same size; the one that statistics made has other bytes."""
        statistics = write_statistics(tmp_path / "grams", {"blk.0.ffn_down.weight": (768, (1000,))})
        text = "quantrecipe: 1\nname: mine\ndefault: Q4_0\nencoder: feedback\n"
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "plain.yaml").write_text(
            text.replace("encoder: feedback\n", "").replace("mine", "plain"), encoding="utf-8"
        )
        args = [
            "plain.yaml",
            "mine.yaml",
            "--statistics",
            str(statistics.folder),
            "--work-dir",
            ".",
            "--keep",
        ]
        result = run([*args, *OF_EXAMPLE, "--json"])
        assert result.exit_code == 0, result.output
        plain, mine = (read_tensors(tmp_path / f"tiny-code-{name}.gguf") for name in ("plain", "mine"))
        assert [name for name in plain if plain[name] != mine[name]] == ["blk.0.ffn_down.weight"]

    def test_an_encoder_without_statistics(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("quantrecipe: 1\ndefault: Q4_0\nencoder: feedback\n", "utf-8")
        result = run(["mine.yaml", *OF_EXAMPLE])
        assert result.exit_code == 1
        assert "give them with --statistics FOLDER" in " ".join(result.output.split())
        assert calls == []

    def test_a_recipe_that_can_t_be_planned(self, calls: list[dict[str, object]]) -> None:
        result = run(["IQ2_XS", *OF_EXAMPLE])
        assert result.exit_code == 1
        assert "needs an importance matrix" in result.output
        assert calls == []

    def test_a_saved_reference_can_t_be_quantized(self, calls: list[dict[str, object]]) -> None:
        run([*REFERENCE, "--save-reference", "mine.reference"])
        result = run(["Q8_0", "--reference", "mine.reference"])
        assert result.exit_code == 2
        assert "has only what a model said about texts" in " ".join(result.output.split())
        result = run(["q4.gguf", "--reference", "mine.reference", "--prompts", "code.txt"])
        assert "it is to answer the --prompts" in " ".join(result.output.split())


def read_tensors(path: Path) -> dict[str, bytes]:
    model, data = open_model(path), path.read_bytes()
    return {
        name: data[extent.offset : extent.offset + extent.nbytes]
        for name, source in model.sources.items()
        for extent in source.extents
    }


def _data(path: Path) -> bytes:
    """The tensors of a file, without its header."""
    return path.read_bytes()[-1_000_000:]


def matrices(*paths: str) -> list[str]:
    return [word for path in paths for word in ("--imatrix", path)]


class TestPrompts:
    @pytest.fixture
    def prompts(self, tmp_path: Path) -> list[str]:
        lines = [json.dumps({"prompt": f"<i>{number}</i> ```"}) for number in range(100)]
        (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return ["--prompts", "prompts.jsonl"]

    def test_the_table(self, calls: list[dict[str, object]], prompts: list[str]) -> None:
        result = run(["q4.gguf", "much-worse.gguf", *REFERENCE, *prompts])
        assert result.exit_code == 0, result.output
        assert "warning" not in result.output
        assert "100 prompts, answers of at most 128 tokens; with other batches, 0 % of the" in result.output
        rows = [
            re.split("  +", line)
            for line in result.output.splitlines()
            if " (0 to " in line or " (40 to " in line
        ]
        assert rows[0][:2] == ["q4.gguf", "0 (0 to 4)"]
        assert rows[1][:4] == ["much-worse.gguf", "50 (40 to 60)", "50 (40 to 60)", "1"]

    def test_json(self, calls: list[dict[str, object]], prompts: list[str]) -> None:
        args = ["q4.gguf", "much-worse.gguf", *REFERENCE, *prompts, "--answer-tokens", "7", "--json"]
        told = json.loads(run(args).output)["answers"]
        assert told["most_tokens"] == 7
        assert told["reference"]["ended"] == 100
        assert told["files"]["much-worse.gguf"]["differ"]["value"] == 0.5
        assert told["files"]["much-worse.gguf"]["first_difference"] == 1
        assert told["differ_between"]["q4.gguf"]["much-worse.gguf"]["value"] == 0.5
        assert told["differ_between"]["q4.gguf"].keys() == {"much-worse.gguf"}

    def test_the_reference_answers_first_and_once(
        self, calls: list[dict[str, object]], prompts: list[str]
    ) -> None:
        """A prompt may be too long for it, and a text takes hours."""
        for _ in range(2):
            run(["q4.gguf", *REFERENCE, *prompts])
        asked = [(Path(str(call["model"])).name, call.get("prompts") is not None) for call in calls]
        assert asked == [
            *(("bf16.gguf", True), ("bf16.gguf", True), ("bf16.gguf", False)),
            *(("q4.gguf", False), ("q4.gguf", True)),
            *(("q4.gguf", False), ("q4.gguf", True)),
        ]
        # Each model is loaded once, for texts and prompts.
        opened = requests_module.Session.opened  # type: ignore[attr-defined]  # the one of the tests
        assert opened == ["bf16.gguf", "q4.gguf", "q4.gguf"]
        again, other = (calls[number]["prompts"] for number in (1, 4))
        assert len(again[0]) == 32  # type: ignore[index]  # with fewer side by side
        assert again[-1] == 2  # type: ignore[index]
        assert other[3].prompts == tuple((line,) for line in range(1, 101))  # type: ignore[index]  # the same tokens

    def test_a_damaged_cache_is_made_again(
        self, calls: list[dict[str, object]], prompts: list[str], tmp_path: Path
    ) -> None:
        run(["q4.gguf", *REFERENCE, *prompts])
        (kept,) = (tmp_path / "cache/answers").iterdir()
        kept.write_bytes(kept.read_bytes()[:-9])
        run(["q4.gguf", *REFERENCE, *prompts])
        assert [Path(str(call["model"])).name for call in calls].count("bf16.gguf") == 5

    def test_few_prompts_are_a_warning(self, calls: list[dict[str, object]]) -> None:
        result = run(["q4.gguf", *REFERENCE, "--prompts", "code.txt"])
        assert "warning: code.txt has only one prompt" in result.stderr
        assert "give 100 or more" in result.stderr

    @pytest.mark.parametrize("kind", ["md", "html", "json"])
    def test_side_by_side(
        self, calls: list[dict[str, object]], prompts: list[str], tmp_path: Path, kind: str
    ) -> None:
        args = ["much-worse.gguf", *REFERENCE, *prompts, "--answers", f"a.{kind}"]
        assert run(args).exit_code == 0
        text = (tmp_path / f"a.{kind}").read_text(encoding="utf-8")
        if kind == "json":
            told = json.loads(text)
            assert [it["line"] for it in told["answers"]] == list(range(1, 101))
            first = told["answers"][0]
            assert first["prompt"] == "<i>0</i> ```"
            assert first["reference"] == {
                "text": "<b>1</b>",
                "tokens": [1],
                "ended": True,
                "first_difference": None,
            }
            assert first["files"]["much-worse.gguf"]["first_difference"] == 1
            assert told["answers"][1]["files"]["much-worse.gguf"]["first_difference"] is None
        elif kind == "html":
            assert "<pre>&lt;i&gt;0&lt;/i&gt; ```</pre>" in text
            assert "<pre>&lt;b&gt;1&lt;/b&gt;<mark> &lt;b&gt;90&lt;/b&gt;</mark></pre>" in text
            assert text.count("<tr>") == 200
            assert read_page(text).problems == []
        else:
            assert "## Prompt of line 1\n\n````\n<i>0</i> ```\n````" in text  # no fence in it ends the block
            assert "**much-worse.gguf**: differs from token 1 on\n\n```\n<b>1</b> <b>90</b>\n```" in text
            assert text.count("**much-worse.gguf**: the same") == 50
        assert run(args).exit_code == 1  # it exists
        assert run([*args, "--force"]).exit_code == 0


class TestContinuations:
    ARGS: ClassVar[list[str]] = ["q4.gguf", "much-worse.gguf", *REFERENCE, "--continuations", "5"]

    def test_the_table(self, calls: list[dict[str, object]]) -> None:
        out = " ".join(run(self.ARGS).output.split())
        assert "5 continuations of the texts, 128 tokens each, beside the reference's" in out
        assert "q4.gguf 100.0 100.0 67.2 0.0 86.0" in out
        assert "much-worse.gguf 100.0 100.0 54.7 0.0 70.0 -16.0" in out

    def test_json(self, calls: list[dict[str, object]]) -> None:
        told = json.loads(run([*self.ARGS, "--json"]).output)
        assert told["questions"] is None
        assert told["continuations"]["places"] == 5
        of_q4 = told["continuations"]["files"]["q4.gguf"]
        assert [its["length"] for its in of_q4["agreement"]] == [32, 128]
        assert of_q4["agreement"][1]["until"]["value"] == 86
        assert of_q4["beside"] is None
        assert json.loads(run(["q4.gguf", *REFERENCE, "--json"]).output)["continuations"] is None

    def test_the_reference_goes_on_once_and_each_file_at_the_same_places(
        self, calls: list[dict[str, object]]
    ) -> None:
        run(self.ARGS)
        asked = [(Path(str(call["model"])).name, call["places"]) for call in calls if "places" in call]
        assert [name for name, _ in asked] == ["bf16.gguf", "q4.gguf", "much-worse.gguf"]
        assert len({places for _, places in asked}) == 1
        calls.clear()
        run(self.ARGS)
        again = [Path(str(call["model"])).name for call in calls if "places" in call]
        assert again == ["q4.gguf", "much-worse.gguf"]  # the reference's are in the cache


class TestQuestions:
    @pytest.fixture
    def questions(self, tmp_path: Path) -> list[str]:
        line = json.dumps({"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": "B"})
        (tmp_path / "questions.jsonl").write_text("\n".join([line] * 120), encoding="utf-8")
        return ["q4.gguf", "much-worse.gguf", *REFERENCE, "--questions", "questions.jsonl"]

    def test_the_table_and_what_is_sure(self, calls: list[dict[str, object]], questions: list[str]) -> None:
        out = " ".join(run(questions).output.split())
        assert "120 questions of questions.jsonl" in out
        assert "the reference 100.0 (97 to 100)" in out
        assert "q4.gguf 66.7 (58 to 74) 40 0 -33.3 (-41.4 to -24.2)" in out
        assert re.search(
            r"much-worse\.gguf 33\.3 \(26 to 42\) 80 0 -66\.7 \(-7\d\.\d to -5\d\.\d\) -33\.3", out
        )
        assert "q4.gguf has surely fewer right than the reference (p = 1.8e-12, McNemar)." in out
        assert "much-worse.gguf has surely fewer right than the first file" in out

    def test_json_and_the_cache(self, calls: list[dict[str, object]], questions: list[str]) -> None:
        told = json.loads(run([*questions, "--json"]).output)["questions"]
        assert told["reference"]["right"]["value"] == 1
        assert told["files"]["q4.gguf"]["beside_reference"]["lost"] == 40
        assert told["files"]["q4.gguf"]["beside_first"] is None
        calls.clear()
        run(questions)
        asked = [Path(str(call["model"])).name for call in calls if "questions" in call]
        assert asked == ["q4.gguf", "much-worse.gguf"]

    def test_few_are_a_warning_and_bad_ones_an_error(
        self, calls: list[dict[str, object]], questions: list[str], tmp_path: Path
    ) -> None:
        path = tmp_path / "questions.jsonl"
        path.write_text(path.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
        result = run(questions)
        assert result.exit_code == 0
        assert "has only 1 question: shares of them say little" in " ".join(result.output.split())
        path.write_text('{"prompt": "x"}\n{"question": 3, "choices": ["a", "b"]}\n', encoding="utf-8")
        calls.clear()
        result = run(questions)
        assert result.exit_code == 1
        assert "questions.jsonl:1: has neither choices nor an answer nor a pattern" in result.output
        assert "questions.jsonl:2: has choices, and no question" in result.output
        assert calls == []  # nothing was run

    @pytest.mark.parametrize("option", [["--questions", "questions.jsonl"], ["--continuations", "3"]])
    def test_a_saved_reference_can_not_answer(
        self, calls: list[dict[str, object]], questions: list[str], option: list[str]
    ) -> None:
        run([*REFERENCE, "--save-reference", "mine.reference"])
        result = run(["q4.gguf", "--reference", "mine.reference", *option])
        assert result.exit_code == 2
        assert "Give the model itself: it is to" in " ".join(result.output.split())
