"""What every command prints, on terminals of 80, 100 and 140 columns and in a pipe.

On a terminal no line is longer than it, and nothing is left out; in a pipe each row of a table is a line. A command
that is new has to be added to CASES, with whatever it prints.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from support.byte_model import ByteModel, SessionOfBytes
from support.examples import sampled
from support.fake_graph import FakeSession
from support.fake_graph import tensors as graph_tensors
from support.graph_of_products import ModelOfProducts, SessionOfProducts
from support.imatrix_files import with_provenance
from support.models import llama_metadata, llama_tensors, write_gguf
from support.repositories import Repository
from support.terminal import show

from quantrecipe.calibration import CalibrationSettings, self_written
from quantrecipe.calibration.gram import compute as gram_compute
from quantrecipe.calibration.gram import compute_gram
from quantrecipe.cli.app import COMMANDS
from quantrecipe.cli.eval import run as eval_run
from quantrecipe.cli.eval.answers import Answered
from quantrecipe.cli.eval.candidates import Candidate, Sized
from quantrecipe.cli.imatrix.command import COMMANDS as OF_IMATRIX
from quantrecipe.cli.store.command import COMMANDS as OF_STORE
from quantrecipe.cli.tables import Paragraph, Table
from quantrecipe.evaluate import (
    Noise,
    Positions,
    Reference,
    blocks_of,
    compare_files,
    draw,
    intervals_of,
    summarise,
)
from quantrecipe.evaluate.answers import share
from quantrecipe.evaluate.prompts import Answers, Prompt
from quantrecipe.evaluate.reference import ScoredText
from quantrecipe.importance.provenance import CalibrationText, Provenance
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry
from quantrecipe.release.checksums import files_below
from quantrecipe.sensitivity.file import write_sensitivity
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sha256sums import hash_file, sums_text
from quantrecipe.texts import read_domain, render

DATA = Path(__file__).parent.parent / "data"
EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-code"
CODE, PROSE = (DATA / "imatrix" / f"imatrix.{text}.gguf" for text in ("code", "prose"))
LONG = "Qwen3-30B-A3B-Instruct-2507-with-a-name-of-sixty-characters"
FOLDER = "a folder of sixty characters, as people make them, with blanks"
MOE, DEEPSEEK = "shapes/qwen3-30b-a3b", "shapes/deepseek-v3.1"

MINE = """\
quantrecipe: 1
name: mine
extends: llama.cpp/Q4_K_M
rules:
  - tensors: blk.*.ffn_down_exps
    layers: first 1/8
    type: Q6_K
    why: |
      The first layers' down projections were measured on code, prose and chats, and lost most of all that there is;
      see the table in the evidence beside this recipe, which has every number.
  - tensors: nothing_is_called_so
    type: Q8_0
"""
RELEASE = """\
release: 1
name: Qwen3-30B-A3B-Instruct-2507-with-a-name-of-sixty-characters
files: [llama.cpp/Q8_0, {recipe: Q5_0, note: for long contexts}]
"""
WRONG = MINE.replace("Q6_K", "Q6K").replace("first 1/8", "frist 1/8")

STATED = Provenance(
    texts=(
        CalibrationText(name="code", digest="a" * 32, tokens=12_345_678, weight=2),
        CalibrationText(name=f"{LONG}-chats", digest="b" * 32, tokens=1000),
    ),
    template="c" * 32,
    contexts=(512, 4096, 32768),
    fingerprint=f"v1:{'1' * 16}:{'2' * 32}",
    model="d" * 32,
    version="0.1.0",
    engine="llama.cpp b7000 of llama-cpp-python 0.3.36, on the CPU and an NVIDIA H200 by CUDA",
    seed=7,
    skip=10,
    chunks=1000,
    all_experts=False,
)

CASES: dict[str, list[str]] = {
    "apply": [
        f"apply llama.cpp/Q4_K_M {LONG}-BF16.gguf --dry-run",
        f"apply llama.cpp/Q8_0 {LONG}-BF16.gguf -o out.gguf --force",
        "apply llama.cpp/Q8_0 llama.cpp/F16 model.gguf --out-dir out --force",
    ],
    "plan": [
        f"plan llama.cpp/Q4_K_M {MOE} --all",
        f"plan mine.yaml {DEEPSEEK}",
        f"plan llama.cpp/Q4_K_M '{EXAMPLE}' --imatrix '{CODE}'",
        f"plan llama.cpp/IQ2_XS {MOE}",
        f"plan llama.cpp/Q8_0 {MOE} --cluster nodes=10,threads=16,rate=12M,lost=1,price=1.2/h",
    ],
    "store": [
        "store list store",
        "store list store --all",
        "store verify store",
        "store gc store --max-size 9GB",
    ],
    "refine": [],  # needs an engine; what it shows are the tables of apply and of imatrix
    "release": [
        f"release '{LONG}-BF16.gguf' release.yaml --to made-release --no-measure",
        "release model.gguf release.yaml --to made-release --dry-run",
        "release model.gguf wrong-release.yaml --to made-release",
    ],
    "publish": ["publish a-release me/name"],
    "damping": [],  # needs an engine; tests/cli/test_damping_command.py shows its table
    "check": [
        "check mine.yaml wrong.yaml",
        f"check '{FOLDER}' --reference",
        f"check mine.yaml --model {MOE} --strict",
    ],
    "diff": [
        f"diff llama.cpp/Q4_K_M mine.yaml --model {MOE} --model {DEEPSEEK}",
        f"diff llama.cpp/Q4_K_M mine.yaml --model {MOE} --sensitivity moe.jsonl --all",
        f"diff llama.cpp/Q4_K_M llama.cpp/IQ1_S --model {MOE}",
    ],
    "explain": [
        f"explain mine.yaml {MOE} blk.0.ffn_down_exps attn_v --all-rules",
        f"explain mine.yaml {MOE} nothing_like_it",
    ],
    "flatten": ["flatten mine.yaml"],
    "lock": ["lock llama.cpp/Q4_K_M model.gguf -o a.lock", "lock llama.cpp/Q5_K_M model.gguf -o a.lock"],
    "sign": [f"sign '{LONG}-BF16.gguf' mine.yaml --checksums '{LONG}.sha256' --force"],
    "verify": ["verify made.gguf --source model.gguf", "verify damaged.gguf --source model.gguf"],
    "ci": [f"ci --base main --model {MOE} --model shapes/qwen3-0.6b"],
    "shapes": ["shapes"],
    "advise": [],  # the tests of advise have its cases
    "fit": [
        f"fit '{EXAMPLE}' --prior --size 2MB -o fitted.yaml --force",
    ],
    "studio": [],  # it goes on until Ctrl-C; its own tests read what it says
    "report": [],  # it writes a page, and says where; its own tests read that
    "sensitivity": ["sensitivity model.gguf --types Q8_0,Q4_0 --sample 1 -o measured.jsonl"],
    "eval": [
        f"eval {' '.join(f'out/{LONG}-{kind}.gguf' for kind in ('Q4_K_M', 'IQ4_XS', 'Q8_0', 'BF16', 'F16'))}"
        " --reference r",
        f"eval out/{LONG}-Q4_K_M.gguf --reference r",
        "eval a/model.gguf b/model.gguf --reference r --by-context",
        f"eval out/{LONG}-Q4_K_M.gguf llama.cpp/Q8_0 llama.cpp/Q8_0@none --reference model.gguf --prompts mine.yaml",
        "eval --reference r --save-reference r",
    ],
    "speed": [],  # needs an engine; the tests of speed have its cases
    "inspect": [
        "inspect made.gguf",
        "inspect made.gguf --tensors",
        "inspect made.gguf --metadata",
        "inspect model.gguf made.gguf",
        "inspect made.gguf made.gguf --data",
        f"inspect '{EXAMPLE}'",
        "inspect model.gguf --filter '*attn_v*'",
    ],
    "imatrix": [
        f"imatrix compute graph.gguf --text a=wrong.yaml --text b='{FOLDER}/{LONG}.yaml' --context 16 --skip 1"
        " --held-out wrong.yaml --min-expert-tokens 9 -o computed.gguf --force",
        f"imatrix compute '{LONG}-graph.gguf' --text wrong.yaml --context 16 --until 90% --split 80/10/10 --force",
        f"imatrix show '{CODE}'",
        f"imatrix show '{CODE}' --all",
        "imatrix show stating.gguf",
        f"imatrix show '{DATA}/imatrix/experts/a.gguf'",
        f"imatrix convert '{CODE}' out.dat --force",
        f"imatrix merge both.gguf '{CODE}' '{PROSE}' --force",
        f"imatrix diff '{CODE}' '{PROSE}' --all",
        f"imatrix diff stating.gguf '{PROSE}'",
        f"imatrix diff '{DATA}/imatrix/experts/a.gguf' '{DATA}/imatrix/experts/b.gguf'",
        f"imatrix compute '{LONG}-BF16.gguf' --text mine.yaml --context 128 --gram computed-grams"
        " --gram-experts each --gram-layers 1 -o grams.gguf",
        "imatrix show grams",
        "imatrix show grams --all",
        f"imatrix self '{LONG}-BF16.gguf' --tokens 2k --split 80/10/10 -o written.jsonl --force",
    ],
    "import": ["import made.gguf --infer -o imported.yaml --force"],
    "export": ["export llama.cpp/Q4_K_M --model model.gguf --to llama-quantize"],
    "formats": ["formats", "formats IQ4_XS"],
    "plugins": ["plugins"],
    "check-plugin": ["check-plugin quantrecipe --only Q8_0"],
    "doctor": ["doctor"],
    "recipes": ["recipes", f"recipes --for {MOE}", "recipes ud --for model.gguf"],
    "schema": ["schema"],
    "graft": ["graft model.gguf model.gguf --tensors head --dry-run", "graft model.gguf model.gguf --mtp"],
    "completion": ["completion bash"],
    "init": [f"init {MOE} -o -", "init model.gguf -o first.yaml --force"],
    "help": ["help", "help names", "help apply"],
    "new-plugin": [],  # writes a folder once; its five lines are in its own tests
}
"""What each command prints. Errors and warnings count, too."""

ALL = [case for cases in CASES.values() for case in cases]
TO_COPY = re.compile(
    rf"wrote |would write |^ +quantrecipe |pip install |{re.escape(str(DATA.parents[1]))}|{FOLDER}"
)
"""Lines with paths, and commands: the terminal breaks them, so that they can be copied."""
FILES = ("flatten", "export", "schema", "completion", "init")
"""Commands that print a file, as it is."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, recipes and files on a branch of a repository."""
    path = tmp_path_factory.mktemp("widths")
    repository = Repository(path)
    repository.write(base="extends: llama.cpp/Q4_K_M\n")
    repository.commit()
    repository.git("switch", "--quiet", "--create", "work")
    repository.write(base="extends: llama.cpp/Q5_K_M\n", new="default: Q6_K\n")
    repository.commit()
    tensors = llama_tensors(layers=2)
    for name in ("model.gguf", f"{LONG}-BF16.gguf"):
        write_gguf(path / name, tensors, llama_metadata())
    for name in ("graph.gguf", f"{LONG}-graph.gguf"):
        write_gguf(path / name, graph_tensors(), llama_metadata())
    (path / FOLDER).mkdir()
    for name, text in {"mine": MINE, "wrong": WRONG, f"{FOLDER}/{LONG}": WRONG}.items():
        (path / f"{name}.yaml").write_text(text, encoding="utf-8")
    (path / "release.yaml").write_text(RELEASE, encoding="utf-8")
    (path / "wrong-release.yaml").write_text(RELEASE.replace("note", "nota"), encoding="utf-8")
    (path / "a-release/recipes").mkdir(parents=True)
    for name in (f"{LONG}-Q4_K_M.gguf", f"recipes/{LONG}-Q4_K_M.yaml", "README.md"):
        (path / "a-release" / name).write_text(name, encoding="utf-8")
    sums = {name: hash_file(path / "a-release" / name) for name in files_below(path / "a-release")}
    sums.pop("README.md")
    (path / "a-release/SHA256SUMS").write_text(sums_text(sums), encoding="utf-8")
    with_provenance(CODE, STATED, path / "stating.gguf")
    (path / "grams.gguf").write_bytes(CODE.read_bytes())  # stays as it is
    domain = read_domain(str(path / "wrong.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gram_compute, "Session", SessionOfProducts(ModelOfProducts(columns=300)))
        settings = CalibrationSettings(contexts=(32,))
        compute_gram(
            path / "model.gguf", [(domain, render(domain, None))], path / "grams", settings, experts="each"
        )
    registry = load_registry(plugins=False)
    write_sensitivity(estimate(open_model(MOE, registry=registry), registry), path / "moe.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        made = ["apply", "llama.cpp/Q8_0", "model.gguf", "-o", "made.gguf", "--store", "store"]
        assert show(made, width=None).status == 0
    data = bytearray((path / "made.gguf").read_bytes())
    data[-40_000] ^= 1
    (path / "damaged.gguf").write_bytes(data)
    return path


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder, with an evaluation that is invented."""
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(0)
    names = [f"{what}-held-out-text-with-a-long-name.txt" for what in ("code", "prose", "chat")]
    reference = Reference(
        path=Path("r"),
        model=f"{LONG}-BF16.gguf",
        key="",
        n_ctx=64,
        n_vocab=9,
        vocabulary="",
        tail=0.003,
        texts=tuple(ScoredText(name=name, digest="", chunks=12) for name in names),
        tokens=np.zeros((36, 64), np.int32),
        noise=Noise(positions=200, mean=4.7e-9, largest=1e-8),
    )
    cost = rng.exponential(2, reference.positions)
    divergence = 0.01 * rng.exponential(1, reference.positions)
    blocks = blocks_of(reference)
    # Of each verdict one: half, as much, what can't be told, a little more, twice.
    factors = (1, 0.5, 1.01, 0.5 + rng.random(cost.size), 1.05, 2)

    def evaluate(
        files: list[Sized], *_: object, also: Callable[[str, object], None], **__: object
    ) -> list[Candidate]:
        found: list[Candidate] = []
        first = None
        for number, file in enumerate(files):
            also(file.subject.name, None)
            positions = Positions(
                cost=cost,
                reference_cost=cost * 1.01,
                divergence=divergence * factors[number % len(factors)],
                agrees=np.ones(cost.size),
            )
            figures = summarise(positions), draw(positions, blocks)
            found.append(
                Candidate(
                    name=file.subject.name,
                    path=file.subject.path,
                    recipe=file.subject.recipe,
                    imatrix=None,
                    nbytes=18_270_000_000,
                    bits_per_weight=4.85,
                    all=figures[0],
                    texts=dict.fromkeys(names, figures[0]),
                    intervals=intervals_of(positions, *figures, blocks),
                    beside=compare_files(figures, first, blocks, reference.noise) if first else None,
                )
            )
            first = first or figures
        return found

    said = Answers(
        prompts=((1,),), n_vocab=9, vocabulary="", most=128, tokens=((1, 2),), texts=("```python\nx\n```",)
    )
    monkeypatch.setattr("quantrecipe.calibration.compute.Session", FakeSession)
    answered = Answered(
        prompts=(Prompt(text="x", line=1),), source=Path("p"), reference=said, files={}, noise=share(1, 32)
    )
    monkeypatch.setattr(eval_run, "is_saved", lambda path: False)
    monkeypatch.setattr(eval_run, "existing_gguf", lambda path: path)
    monkeypatch.setattr(eval_run, "size_of", lambda it, _: Sized(subject=it, nbytes=1, bits_per_weight=1.0))
    monkeypatch.setattr(eval_run, "find_reference", lambda *_, **__: reference)
    monkeypatch.setattr(eval_run, "find_answers", lambda *_, **__: answered)
    monkeypatch.setattr(eval_run, "evaluate_files", evaluate)
    monkeypatch.setattr("quantrecipe.cli.eval.answers.answer", lambda *_, **__: said)
    monkeypatch.setattr("quantrecipe.engine.require_engine", lambda path: path)
    monkeypatch.setattr("quantrecipe.release.publishing.seen", lambda repo: None)
    for name in ("draw_losses", "draw_spending"):
        monkeypatch.setattr(f"quantrecipe.cli.release.documents.{name}", lambda *_, **__: b"a picture")
    monkeypatch.setattr(gram_compute, "Session", SessionOfProducts(ModelOfProducts(columns=300)))
    monkeypatch.setattr(self_written, "Session", SessionOfBytes(ByteModel()))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """The tables that are printed, in order."""
    found: list[Table] = []
    draw = Table.__rich_console__

    def recorded(table: Table, console: Console, options: ConsoleOptions) -> Iterator[object]:
        found.append(table)
        yield from draw(table, console, options)

    monkeypatch.setattr(Table, "__rich_console__", recorded)
    return found


def cells(row: object) -> list[str]:
    """The texts of a row."""
    return [getattr(it, "plain", it[0] if isinstance(it, tuple) else it) for it in row]  # type: ignore[attr-defined]


def rows_of(table: Table) -> list[object]:
    """Without the lines across all columns."""
    return [row for row in table.rows if not isinstance(row, Paragraph)]


def headings(table: Table) -> list[str]:
    return list(table.headings)


def kinds(table: Table) -> list[str]:
    return list(table.kinds)


def first_column(table: Table, width: int) -> list[str]:
    """What stands in it, row by row, of the table's first part."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(table)
    lines = file.getvalue().splitlines()
    start = next(n for n, line in enumerate(lines) if line and set(line) == {"─"})
    return [re.split("  +", line)[0] for line in lines[start + 1 : lines.index("", start)] if line[0] != " "]


def test_no_command_is_forgotten() -> None:
    assert CASES.keys() == COMMANDS.keys()
    assert {case.split()[1] for case in CASES["imatrix"]} == OF_IMATRIX.keys()
    assert {case.split()[1] for case in CASES["store"]} == OF_STORE.keys()


# The narrowest terminal is the one where something doesn't fit; a pipe, below, shows what is the same at any width.
@pytest.mark.parametrize(
    "width", [80, pytest.param(100, marks=pytest.mark.slow), pytest.param(140, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", sampled(ALL, 2))
def test_on_a_terminal_nothing_is_too_long_left_out_or_alike(
    case: str, width: int, tables: list[Table]
) -> None:
    shown = show(["--no-plugins", *shlex.split(case)], width=width)
    assert shown.status in (0, 1), shown.err
    printed = shown.out + re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "\n", shown.err)  # a bar's frames are lines
    if case.split()[0] not in FILES:
        too_long = [line for line in printed.splitlines() if cell_len(line) > width]
        assert not [line for line in too_long if not TO_COPY.search(line)]
    characters = "".join(printed.split())
    for table in list(tables):
        words = {word for heading in headings(table) for word in re.split(r"[\s/]", heading)}
        for kind, *column in zip(kinds(table), *map(cells, rows_of(table)), strict=True):
            words |= {word for cell in column for word in cell.split() if kind != "name"}
        assert all(word in characters for word in words if len(word) < 30)
        names = [cells(row)[0] for row in rows_of(table)]
        if headings(table) and kinds(table)[0] == "name" and len(set(names)) == len(names):
            assert len(set(first_column(table, width))) >= len(names)


@pytest.mark.parametrize("case", sampled(ALL, 2))
def test_in_a_pipe_a_row_is_a_line(case: str, tables: list[Table]) -> None:
    shown = show(["--no-plugins", *shlex.split(case)], width=None)
    lines = [" ".join(line.split()) for line in (shown.out + shown.err).splitlines()]
    for table in tables:
        wanted = [cells(row) for row in rows_of(table)]
        for row in wanted:
            texts = [" ".join(part.split()) for cell in row for part in cell.split("\n")]
            line = " ".join(text for text in texts if text)
            assert any(line == told.replace("; ", " ") or line == told for told in lines), line
        if headings(table):
            assert " ".join(heading for heading in headings(table) if heading) in lines
