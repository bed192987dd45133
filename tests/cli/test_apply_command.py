"""quantrecipe apply: the command everybody types."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from support.examples import sampled
from support.gram_statistics import write_statistics
from support.models import llama_metadata, llama_tensors, write_gguf
from support.trial_figures import Figures

from quantrecipe.cli import main
from quantrecipe.cli.app import app
from quantrecipe.cli.apply_progress import keep_asked
from quantrecipe.cli.output_files import default_name
from quantrecipe.cli.progress import ApplyBar
from quantrecipe.gguf.header import read_header
from quantrecipe.output.progress import Silent
from quantrecipe.refine import trial as trial_module

Output = pytest.CaptureFixture[str]

EXAMPLE = Path(__file__).parents[2] / "examples/tiny-code/model.safetensors"
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_main_job(folder: Path, capsys: Output) -> None:
    assert main(["apply", str(RECIPES / "code-model.yaml"), str(EXAMPLE)]) == 0
    out, err = capsys.readouterr()
    path = folder / "tiny-code-code-model.gguf"
    assert "wrote tiny-code-code-model.gguf" in out
    assert "bits per weight" in out
    # No progress where nobody watches, but for a line where kernels had to be compiled.
    assert [line for line in err.splitlines() if not line.startswith("compiling kernels (")] == []
    header = read_header(path)
    assert header.metadata["general.architecture"].decode() == "llama"
    assert header.metadata["quantrecipe.recipe.name"].decode() == "code-model"
    assert len(header.tensors) == 38


def test_an_encoder_s_remarks_are_shown(folder: Path, capsys: Output) -> None:
    source = write_gguf(folder / "m.gguf", llama_tensors(layers=1))
    text = "quantrecipe: 1\ndefault: Q4_0\nencoder: {name: feedback, damping: 0.01}\n"
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    query, key = "blk.0.attn_q.weight", "blk.0.attn_k.weight"
    grams = write_statistics(folder, {query: (256, (700,))}, shared={query: (key,)}, indefinite=(query,))
    given = ["apply", "mine.yaml", str(source), "--statistics", str(grams.folder), "-o", "a.gguf"]
    assert main(given) == 0
    remark = "damped by 0.1 and not by 0.01, with which the Gram matrix of its inputs isn't positive definite"
    assert f"! {key}, {query}: {remark}" in " ".join(capsys.readouterr().out.split())
    assert main([*given, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == {query: [remark], key: [remark]}


def test_the_recorded_recipe_makes_the_same_plan(folder: Path, capsys: Output) -> None:
    main(["apply", str(RECIPES / "code-model.yaml"), str(EXAMPLE), "-o", "a.gguf"])
    recorded = read_header(folder / "a.gguf").metadata["quantrecipe.recipe"].decode()
    Path("recorded.yaml").write_text(recorded, encoding="utf-8")
    capsys.readouterr()
    assert main(["apply", "recorded.yaml", str(EXAMPLE), "-o", "b.gguf", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["plan_digest"] == read_header(folder / "a.gguf").metadata["quantrecipe.plan.digest"].decode()
    first, second = ((folder / name).read_bytes() for name in ("a.gguf", "b.gguf"))
    assert (
        first[read_header(folder / "a.gguf").data_start :]
        == second[read_header(folder / "b.gguf").data_start :]
    )


def test_a_dry_run_writes_nothing(folder: Path, capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q4_K_M", str(EXAMPLE), "--dry-run"]) == 0
    assert "would write tiny-code-Q4_K_M.gguf" in capsys.readouterr().out
    assert not list(folder.iterdir())


def test_json_says_what_was_written(folder: Path, capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q8_0", str(EXAMPLE), "-o", "out.gguf", "--json", "--threads", "1"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["nbytes"] == (folder / "out.gguf").stat().st_size
    assert summary["threads"] == 1
    assert sum(t["weights"] for t in summary["types"]) == summary["weights"] == 3_672_320


def test_an_existing_file_is_kept(folder: Path, capsys: Output) -> None:
    (folder / "out.gguf").write_bytes(b"precious")
    assert main(["apply", "llama.cpp/Q8_0", str(EXAMPLE), "-o", "out.gguf"]) == 1
    assert "out.gguf exists; say --force" in capsys.readouterr().err
    assert (folder / "out.gguf").read_bytes() == b"precious"
    assert main(["apply", "llama.cpp/Q8_0", str(EXAMPLE), "-o", "out.gguf", "--force"]) == 0
    assert (folder / "out.gguf").read_bytes()[:4] == b"GGUF"


def test_nan_is_named_without_a_traceback(folder: Path, capsys: Output) -> None:
    tensors = llama_tensors(layers=1)
    tensors["blk.0.ffn_up.weight"][3, 5] = np.nan
    write_gguf(Path("bad.gguf"), tensors)
    assert main(["apply", "llama.cpp/Q8_0", "bad.gguf", "-o", "out.gguf"]) == 1
    err = capsys.readouterr().err
    assert "blk.0.ffn_up.weight: nan at row 3, column 5" in err
    assert "Traceback" not in err
    assert main(["apply", "llama.cpp/Q8_0", "bad.gguf", "-o", "out.gguf", "--nan", "allow"]) == 0
    assert "blk.0.ffn_up.weight: 1 weight is NaN or Inf, and 0 in out.gguf" in capsys.readouterr().out


def test_nan_keep_is_a_former_name_of_nan_allow(folder: Path, capsys: Output) -> None:
    tensors = llama_tensors(layers=1)
    tensors["blk.0.ffn_up.weight"][3, 5] = np.nan
    write_gguf(Path("bad.gguf"), tensors)
    for word in ("allow", "keep"):
        assert main(["apply", "llama.cpp/Q8_0", "bad.gguf", "-o", f"{word}.gguf", "--nan", word]) == 0
    assert Path("keep.gguf").read_bytes() == Path("allow.gguf").read_bytes()
    assert (
        capsys.readouterr().err.count("note: `--nan keep` is called `--nan allow` now; the old name works")
        == 1
    )
    assert main(["apply", "llama.cpp/Q8_0", "bad.gguf", "-o", "other.gguf", "--nan", "other"]) == 2
    assert "keep" not in capsys.readouterr().err
    assert main(["apply", "--help"]) == 0
    assert "--nan [error|allow]" in capsys.readouterr().out


@pytest.mark.slow
def test_compiling_is_said_once_and_only_where_something_is_compiled(folder: Path) -> None:
    """In processes of their own: this one may have the kernels already."""
    env = os.environ | {"QUANTRECIPE_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "quantrecipe", "apply", "llama.cpp/BF16", "model.gguf", "-o", "out.gguf"]
    write_gguf(Path("model.gguf"), llama_tensors(layers=1), type_="F16")
    first, second = (
        subprocess.run([*command, "--force", "--json"], capture_output=True, env=env, check=True)
        for _ in range(2)
    )
    assert first.stderr.decode() == "compiling kernels (only once on each machine)" + os.linesep
    assert second.stderr == b""
    assert json.loads(first.stdout)["compile_seconds"] > 0 == json.loads(second.stdout)["compile_seconds"]


@pytest.mark.slow
def test_where_nothing_can_be_kept_that_is_said(folder: Path) -> None:
    (folder / "no folder").write_bytes(b"")
    env = os.environ | {"QUANTRECIPE_CACHE_DIR": str(folder / "no folder")}
    command = [sys.executable, "-m", "quantrecipe", "apply", "llama.cpp/BF16", "model.gguf", "-o", "out.gguf"]
    write_gguf(Path("model.gguf"), llama_tensors(layers=1), type_="F16")
    done = subprocess.run(command, capture_output=True, env=env, check=True)
    assert (
        b"compiling kernels (at each run: there is no folder to keep them in; set QUANTRECIPE_CACHE_DIR"
        in done.stderr
    )


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_bar_says_what_is_compiled_on_one_line(width: int) -> None:
    console = Console(
        file=StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False
    )
    with ApplyBar(console) as bar:
        bar.compiling(1, 5, "BF16 decode")
        bar.compiling(2, 5, "Q4_K encode, importance")
        bar._bar.refresh()
        (line,) = (segment for segment in [console.file.getvalue()] if segment)  # type: ignore[attr-defined]  # a StringIO
    last = [part for part in re.split(r"\r|\n|\x1b\[[0-9?]*[A-Za-z]", line) if part.strip()][-1]
    begin, _, end = last.partition("…")
    said = "compiling kernels: 2 of 5 (Q4_K encode, importance)"
    assert said.startswith(begin.strip()) if end else said in last
    assert begin.startswith("compiling")
    assert len(last) <= width


BIG = ["apply", "llama.cpp/Q4_K_M", "big.gguf", "-o", "out.gguf", "--threads", "1"]


def signalled(number: signal.Signals, *more: str) -> tuple[int, str]:
    """Run `BIG`, and send a signal when it has noted some rows: its status, and what it said."""
    if not Path("big.gguf").exists():
        write_gguf(Path("big.gguf"), llama_tensors(layers=2, cols=1024, hidden=4096))
    process = subprocess.Popen(
        [sys.executable, "-m", "quantrecipe", *BIG, *more],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # jobs in the background ignore SIGINT
    )
    journal = Path("out.gguf.quantrecipe-journal")
    noted = re.compile(rb'\["(rows|first)"')
    while process.poll() is None and not (journal.exists() and noted.search(journal.read_bytes())):
        time.sleep(0.002)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, err


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_leaves_no_file(folder: Path) -> None:
    status, err = signalled(signal.SIGINT)
    assert status in (130, -signal.SIGINT), err  # a shell says 130 for both
    assert "stopped\n" in err
    assert sorted(path.name for path in folder.iterdir()) == ["big.gguf"]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize(
    ("name", "more", "said"),  # by name, since Windows has no SIGKILL
    sampled(
        [
            ("SIGTERM", (), "stopped by SIGTERM"),
            ("SIGINT", ("--keep-part",), "stopped"),
            ("SIGKILL", (), ""),
        ]
    ),
)
def test_what_is_kept_is_gone_on_with(
    folder: Path, capsys: Output, name: str, more: tuple[str, ...], said: str
) -> None:
    number = signal.Signals[name]
    status, err = signalled(number, *more)
    assert status in (128 + number, -number), err
    assert said in err
    assert ("of the work is kept in out.gguf.quantrecipe-part; the same command goes on with it" in err) is (
        name != "SIGKILL"
    )
    assert main([*BIG, "--json"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"note: resumed: \d+% was there, in out.gguf.quantrecipe-part", err)
    document = json.loads(out)
    assert 0 < document["resumed_weights"] < document["weights"]
    assert document["made_again"] == []
    assert sorted(path.name for path in folder.iterdir()) == ["big.gguf", "out.gguf"]
    main(["apply", "llama.cpp/Q4_K_M", "big.gguf", "-o", "peace.gguf"])
    assert (folder / "out.gguf").read_bytes() == (folder / "peace.gguf").read_bytes()
    assert "resumed" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_what_another_recipe_left_is_told_and_not_used(folder: Path, capsys: Output) -> None:
    signalled(signal.SIGKILL)
    assert main(["apply", "llama.cpp/Q8_0", "big.gguf", "-o", "out.gguf"]) == 0
    out, err = capsys.readouterr()
    assert (
        "note: out.gguf.quantrecipe-part was left by a run of another recipe, so the work starts over" in err
    )
    assert "resumed" not in out + err


def test_verify_keeps_no_part(folder: Path, capsys: Output) -> None:
    given = ["apply", "llama.cpp/Q8_0", str(EXAMPLE), "--verify", "x.txt", "--keep-part"]
    assert main(given) == 2
    assert "--keep-part and --verify exclude each other" in capsys.readouterr().err


class TestWhoIsAskedAfterCtrlC:
    """`keep_asked`: somebody at a terminal, unless `--keep-part` has said it."""

    @pytest.fixture
    def terminal(self, monkeypatch: pytest.MonkeyPatch) -> Console:
        monkeypatch.setattr(sys, "stdin", Terminal())
        return Console(file=StringIO(), force_terminal=True, width=80)

    @pytest.mark.parametrize(("answer", "kept"), [("y\n", True), ("\n", True), ("n\n", False), ("", False)])
    def test_somebody_at_a_terminal(
        self, terminal: Console, monkeypatch: pytest.MonkeyPatch, answer: str, kept: bool
    ) -> None:
        def answered(text: str, **_: object) -> bool:
            assert text.startswith("62% of the work is done. Keep it in a.part")
            if not answer:
                raise click.Abort
            return answer != "n\n"

        monkeypatch.setattr(click, "confirm", answered)
        with ApplyBar(terminal) as bar:
            assert keep_asked(terminal, bar, keep_part=False)(Path("a.part"), 0.62) is kept
            assert not bar._bar.live.is_started

    def test_keep_part_has_said_it(self, terminal: Console) -> None:
        assert keep_asked(terminal, Silent(), keep_part=True)(Path("a"), 0.5)

    def test_nobody_in_a_pipe(self) -> None:
        console = Console(file=StringIO(), width=80)
        assert not keep_asked(console, Silent(), keep_part=False)(Path("a"), 0.5)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_file_that_the_system_cuts_off_leaves_nothing(folder: Path) -> None:
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from quantrecipe.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "apply", "llama.cpp/Q8_0", str(EXAMPLE), "-o", "out.gguf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "can't write out.gguf: File too large; write to another file system" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("model", "recipe", "name"),
    [
        ("tiny-code/model.safetensors", "code-model", "tiny-code-code-model.gguf"),
        ("tiny-code/model.safetensors.index.json", "x", "tiny-code-x.gguf"),
        ("tiny-code/model-00001-of-00007.safetensors", "x", "tiny-code-x.gguf"),
        ("tiny-code/adapter.safetensors", "x", "adapter-x.gguf"),
        ("Llama-3-8B-BF16.gguf", "Q4_K_M", "Llama-3-8B-Q4_K_M.gguf"),
        ("llama.f16-00001-of-00003.gguf", "Q4_K_M", "llama-Q4_K_M.gguf"),
        ("sp-00002-of-00003.gguf", "Q4_K_M", "sp-Q4_K_M.gguf"),
        ("adapter.safetensors.index.json", "x", "adapter-x.gguf"),
        ("Qwen3-0.6B.shapes.json", "x", "Qwen3-0.6B.shapes-x.gguf"),
        ("model.gguf", "my recipe/v2: best", "model-v2-best.gguf"),
    ],
)
def test_default_names(model: str, recipe: str, name: str) -> None:
    assert default_name(Path(model), recipe) == name


def test_a_folder_names_the_output(folder: Path) -> None:
    (folder / "Qwen3-8B").mkdir()
    assert default_name(Path("Qwen3-8B"), "code-model") == "Qwen3-8B-code-model.gguf"


def test_a_model_in_hugging_face_s_cache_has_the_repository_s_name(folder: Path) -> None:
    repository = Path("hub/models--Qwen--Qwen3-0.6B")
    snapshot, blob = repository / "snapshots/c1899de2", repository / "blobs/9b8f00"
    snapshot.mkdir(parents=True)
    blob.parent.mkdir()
    blob.touch()
    for name in ("model.safetensors", "Qwen3-0.6B-BF16.gguf"):
        (snapshot / name).symlink_to("../../blobs/9b8f00")
    for model in (snapshot, snapshot / "model.safetensors", snapshot / "Qwen3-0.6B-BF16.gguf"):
        assert default_name(model, "x") == "Qwen3-0.6B-x.gguf"
    assert default_name(Path("models--gpt2/snapshots/607a/model.safetensors"), "x") == "gpt2-x.gguf"


def test_a_link_has_the_name_that_was_given(folder: Path) -> None:
    (folder / "blob").touch()
    (folder / "Qwen3-BF16.gguf").symlink_to("blob")
    assert default_name(Path("Qwen3-BF16.gguf"), "x") == "Qwen3-x.gguf"


@pytest.mark.parametrize("name", [".", "", ".."])
def test_a_folder_is_no_output(name: str, capsys: Output) -> None:
    for more in ([], ["--split-max-size", "1M"], ["--dry-run"], ["--force"]):
        assert main(["apply", "llama.cpp/Q8_0", str(EXAMPLE), "-o", name, *more]) == 1
        err = capsys.readouterr().err
        assert "is a folder; name a file with -o FILE" in err
        assert "Traceback" not in err


def test_several_recipes_into_a_folder(folder: Path, capsys: Output) -> None:
    arguments = ["llama.cpp/Q8_0", "llama.cpp/Q4_K_M", str(EXAMPLE), "--out-dir", "release/v1"]
    assert main(["apply", *arguments]) == 0
    assert sorted(path.name for path in (folder / "release/v1").iterdir()) == [
        "tiny-code-Q4_K_M.gguf",
        "tiny-code-Q8_0.gguf",
    ]
    assert "release/v1/tiny-code-Q8_0.gguf" in capsys.readouterr().out
    assert main(["apply", *arguments[:3], "-o", "x.gguf"]) == 2


def test_splitting(folder: Path, capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q8_0", str(EXAMPLE), "-o", "out.gguf", "--split-max-size", "1M"]) == 0
    paths = sorted(folder.iterdir())
    assert paths[0].name == f"out-00001-of-{len(paths):05d}.gguf"
    assert all(path.stat().st_size <= 1_000_000 for path in paths)
    assert main(["apply", "llama.cpp/Q8_0", str(EXAMPLE), "--keep-split", "--split-max-tensors", "3"]) == 2
    assert main(["apply", "llama.cpp/Q8_0", str(EXAMPLE), "--split-max-size", "lots"]) == 2
    assert "write 5.2GB, 48G or 500M" in capsys.readouterr().err


def test_reuse(folder: Path, capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q4_K_S", str(EXAMPLE), "-o", "old.gguf"]) == 0
    assert main(["apply", "llama.cpp/Q4_K_M", str(EXAMPLE), "-o", "new.gguf", "--reuse", "old.gguf"]) == 0
    assert "tensors copied from the old file" in capsys.readouterr().out


def test_the_same_warning_of_several_recipes_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(Path("odd.gguf"), llama_tensors(cols=96, hidden=160), llama_metadata())
    recipes = ["llama.cpp/Q4_K_M", "llama.cpp/Q4_K_S", "llama.cpp/Q5_K_S"]
    for more in ([], ["--dry-run"]):
        assert main(["apply", *recipes, "odd.gguf", "--out-dir", "release", *more]) == 0
        captured = capsys.readouterr()
        lines = [it for it in (captured.out + captured.err).splitlines() if "its 96 columns" in it]
        assert [it for it in lines if "Q4_K → Q5_0" in it] == [
            "! Q4_K → Q5_0, since its 96 columns don't divide into blocks of 256 (Q4_K_M, Q4_K_S)"
        ]
        assert len(lines) == len(set(lines))


def test_a_warning_of_one_recipe_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(Path("odd.gguf"), llama_tensors(cols=96, hidden=160), llama_metadata())
    assert main(["apply", "llama.cpp/Q4_K_S", "odd.gguf", "-o", "out.gguf"]) == 0
    err = capsys.readouterr().err
    assert "! blk.0.ffn_down.weight, blk.1.ffn_down.weight: Q4_K → Q5_0" in err


class TestVerify:
    """What an encoder made beside plain encoding, with figures that the test chooses."""

    @pytest.fixture
    def figures(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Figures:
        made = Figures()
        monkeypatch.setattr(trial_module, "make_reference", made.make_reference)
        monkeypatch.setattr(trial_module, "score", made.score)
        monkeypatch.chdir(tmp_path)
        Path("held-out.txt").write_text("held out", encoding="utf-8")
        Path("mine.yaml").write_text(
            "quantrecipe: 1\nname: mine\ndefault: Q4_0\nencoder: feedback\n", "utf-8"
        )
        write_statistics(tmp_path / "grams", {"blk.0.ffn_down.weight": (768, (1000,))})
        return made

    def run(self, *more: str) -> Result:
        args = ["apply", "mine.yaml", str(EXAMPLE), "--verify", "held-out.txt", "-o", "out.gguf", *more]
        return CliRunner().invoke(app, args)

    @pytest.mark.parametrize(("mean", "encoder"), [(0.5, True), (0.99, False)])
    def test_the_better_one_is_kept(self, figures: Figures, mean: float, encoder: bool) -> None:
        figures.means["encoded.gguf"] = mean
        result = self.run("--statistics", "grams")
        assert result.exit_code == 0, result.output
        told = " ".join(result.stdout.split())
        assert ("the encoder's file is kept" in told) is encoder
        assert ("it isn't surely better: plain encoding is kept" in told) is not encoder
        assert "copied from the old file" not in told
        assert (b"quantrecipe.encoders" in Path("out.gguf").read_bytes()) is encoder
        assert not list(Path().glob(".quantrecipe*"))

    def test_json(self, figures: Figures) -> None:
        told = json.loads(self.run("--statistics", "grams", "--json", "--no-provenance").stdout)
        assert told["reused"] == []
        assert told["verified"]["kept"] == "encoder"
        assert told["verified"]["plain_kld_mean"] > told["verified"]["kld_mean"] > 0
        assert told["verified"]["beside"]["kld_mean"]["high"] < 0

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ((), "give them with --statistics FOLDER"),
            (("--statistics", "grams", "--locked", "l"), "--locked and --verify exclude each other"),
            (("--statistics", "grams", "--verify", "nothing.txt"), "the text can't be read"),
        ],
    )
    def test_what_is_refused(self, figures: Figures, more: tuple[str, ...], message: str) -> None:
        result = self.run(*more)
        assert result.exit_code in (1, 2)
        assert message in " ".join(result.output.split())
        assert figures.scored == []

    def test_layers_are_judged_on_a_text(self, figures: Figures) -> None:
        result = CliRunner().invoke(app, ["apply", "mine.yaml", str(EXAMPLE), "--verify-layers"])
        assert result.exit_code == 2
        assert "--verify-layers judges on the texts of --verify" in " ".join(result.output.split())

    def test_without_an_encoder_there_is_nothing_to_compare(self, figures: Figures) -> None:
        Path("mine.yaml").write_text("quantrecipe: 1\nname: mine\ndefault: Q4_0\n", "utf-8")
        result = self.run()
        assert result.exit_code == 1
        assert "recipe 'mine' has none; say `encoder: feedback` in it" in " ".join(result.output.split())
        Path("mine.yaml").write_text("quantrecipe: 1\ndefault: Q4_0\n", "utf-8")
        result = CliRunner().invoke(
            app, ["apply", "mine.yaml", "Q8_0", str(EXAMPLE), "--verify", "held-out.txt"]
        )
        assert "--verify is for one recipe" in " ".join(result.output.split())
