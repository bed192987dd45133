"""The engine: where it is looked for, what is said where it can't be used, and a whole evaluation by a library of ours.

`support/fake_llama.c` has llama.cpp's interface, in the layouts of several versions, and is compiled here.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.engine_jobs import answers, pieces, weights_of

from quantrecipe.engine import Engine, Session, engine_facts, find_engine, libraries, require_engine
from quantrecipe.engine import report as report_module
from quantrecipe.engine.bindings import remedy_of
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Text, make_reference, score

SOURCE = Path(__file__).parents[1] / "support/fake_llama.c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
TEXT = Text(name="t", data=bytes(range(32, 120)) * 8)

Build = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has. The worker finds what tests have it run."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    for name in ("QUANTRECIPE_ENGINE", "LLAMA_CPP_LIB_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compiles the library with the macros given: its folder; or, under another name, the file."""
    if COMPILER is None or sys.platform == "win32":
        pytest.skip("there is no C compiler")

    def compiled(folder: str = "engine", *, name: str = "", **macros: int) -> Path:
        place = tmp_path / folder
        place.mkdir(parents=True)
        defined = [f"-D{macro}={value}" for macro, value in ({"LAYOUT": 4} | macros).items()]
        made = place / (name or "libllama.so")
        command = [str(COMPILER), "-shared", "-fPIC", *defined, str(SOURCE), "-o", str(made), "-lm"]
        subprocess.run(
            [*command, *([f"-Wl,-soname,{name}"] if name else [])], check=True, capture_output=True
        )
        return made if name else place

    return compiled


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUFa")
    return path


def library(folder: Path, name: str = "libllama.so") -> Path:
    """A file of that name, that is no library."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("no library", encoding="ascii")
    return folder / name


class TestFound:
    @pytest.mark.parametrize("name", ["libllama.so", "libllama.dylib", "llama.dll"])
    @pytest.mark.parametrize("place", [".", "lib", "bin", "build/bin", "lib64", "build/bin/Release"])
    def test_in_a_folder_of_builds_and_installations(self, tmp_path: Path, place: str, name: str) -> None:
        there = library(tmp_path / place, name)
        engine = find_engine(tmp_path)
        assert engine == Engine(library=there, source="--engine")
        assert engine.folder == there.parent

    @pytest.mark.parametrize("place", ["llama-b6000", "llama-b6000/build/bin", "x/lib"])
    def test_in_a_release_that_was_unpacked(self, tmp_path: Path, place: str) -> None:
        there = library(tmp_path / place)
        assert find_engine(str(tmp_path)).library == there

    def test_of_several_releases_one_is_to_be_named(self, tmp_path: Path) -> None:
        for name in ("llama-b6000", "llama-b7000"):
            library(tmp_path / name)
        with pytest.raises(EvaluationError, match="in it: llama-b6000, llama-b7000; name one of them"):
            find_engine(tmp_path)
        assert find_engine(tmp_path / "llama-b7000").folder == tmp_path / "llama-b7000"

    def test_not_beside_a_folder_that_is_no_bin(self, tmp_path: Path) -> None:
        library(tmp_path / "lib")
        (tmp_path / "empty").mkdir()
        with pytest.raises(EvaluationError, match="there is no libllama in it"):
            find_engine(tmp_path / "empty")

    def test_the_library_itself(self, tmp_path: Path) -> None:
        there = library(tmp_path, "libllama.so.0")
        assert find_engine(there).library == there

    def test_beside_a_program(self, tmp_path: Path) -> None:
        program = library(tmp_path / "bin", "llama-cli")
        there = library(tmp_path / "lib")
        assert find_engine(program).library == there
        assert find_engine(program.parent).library == there

    def test_where_a_link_to_a_program_leads(self, tmp_path: Path) -> None:
        """As package managers have them."""
        program = library(tmp_path / "Cellar/llama.cpp/1/bin", "llama-cli")
        there = library(tmp_path / "Cellar/llama.cpp/1/lib")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/llama-cli").symlink_to(program)
        assert find_engine(tmp_path / "bin/llama-cli").library == there

    def test_a_program_by_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = library(tmp_path / "bin", "llama-cli")
        program.chmod(0o755)
        there = library(tmp_path / "bin")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        assert find_engine("llama-cli").library == there

    def test_in_the_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert (
            find_engine("~/llama.cpp" if library(tmp_path / "llama.cpp") else "").folder
            == tmp_path / "llama.cpp"
        )

    @pytest.mark.parametrize("name", ["QUANTRECIPE_ENGINE", "LLAMA_CPP_LIB_PATH"])
    def test_in_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        there = library(tmp_path / "theirs")
        monkeypatch.setenv(name, str(tmp_path / "theirs"))
        assert find_engine() == Engine(library=there, source=name)
        ours = library(tmp_path / "ours")
        assert find_engine(tmp_path / "ours").library == ours  # what is said on the command line counts

    def test_that_of_llama_cpp_python_comes_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()  # the real find_spec
        monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)  # which other tests import
        there = library(tmp_path / "llama_cpp/lib")
        (tmp_path / "llama_cpp/__init__.py").write_text("raise ImportError('it is not imported')")
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("QUANTRECIPE_ENGINE", "LLAMA_CPP_LIB_PATH"):
            monkeypatch.delenv(name, raising=False)
        assert find_engine() == Engine(library=there, source="llama-cpp-python")
        monkeypatch.setenv("QUANTRECIPE_ENGINE", str(tmp_path / "none"))
        with pytest.raises(EvaluationError, match="QUANTRECIPE_ENGINE names it"):  # not looked for elsewhere
            find_engine()

    def test_an_engine_is_itself(self, tmp_path: Path) -> None:
        engine = Engine(library=tmp_path / "x", source="--engine")
        assert find_engine(engine) is engine


class TestMissing:
    def test_three_ways_are_named(self) -> None:
        with pytest.raises(EvaluationError, match=r"there is no llama\.cpp to run models with") as error:
            require_engine()
        said = str(error.value).splitlines()
        assert said[1].endswith("(seconds): --engine FOLDER")
        assert "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu" in said[2]
        assert said[3].endswith("(5 to 30 minutes): pip install llama-cpp-python")
        assert len(said) == 4

    def test_a_llama_cpp_that_is_there_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = library(tmp_path / "bin", "llama-server")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        with pytest.raises(EvaluationError) as error:
            find_engine()
        assert "--engine FOLDER" in str(error.value)  # one without libraries is of no use
        library(tmp_path / "lib")
        with pytest.raises(EvaluationError) as error:
            find_engine()
        assert f"(seconds): --engine {program}\n" in str(error.value)

    def test_nothing_of_that_name(self, tmp_path: Path) -> None:
        with pytest.raises(
            EvaluationError, match=r"none: --engine names it .* there is nothing of that name"
        ):
            find_engine(tmp_path / "none")

    def test_a_folder_without_libraries(self, tmp_path: Path) -> None:
        message = r"there is no libllama in it; .*-DBUILD_SHARED_LIBS=OFF has none: build it with ON"
        with pytest.raises(EvaluationError, match=message):
            find_engine(tmp_path)

    def test_a_program_without_libraries(self, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match="there is no libllama beside it"):
            find_engine(library(tmp_path, "llama-cli"))


class TestRefused:
    def test_a_text_of_that_name(self, tmp_path: Path) -> None:
        there = library(tmp_path)
        with pytest.raises(
            EvaluationError, match=r"libllama\.so: can't be loaded: .*: take a build for it"
        ) as error:
            require_engine(tmp_path)
        assert error.value.problems[0].file == str(there)

    def test_a_library_without_a_function(self, build: Build) -> None:
        with pytest.raises(
            EvaluationError, match=r"it lacks functions of llama\.cpp: llama_get_logits; known are"
        ):
            require_engine(build(LACKS=1))

    @pytest.mark.parametrize(
        ("layout", "message"),
        [
            (8, "n_ctx is -1 in llama_context_params, not 512"),
            (9, "n_gpu_layers and split_mode are in no known place"),
        ],
    )
    def test_structs_that_aren_t_known(self, build: Build, layout: int, message: str) -> None:
        with pytest.raises(EvaluationError) as error:
            require_engine(build(LAYOUT=layout))
        said = str(error.value)
        assert f"this llama.cpp (ggml 0.0.7) has other structs than those that are known: {message}" in said
        assert "known are llama.cpp from January 2025" in said
        assert "or a newer quantrecipe" in said

    def test_a_library_that_can_t_be_looked_into(
        self, build: Build, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It runs models all the same."""
        engine = build()
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        with Session(model, engine=engine) as session:
            for _ in range(2):  # the session goes on
                with pytest.raises(EvaluationError) as error:
                    session.call(weights_of)
                assert "this llama.cpp (ggml 0.0.7) can't be looked into: it lacks ggml_init" in str(
                    error.value
                )
        make_reference(model, TEXT, tmp_path / "out", n_ctx=54, engine=engine)

    def test_a_context_that_got_something_else(self, build: Build, model: Path, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match=r"a context has n_seq_max 14, and was to get 13"):
            make_reference(model, TEXT, tmp_path / "out", n_ctx=54, engine=build(OTHER_CONTEXT=1))

    def test_a_batch_of_another_layout(self, build: Build, model: Path, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match="llama_batch_init leaves other fields"):
            make_reference(model, TEXT, tmp_path / "out", n_ctx=54, engine=build(OTHER_BATCH=1))

    def test_no_backend(self, build: Build) -> None:
        with pytest.raises(EvaluationError, match="finds no backend for the CPU"):
            require_engine(build(LAYOUT=4, DYNAMIC=3))

    @pytest.mark.skipif(sys.platform != "linux", reason="libraries are linked as on Linux")
    def test_a_library_that_needs_another(self, build: Build, tmp_path: Path) -> None:
        """It isn't found, as in a folder that was moved, unless it stands beside it."""
        needed = build("other", name="libggml.so.0")
        place = self.linked(tmp_path / "engine", needed)
        with pytest.raises(
            EvaluationError, match=r"can't be loaded: libggml\.so\.0: .*; keep the folder whole"
        ):
            require_engine(place)
        needed.rename(place / needed.name)
        assert require_engine(place).folder == place

    @pytest.mark.skipif(sys.platform != "linux", reason="libraries are linked as on Linux")
    def test_what_stands_beside_it_comes_before_what_it_remembers(self, build: Build, tmp_path: Path) -> None:
        """A copy of a build, whose own folder has another version by now."""
        newer = build("build", name="libggml.so.0")
        place = self.linked(tmp_path / "copy", newer, f"-Wl,-rpath,{newer.parent}")
        assert engine_facts(find_engine(place)).version == "ggml 0.0.7"
        build("older", name="libggml.so.0", OLDER=1).rename(place / "libggml.so")
        assert engine_facts(find_engine(place)).version == "ggml 0.0.6"

    @staticmethod
    def linked(place: Path, needed: Path, *options: str) -> Path:
        """A folder with a libllama.so that has nothing in it and is linked with a library."""
        place.mkdir()
        (place / "empty.c").write_text("int nothing;\n", encoding="ascii")
        command = [
            str(COMPILER),
            "-shared",
            "-fPIC",
            str(place / "empty.c"),
            "-o",
            str(place / "libllama.so"),
        ]
        command += ["-Wl,--no-as-needed", f"-L{needed.parent}", f"-l:{needed.name}", *options]
        subprocess.run(command, check=True)
        return place

    @pytest.mark.skipif(sys.platform != "linux", reason="libraries are ELF files")
    def test_a_library_for_another_processor(self, build: Build) -> None:
        folder = build()
        data = bytearray((folder / "libllama.so").read_bytes())
        data[18:20] = (0x16).to_bytes(2, sys.byteorder)  # EM_S390
        (folder / "libllama.so").write_bytes(data)
        with pytest.raises(EvaluationError, match="it is for another processor, s390x; take a"):
            require_engine(folder)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("libgomp.so.1: cannot open shared object file: No such file or directory", "libgomp1 on Debian"),
        ("libcudart.so.12: cannot open shared object file: No such file or directory", "CUDA runtime"),
        (
            "/lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/libggml-base.so.0)",
            "for a newer system",
        ),
        ("Error loading shared library libgomp.so.1: No such file (needed by /x/libggml-cpu.so)", "libgomp1"),
        ("dlopen(/x/libllama.dylib, 6): Library not loaded: @rpath/libggml.0.dylib", "keep the folder whole"),
        ("libggml.so.0: cannot open shared object file: No such file or directory", "keep the folder whole"),
        (
            "(mach-o file, but is an incompatible architecture (have 'x86_64', need 'arm64'))",
            "for this system",
        ),
        ("[WinError 193] %1 is not a valid Win32 application", "for this system"),
        ("something else", ""),
    ],
)
def test_what_to_do_about_what_the_loader_says(said: str, remedy: str) -> None:
    found = remedy_of(said)
    assert remedy in found
    assert bool(remedy) == bool(found)


class TestRun:
    @pytest.mark.parametrize("layout", [1, 2, 3, 4])
    def test_every_layout_gives_the_same(
        self, build: Build, layout: int, model: Path, tmp_path: Path
    ) -> None:
        """Against what the library computes, which is written here again."""
        engine = find_engine(build(LAYOUT=layout))
        log: list[str] = []
        settings = {"threads": 3, "engine": engine, "log": log.append}
        reference = make_reference(model, TEXT, tmp_path / "r", n_ctx=64, tail=0, **settings)  # type: ignore[arg-type]  # by name
        assert {"gpu layers: 999", "threads: 3 3", "cleared"} <= set(log)
        other = tmp_path / "other.gguf"
        other.write_bytes(b"GGUFz")
        positions = score(other, reference, **settings)  # type: ignore[arg-type]  # by name
        p, q = (self.log_p(seed, reference.tokens) for seed in (ord("a"), ord("z")))
        assert positions.divergence == pytest.approx((np.exp(p) * (p - q)).sum(axis=1), rel=0.02, abs=1e-4)
        targets = reference.targets.ravel()
        assert positions.cost == pytest.approx(-q[np.arange(len(q)), targets], abs=1e-3)

    @staticmethod
    def log_p(seed: int, chunks: np.ndarray) -> np.ndarray:
        """float64 (positions, 64): of the scored second half of each chunk."""
        position = np.arange(32, 63)
        last = chunks[:, position].reshape(-1, 1)
        token = np.arange(64)
        at = np.tile(position, len(chunks))[:, None]
        logits = np.sin(last * 3.7 + token * 1.3 + at * 0.1) * 4 + seed * 1e-2 * (token % 5)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))

    def test_the_noise_is_of_other_batches(self, build: Build, model: Path, tmp_path: Path) -> None:
        log: list[str] = []
        other = Text(name="other", data=bytes(range(40, 120)) * 8)
        reference = make_reference(
            model,
            [TEXT, other],
            tmp_path / "r",
            n_ctx=64,
            noise_chunks=3,
            engine=build(),
            log=log.append,
        )
        assert [line for line in log if line.startswith("sequences")] == [
            "sequences: 1, computed at a time: 16",
            f"sequences: {reference.chunks}, computed at a time: 512",
        ]
        assert reference.noise is not None
        assert reference.noise.positions == 3 * 31
        assert 0 <= reference.noise.mean <= reference.noise.largest < 1e-6
        assert reference.blocks is not None
        assert reference.blocks.tolist() == list(range(reference.chunks))  # of both texts

    @pytest.mark.parametrize(("given", "said"), [(None, 999), (-1, 999), (0, 0), (3, 3)])
    def test_layers_on_the_gpu(
        self, build: Build, model: Path, tmp_path: Path, given: int | None, said: int
    ) -> None:
        log: list[str] = []
        make_reference(
            model, TEXT, tmp_path / "r", n_ctx=64, gpu_layers=given, engine=build(), log=log.append
        )
        assert f"gpu layers: {said}" in log

    def test_backends_are_loaded_from_the_folder(self, build: Build, model: Path, tmp_path: Path) -> None:
        folder = build(DYNAMIC=1)
        log: list[str] = []
        make_reference(model, TEXT, tmp_path / "r", n_ctx=64, engine=folder, log=log.append)
        assert any(line.startswith(str(folder)) for line in log)
        assert [device.name for device in engine_facts(find_engine(folder)).devices] == ["FAKE0", "CPU"]

    def test_backends_that_only_ggml_knows(self, build: Build) -> None:
        assert len(engine_facts(find_engine(build(DYNAMIC=2))).devices) == 2

    def test_what_it_can_t_load(self, build: Build, tmp_path: Path) -> None:
        path = tmp_path / "bad.gguf"
        path.write_bytes(b"GGUFx")
        with pytest.raises(EvaluationError, match=r"bad\.gguf: llama\.cpp can't load it: it is no model$"):
            make_reference(path, TEXT, tmp_path / "r", n_ctx=64, engine=build())

    def test_a_crash(self, build: Build, model: Path, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match=r"llama\.cpp crashed \(SIGABRT\)"):
            make_reference(model, TEXT, tmp_path / "r", n_ctx=64, engine=build(DIES=1))


class TestFacts:
    def test_what_it_says(self, build: Build) -> None:
        folder = build()
        said = engine_facts(find_engine(folder))
        assert said.version == "ggml 0.0.7"
        assert said.label == "llama.cpp ggml 0.0.7"
        assert said.refused == ()
        gpu, cpu = said.devices
        assert (gpu.name, gpu.description, gpu.total, gpu.free, gpu.is_cpu) == (
            *("FAKE0", "A graphics card", 8 << 30, 7 << 30, False),
        )
        assert (cpu.name, cpu.total, cpu.is_cpu) == ("CPU", 0, True)
        assert require_engine(folder) == find_engine(folder)

    def test_whether_it_can_be_looked_into(self, build: Build) -> None:
        """This library has none of the functions of ggml's tensors."""
        sealed = engine_facts(find_engine(build())).sealed
        assert re.search(
            r"this llama\.cpp \(ggml 0\.0\.7\) .*(has other structs|can't be looked into)", sealed
        )

    def test_a_release_s_file_has_its_build(self, build: Build) -> None:
        folder = build()
        (folder / "libllama.so").rename(folder / "libllama.so.0.0.6543")
        (folder / "libllama.so").symlink_to("libllama.so.0.0.6543")
        assert engine_facts(find_engine(folder)).version == "b6543, ggml 0.0.7"

    def test_backends_that_can_t_be_loaded(self, build: Build) -> None:
        folder = build()
        for name in (
            "libggml-cuda.so",
            "libggml-cpu-haswell.so",
            "libggml-fake.so",
        ):  # the last is there: FAKE0
            library(folder, name)
        (refused,) = engine_facts(find_engine(folder)).refused
        assert refused.startswith("libggml-cuda.so: ")
        assert str(folder) not in refused
        assert refused.endswith("; it is no library for this system: take a build for it")

    def test_the_label_of_llama_cpp_python(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = Engine(library=tmp_path, source="llama-cpp-python")
        said = report_module.EngineFacts(engine=engine, version="ggml 1", devices=(), refused=())
        monkeypatch.setattr(report_module, "version", lambda name: "0.3.99")
        assert said.label == "llama-cpp-python 0.3.99 (ggml 1)"


class TestAnswers:
    TEXTS = (b"abc", b"d", b"efghijk" * 9, b"lm")

    @staticmethod
    def likeliest(prompt: list[int], n: int, end: int) -> list[int]:
        """What fake_llama.c says after a token: it depends on that and its position alone."""
        token, position, said = prompt[-1], len(prompt) - 1, []
        for _ in range(n):
            row = [math.sin(token * 3.7 + it * 1.3 + position * 0.1) for it in range(64)]
            # Its seed, "a", adds a little to some tokens; a prompt's own first token makes the sine larger.
            size = 4 if position < len(prompt) else 3
            row = [size * value + 0.97 * (it % 5) for it, value in enumerate(row)]
            token, position = max(range(64), key=row.__getitem__), position + 1
            if token == end:
                break
            said.append(token)
        return said

    @pytest.mark.parametrize("side_by_side", [None, 1, 3])
    def test_answers(self, build: Build, model: Path, side_by_side: int | None) -> None:
        with Session(model, engine=build(ENDS=24)) as session:
            said, prompts = session.call(answers, self.TEXTS, 40, side_by_side)
        assert said == [self.likeliest(prompt, 40, 24) for prompt in prompts]
        assert {len(answer) for answer in said} != {40}

    @pytest.mark.parametrize(("given", "together"), [(None, 4), (3, 3)])
    def test_how_many_are_run_at_a_time(
        self, build: Build, model: Path, given: int | None, together: int
    ) -> None:
        log: list[str] = []
        with Session(model, engine=build(), log=log.append) as session:
            session.call(answers, self.TEXTS, 2, given)
        assert [line for line in log if line.startswith("sequences")] == [
            f"sequences: {together}, computed at a time: {min(512, together * 66)}"
        ]

    def test_an_engine_that_doesn_t_say_what_ends_a_text(
        self,
        build: Build,
        model: Path,
    ) -> None:
        with Session(model, engine=build()) as session:
            said, prompts = session.call(answers, self.TEXTS, 12, None)
        assert said == [self.likeliest(prompt, 12, -1) for prompt in prompts]

    def test_pieces(self, build: Build, model: Path) -> None:
        with Session(model, engine=build()) as session:
            assert session.call(pieces, [3, 60, 3]) == ([b"<3>", b"<60>" + b" " * 100, b"<3>"], 1)

    def test_an_engine_without_pieces(self, build: Build, model: Path) -> None:
        with (
            Session(model, engine=build(NO_PIECES=1)) as session,
            pytest.raises(EvaluationError, match="can't turn tokens into text"),
        ):
            session.call(pieces, [3])
