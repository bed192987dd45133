"""quantrecipe imatrix: what its commands print and write, and how they stop."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pytest
from support.imatrix_files import dat_bytes, with_provenance, write_gguf_imatrix

from quantrecipe.cli import main
from quantrecipe.cli.imatrix.command import COMMANDS
from quantrecipe.cli.lazy_group import load_command
from quantrecipe.importance.provenance import CalibrationText, Provenance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.plain_data import plain

DATA = Path(__file__).parents[2] / "data" / "imatrix"
CODE, PROSE = DATA / "imatrix.code.gguf", DATA / "imatrix.prose.gguf"
CLI_PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
Output = pytest.CaptureFixture[str]


def lines(capsys: Output) -> list[str]:
    """What was printed, blanks made one."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]


def run(capsys: Output, *args: object) -> list[str]:
    assert main(["imatrix", *map(str, args)]) == 0
    return lines(capsys)


def fail(capsys: Output, *args: object, status: int = 1) -> str:
    assert main(["imatrix", *map(str, args)]) == status
    return capsys.readouterr().err


@pytest.fixture
def sixty_layers(tmp_path: Path) -> Path:
    """Dense layers, then experts, some of which saw nothing."""
    row = np.ones((1, 8), np.float32)
    experts = np.arange(1, 33, dtype=np.float32).reshape(4, 8)
    entries: dict[str, tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], Sequence[float]]] = {}
    for i in range(60):
        for role in ("attn_q", "attn_k", "attn_v"):
            entries[f"blk.{i}.{role}.weight"] = (row * (i + 1), [512])
        entries[f"blk.{i}.attn_output.weight"] = (row * (i + 2), [512])
        if i < 3:
            entries[f"blk.{i}.ffn_down.weight"] = (row * 3, [512])
        else:
            entries[f"blk.{i}.ffn_down_exps.weight"] = (experts, [9, 0 if i % 2 else 1, 99, 9])
    entries["output.weight"] = (row, [512])
    return write_gguf_imatrix(tmp_path / "m.gguf", entries)


class TestHelp:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_has_words_there_and_in_the_reference(self, name: str, capsys: Output) -> None:
        command = load_command("quantrecipe.cli.imatrix.", name)
        assert isinstance(command, click.Command)
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert all(option.help for option in options)
        section = CLI_PAGE.read_text(encoding="utf-8").split("\n## imatrix\n")[1].split("\n## ")[0]
        usage = re.split(r"\n    (?=\S)|\n\n", section.split(f"    quantrecipe imatrix {name} ")[1])[0]
        assert [p.opts for p in options if not any(spelling in usage for spelling in p.opts)] == []
        said = " ".join(run(capsys, name, "-h"))
        assert f"Examples: quantrecipe imatrix {name}" in said

    def test_the_group_lists_them(self, capsys: Output) -> None:
        said = " ".join(run(capsys, "--help"))
        assert all(f"{name} {short}" in said for name, short in COMMANDS.items())

    def test_a_typo_is_answered(self, capsys: Output) -> None:
        assert "There is no command 'shwo'. Did you mean show?" in fail(capsys, "shwo", CODE, status=2)


class TestShow:
    def test_roles_with_the_same_inputs_share_a_line(self, capsys: Output) -> None:
        said = run(capsys, "show", CODE)
        assert said[0] == "imatrix.code.gguf 28 entries · 190 chunks of 512 · code.calib.txt"
        assert said[1] == "tensor layers tokens Σ(Act²) max active % entropy % ZD % CosSim"
        same = "attn_k, attn_q, attn_v 0-3 97,280 214–239 1.29–4.16 100 98.2–99.8 8.2–15.2 0.89–0.99"
        assert same in said
        assert said[-1].startswith("layers with the most energy (mean Σ(Act²)): 0 (710), 3 (543), 2 (358);")

    def test_sixty_layers_fit_on_a_screen(self, sixty_layers: Path, capsys: Output) -> None:
        said = run(capsys, "show", sixty_layers)
        assert len(said) < 12
        experts = next(line for line in said if line.startswith("ffn_down_exps"))
        assert experts.startswith("ffn_down_exps 3-59 1–99 199/228 ")
        assert said[-2].startswith("output 512")

    def test_all_has_every_number_of_llama_imatrix(self, capsys: Output) -> None:
        said = run(capsys, "show", CODE, "--all")
        down = "ffn_down 0 97,280 768 1713.73 0.0063 35.5832 2.23 3.49 100.00 8.5792 89.51 9.24 –"
        assert down in said
        assert "attn_k 3 97,280 256 239.44 0.4261 3.8713 0.94 0.39 100.00 7.9073 98.84 8.20 0.9908" in said
        assert said[-1] == "3 543.33 11.0677 0.8850"

    def test_dat_files_have_calls(self, capsys: Output) -> None:
        said = run(capsys, "show", DATA / "imatrix.code.dat")
        assert "doesn't say which experts were seen" in said[0]
        assert "layers calls" in said[1]

    def test_tensors_that_nothing_reached(self, capsys: Output) -> None:
        said = run(capsys, "show", DATA / "experts" / "a.gguf")
        assert "ffn_up_exps 1 0 0/4 – – – – – –" in said

    def test_json(self, capsys: Output) -> None:
        assert main(["imatrix", "show", str(DATA / "experts" / "a.gguf"), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["layout"], found["chunks"], found["chunk_size"]) == ("gguf", 2, 512)
        assert found["datasets"] == ["one.txt", "two.txt"]
        by_name = {item["name"]: item for item in found["tensors"]}
        assert by_name["blk.0.ffn_down_exps.weight"]["seen"] == 3
        assert by_name["blk.1.ffn_up_exps.weight"]["total"] is None
        assert [item["layer"] for item in found["layers"]] == [0, 1]

    def test_names_can_not_drive_the_terminal(self, tmp_path: Path, capsys: Output) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([("blk.0.\x1b[31mred.weight", 1, [1, 2])], chunks=1, dataset="\x1b[1m"))
        for args in (["show"], ["show", "--all"], ["diff", path]):
            said = "".join(run(capsys, *args, path))
            assert "\x1b" not in said
        assert "\\x1b[31mred" in said

    def test_other_files(self, tmp_path: Path, capsys: Output) -> None:
        assert "can't be read: No such file" in fail(capsys, "show", tmp_path / "none.gguf")


class TestConvert:
    @pytest.mark.parametrize(
        ("source", "name", "recorded"),
        [
            ("imatrix.code.gguf", "new.dat", "imatrix.code.dat"),
            ("experts/a.dat", "new.gguf", "experts/a-dat.gguf"),
        ],
    )
    def test_writes_what_llama_imatrix_writes(
        self, tmp_path: Path, capsys: Output, source: str, name: str, recorded: str
    ) -> None:
        run(capsys, "convert", DATA / source, tmp_path / name)
        assert (tmp_path / name).read_bytes() == (DATA / recorded).read_bytes()

    def test_says_what_is_lost(self, tmp_path: Path, capsys: Output) -> None:
        said = run(capsys, "convert", DATA / "experts" / "a.gguf", tmp_path / "new.dat")
        assert said[0].endswith("new.dat: 8 entries, 2 chunks of 512, 756 B")
        lost = "not in it, as a .dat file has no place for it: how many tokens each expert saw (2 tensors)"
        assert lost in said

    def test_loses_nothing_of_a_dat_file(self, tmp_path: Path, capsys: Output) -> None:
        assert len(run(capsys, "convert", DATA / "imatrix.code.dat", tmp_path / "new.gguf")) == 1

    def test_chunk_size(self, tmp_path: Path, capsys: Output) -> None:
        out = tmp_path / "new.gguf"
        run(capsys, "convert", DATA / "imatrix.code.dat", out, "--chunk-size", 2048)
        matrix = read_importance(out)
        assert (matrix.chunks, matrix.chunk_size) == (190, 2048)
        assert matrix.entries["blk.0.attn_q.weight"].counts == (190 * 2048,)

    def test_the_layout_is_the_name_s_or_the_option_s(self, tmp_path: Path, capsys: Output) -> None:
        said = fail(capsys, "convert", CODE, tmp_path / "imatrix", status=2)
        assert "Say with --to gguf or --to dat" in said
        run(capsys, "convert", CODE, tmp_path / "imatrix", "--to", "dat")
        assert (tmp_path / "imatrix").read_bytes() == (DATA / "imatrix.code.dat").read_bytes()

    def test_existing_files_are_kept_unless_forced(self, tmp_path: Path, capsys: Output) -> None:
        out = tmp_path / "new.dat"
        out.write_bytes(b"precious")
        assert "exists; say --force to replace it" in fail(capsys, "convert", CODE, out)
        assert out.read_bytes() == b"precious"
        run(capsys, "convert", CODE, out, "--force")
        assert out.read_bytes() == (DATA / "imatrix.code.dat").read_bytes()

    def test_onto_itself(self, tmp_path: Path, capsys: Output) -> None:
        out = tmp_path / "imatrix"
        out.write_bytes(CODE.read_bytes())
        run(capsys, "convert", out, out, "--to", "dat", "--force")
        assert out.read_bytes() == (DATA / "imatrix.code.dat").read_bytes()

    def test_failing_leaves_nothing_behind(self, tmp_path: Path, capsys: Output) -> None:
        source, out = tmp_path / "m.dat", tmp_path / "new.gguf"
        source.write_bytes(dat_bytes([("a", 1, [1.0]), ("b", 1, [3e38])]))
        assert "b: a sum of squares is larger than float32 can hold" in fail(capsys, "convert", source, out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m.dat"]


class TestMerge:
    def test_writes_what_llama_imatrix_writes(self, tmp_path: Path, capsys: Output) -> None:
        said = run(capsys, "merge", tmp_path / "new.gguf", CODE, PROSE)
        assert said[0].endswith("new.gguf: 28 entries, 412 chunks of 512, 40.38 KiB")
        assert (tmp_path / "new.gguf").read_bytes() == (DATA / "imatrix.merged.gguf").read_bytes()

    def test_weights(self, tmp_path: Path, capsys: Output) -> None:
        out = tmp_path / "new.gguf"
        run(capsys, "merge", out, CODE, PROSE, "--weights", "1.0,0.5")
        run(capsys, "merge", tmp_path / "twice.gguf", CODE, CODE, PROSE)
        assert read_importance(out).digest == read_importance(tmp_path / "twice.gguf").digest

    @pytest.mark.parametrize(
        ("args", "status", "said"),
        [
            (["--weights", "1"], 2, "There are 1 weights for 2 matrices."),
            (["--weights", "1;2"], 2, "'1;2' is not a list of numbers such as 2,1"),
            (["--weights", "1,-2"], 1, "a weight is not positive: 1, -2"),
        ],
    )
    def test_weights_that_make_no_sense(
        self, tmp_path: Path, capsys: Output, args: list[str], status: int, said: str
    ) -> None:
        assert said in fail(capsys, "merge", tmp_path / "new.gguf", CODE, PROSE, *args, status=status)

    def test_one_matrix_is_no_sum(self, tmp_path: Path, capsys: Output) -> None:
        assert "two matrices or more" in fail(capsys, "merge", tmp_path / "new.gguf", CODE, status=2)

    def test_inputs_in_the_wrong_place_are_not_overwritten(self, tmp_path: Path, capsys: Output) -> None:
        first = tmp_path / "first.gguf"
        first.write_bytes(CODE.read_bytes())
        assert "exists" in fail(capsys, "merge", first, CODE, PROSE)
        assert first.read_bytes() == CODE.read_bytes()


class TestDiff:
    def test_the_most_changed_first(self, capsys: Output) -> None:
        said = run(capsys, "diff", CODE, PROSE)
        assert said[0] == "28 of 28 tensors changed, half of all by more than 0.23"
        assert said[3] == "blk.3.ffn_down.weight 1.1921 0.6675 0.1085 1.4948"
        assert said[-1] == "and 8 that changed less; --all shows them"
        assert len(run(capsys, "diff", CODE, PROSE, "--all")) == 3 + 28

    def test_the_same(self, capsys: Output) -> None:
        assert run(capsys, "diff", CODE, CODE)[0] == "the same importance"

    def test_threshold(self, capsys: Output) -> None:
        run(capsys, "diff", CODE, DATA / "imatrix.code.dat", "--threshold", "1e-6")
        said = fail(capsys, "diff", CODE, PROSE, "--threshold", 0.5)
        assert said.endswith("imatrix.prose.gguf: 6 of 28 tensors changed by more than 0.5\n")

    def test_threshold_and_tensors_of_one_only(self, capsys: Output) -> None:
        a, b = DATA / "experts" / "a.gguf", DATA / "experts" / "a.dat"
        said = fail(capsys, "diff", a, b, "--threshold", 1)
        assert "0 of 7 tensors changed by more than 1, and 1 is in one matrix only" in said

    def test_unpaired_experts_and_strangers(self, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(DATA / "experts")  # short names: the line wraps nowhere, wherever the clone is
        said = run(capsys, "diff", "a.gguf", "b.gguf")
        assert said[1].endswith("energy unpaired experts")
        assert any(line.startswith("blk.0.ffn_down_exps.weight") and line.endswith(" 1") for line in said)
        names = "blk.1.attn_q.weight, blk.1.ffn_up_exps.weight, output.weight"
        assert said[-1] == f"only in a.gguf: {names}"

    def test_json(self, capsys: Output) -> None:
        assert main(["imatrix", "diff", str(CODE), str(PROSE), "--json", "--threshold", "0.5"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert len(found["tensors"]) == 28
        assert found["tensors"][0]["name"] == "blk.3.ffn_down.weight"
        assert (found["only_first"], found["only_second"]) == ([], [])


class TestProvenance:
    ONE, OTHER = (f"v1:{digit * 16}:{digit * 32}" for digit in "12")
    MADE = Provenance(
        texts=(
            CalibrationText(name="code", digest="a" * 32, tokens=4096, weight=2),
            CalibrationText(name="evil\x1b[31m"),
        ),
        fingerprint=ONE,
        engine="llama.cpp b7000",
        contexts=(512, 4096),
        seed=7,
        all_experts=True,
    )

    @pytest.fixture
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """one.gguf and other.gguf state two models, in the current folder: short names wrap nowhere."""
        monkeypatch.chdir(tmp_path)
        with_provenance(CODE, self.MADE, tmp_path / "one.gguf")
        with_provenance(PROSE, Provenance(fingerprint=self.OTHER), tmp_path / "other.gguf")
        return tmp_path

    @pytest.mark.usefixtures("files")
    def test_is_shown_where_the_file_has_one(self, capsys: Output) -> None:
        said = run(capsys, "show", "one.gguf")
        assert said[1:7] == [
            f"model {self.ONE}",
            "engine llama.cpp b7000",
            "contexts 512, 4,096",
            "seed 7",
            "experts every token went through all",
            "text tokens weight XXH3-128",
        ]
        assert f"code 4,096 2 {'a' * 32}" in said
        assert "evil\\x1b[31m ? 1 ?" in said
        assert "model" not in " ".join(run(capsys, "show", CODE))

    @pytest.mark.usefixtures("files")
    def test_is_plain_data_for_machines(self, capsys: Output) -> None:
        for path, expected in (("one.gguf", plain(self.MADE)), (CODE, None)):
            assert main(["imatrix", "show", str(path), "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["provenance"] == expected

    @pytest.mark.usefixtures("files")
    def test_is_lost_in_a_dat_file_and_not_in_a_gguf(self, capsys: Output) -> None:
        said = run(capsys, "convert", "one.gguf", "out.dat")
        assert any(
            "where it comes from (the model, the texts and how they were run)" in line for line in said
        )
        run(capsys, "convert", "one.gguf", "out.gguf")
        assert Path("out.gguf").read_bytes() == Path("one.gguf").read_bytes()

    def test_of_two_models_is_merged_only_if_somebody_insists(self, files: Path, capsys: Output) -> None:
        said = " ".join(fail(capsys, "merge", "out.gguf", "one.gguf", "other.gguf").split())
        assert "other.gguf: is of another model than one.gguf" in said
        assert not (files / "out.gguf").exists()
        said = " ".join(
            run(capsys, "merge", "out.gguf", "one.gguf", "other.gguf", "--imatrix-of-another-model")
        )
        assert "it doesn't say which model it is of, since the files are of several" in said
        assert read_importance(files / "out.gguf").fingerprint == ""

    def test_of_one_model_is_joined(self, files: Path, capsys: Output) -> None:
        said = " ".join(run(capsys, "merge", "out.gguf", "one.gguf", "one.gguf"))
        assert "which model" not in said
        found = read_importance(files / "out.gguf").provenance
        assert found is not None
        assert (found.fingerprint, found.texts[0].tokens) == (self.ONE, 8192)

    @pytest.mark.usefixtures("files")
    def test_of_a_sum_with_a_silent_file_names_no_model(self, capsys: Output) -> None:
        said = " ".join(run(capsys, "merge", "out.gguf", "one.gguf", CODE, PROSE))
        assert "it doesn't say which model it is of, since 2 of 3 files don't either" in said

    @pytest.mark.usefixtures("files")
    def test_of_two_models_is_told_by_diff(self, capsys: Output) -> None:
        assert run(capsys, "diff", "one.gguf", "other.gguf")[0] == (
            "the files say that they are of different models"
        )
        assert "models" not in run(capsys, "diff", "one.gguf", CODE)[0]
