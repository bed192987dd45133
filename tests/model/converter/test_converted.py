"""llama.cpp's converter as a source, with a script in its place that uses the same writer.

That the real one's tensors come out right was tried with PyTorch, which these tests do without (docs/converter.md).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from quantrecipe.cli.app import app
from quantrecipe.errors import ModelError, UnknownArchitectureError
from quantrecipe.model.converter import converted
from quantrecipe.model.converter import converted as module_function
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.remote_files import file_pieces, file_size

REGISTRY = load_registry(plugins=False)
ROOT = Path(__file__).parents[3]
WORKER = Path(sys.modules[module_function.__module__].__file__ or "").with_name("worker.py")
SCRIPT = '''
"""A converter: everything that quantrecipe asks of one."""
import sys, os
from pathlib import Path
import numpy as np
import gguf
from gguf.lazy import LazyNumpyTensor

arguments = sys.argv[1:]
out = Path(arguments[arguments.index("--outfile") + 1])
print("Loading model:", arguments)  # to standard output, as anything may
writer = gguf.GGUFWriter(path=None, arch="llama")
writer.add_block_count(1)
rng = np.random.default_rng(0)
FOLDER = Path(arguments[0])

def computed(seed, rows):
    (FOLDER / "computed.txt").open("a").write(f"{seed}\\n")
    return np.random.default_rng(seed).standard_normal((rows, 256)).astype(np.float32)

def lazy(seed, rows):
    meta = LazyNumpyTensor.meta_with_dtype_and_shape(np.float32, (rows, 256))
    return LazyNumpyTensor(meta=meta, args=(seed, rows), func=computed)

for number, name in enumerate(("attn_q", "attn_k", "ffn_up", "ffn_gate", "ffn_down")):
    writer.add_tensor(f"blk.0.{name}.weight", lazy(number, 256 + number))
writer.add_tensor("token_embd.weight", rng.standard_normal((300, 256)).astype(np.float16))
writer.add_tensor("output_norm.weight", np.ones(255, np.float32))  # with padding behind it
changed = lazy(9, 300)
changed[:10] *= 2  # which the converter computes at once, in place
writer.add_tensor("output.weight", changed)
# HERE
writer.write_header_to_file(path=out)
writer.write_kv_data_to_file()
writer.write_tensors_to_file(progress=False)
writer.close()
'''


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where temporary files go. At the end of a test all ends that would otherwise be at the end of the process.

    This Python will do, though it may have no PyTorch.
    """
    module, place = sys.modules[module_function.__module__], tmp_path / "temporary"
    place.mkdir()
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr(module, "_NEEDED", ("json",))
    monkeypatch.setattr(module, "_SHARED", place)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(
        module, "atexit", SimpleNamespace(register=lambda end, *its: ends.append(partial(end, *its)))
    )
    yield place
    for end in reversed(ends):
        end()
    assert list(place.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a class that nobody knows."""
    folder = tmp_path / "New-7B"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["NewForCausalLM"], "model_type": "new"}', "utf-8")
    shutil.copy(ROOT / "examples/tiny-code/model.safetensors", folder)
    return folder


def checkout(tmp_path: Path, here: str = "", script: str = SCRIPT) -> Path:
    made = tmp_path / "llama.cpp"
    made.mkdir(exist_ok=True)
    (made / "convert_hf_to_gguf.py").write_text(script.replace("# HERE", here), "utf-8")
    return made


def written(folder: Path, script: Path, out: Path) -> Path:
    """The file that the converter writes by itself."""
    arguments = [str(folder), "--outtype", "bf16", "--outfile", str(out)]
    subprocess.run(
        [sys.executable, str(script / "convert_hf_to_gguf.py"), *arguments], check=True, capture_output=True
    )
    return out


def applied(source: Path, out: Path, recipe: str = "llama.cpp/Q4_K_M", **more: Path) -> bytes:
    model = open_model(source, registry=REGISTRY, **more)  # type: ignore[arg-type]
    plan = make_plan(load_recipe(recipe, registry=REGISTRY), model, registry=REGISTRY)
    return apply_plan(plan, out, registry=REGISTRY, threads=2).path.read_bytes()


@pytest.mark.parametrize("recipe", ["llama.cpp/Q4_K_M", "llama.cpp/F32"])
def test_the_same_as_from_the_converter_s_file(folder: Path, tmp_path: Path, recipe: str) -> None:
    there = checkout(tmp_path)
    expected = applied(written(folder, there, tmp_path / "New-7B.gguf"), tmp_path / "a.gguf", recipe)
    (folder / "computed.txt").unlink()
    assert applied(folder, tmp_path / "b.gguf", recipe, converter=there) == expected
    # Lazily, and hardly more than once each.
    computed = (folder / "computed.txt").read_text().split()
    assert set(computed) == {"0", "1", "2", "3", "4", "9"}
    assert computed.count("9") == 1
    assert len(computed) <= 8


def test_it_is_the_file_that_the_converter_writes(folder: Path, tmp_path: Path) -> None:
    """Header, tensors and padding: as what hashes a model reads it."""
    there = checkout(tmp_path)
    path = converted(folder, there)
    assert file_size(path) == len(expected := written(folder, there, tmp_path / "there.gguf").read_bytes())
    for count in (1 << 20, 1000):
        assert b"".join(file_pieces(path, count)) == expected


def test_a_plan_computes_nothing(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder, converter=checkout(tmp_path), registry=REGISTRY)
    assert [it.name for it in model.tensors][:2] == ["blk.0.attn_q.weight", "blk.0.attn_k.weight"]
    assert model.path == folder
    assert folder / "model.safetensors" in model.files  # which nothing may write over
    assert (folder / "computed.txt").read_text() == "9\n"


def test_the_environment_names_one_for_what_isn_t_known(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UnknownArchitectureError, match=r"quantrecipe plan Q4_K_M MODEL --converter llama\.cpp"
    ):
        open_model(folder, registry=REGISTRY)
    monkeypatch.setenv("QUANTRECIPE_CONVERTER", str(checkout(tmp_path)))
    assert open_model(folder, registry=REGISTRY).arch == "llama"
    assert len(open_model(ROOT / "examples/tiny-code", registry=REGISTRY).tensors) == 38


def test_the_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--converter", str(checkout(tmp_path))]
    for words in (
        ["apply", "Q4_K_M", str(folder)],
        ["verify", "New-7B-Q4_K_M.gguf", "--source", str(folder)],
    ):
        result = CliRunner().invoke(app, ["--no-plugins", *words, *more])
        assert result.exit_code == 0, result.output
    assert "Loading model" not in result.output


@pytest.mark.parametrize(("part", "options"), [("model", []), ("mmproj", ["--mmproj"]), ("mtp", ["--mtp"])])
def test_what_the_converter_is_told(folder: Path, tmp_path: Path, part: str, options: list[str]) -> None:
    """The type that loses nothing, and which part."""
    note = 'FOLDER.joinpath("said.txt").write_text(" ".join(arguments))'
    converted(folder, checkout(tmp_path, note), part=part, dtypes=["F32", "BF16", "BF16"])
    said = (folder / "said.txt").read_text().split()
    assert said[said.index("--outtype") + 1] == "bf16"
    assert [it for it in said if it in ("--mmproj", "--mtp")] == options


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["F32"], "f32"),
        (["F16", "F32", "F16"], "f16"),
        (["F8_E4M3"], "bf16"),
        (["I32", "F16"], "bf16"),
        ([], "bf16"),
    ],
)
def test_the_type_that_loses_nothing_of_most(dtypes: list[str], expected: str) -> None:
    assert sys.modules[module_function.__module__]._outtype(dtypes) == expected


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (
            "raise NotImplementedError('New is not supported')",
            "ended with status 1 before it was done",
        ),
        ("os._exit(3)", "ended with status 3 before it was done with the model"),
        ("os.kill(os.getpid(), 9)", r"was killed \(signal 9\) before it was done with the model"),
        ("sys.exit(0)", "ended before it was done with the model"),
        ("writer.tensors = [{}]", "isn't understood"),
        ("del gguf.GGUFWriter.write_ti_data_to_file", "has no attribute 'write_ti_data_to_file'"),
    ],
)
def test_a_converter_that_fails(folder: Path, tmp_path: Path, here: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_model(folder, converter=checkout(tmp_path, here), registry=REGISTRY)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_nothing_is_left_where_it_is_no_longer_asked(folder: Path, tmp_path: Path) -> None:
    """Whoever asked was killed: it can't remove the folders, of which one may lie in memory."""
    made, tensors = tmp_path / "made", tmp_path / "tensors"
    made.mkdir()
    tensors.mkdir()
    command = [sys.executable, str(WORKER), str(checkout(tmp_path)), str(made / "out.gguf"), str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert "token_embd.weight" in process.stdout.readline()
        file = tensors / "1.tensor"
        process.stdin.write(json.dumps({"tensor": "blk.0.ffn_up.weight", "file": str(file)}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"tensor": "blk.0.ffn_up.weight"}
        assert file.stat().st_size == 258 * 256 * 4
        process.stdout.close()
        # The last question is one whose answer nobody hears.
        process.stdin.write(json.dumps({"tensor": "blk.0.attn_q.weight", "file": str(file)}) + "\n")
        process.stdin.close()
        assert process.wait(60) == 0
    assert not made.exists()
    assert not tensors.exists()


def test_its_own_words_are_shown(folder: Path, tmp_path: Path) -> None:
    here = "raise NotImplementedError('New is not supported')"
    with pytest.raises(
        ModelError, match=r"these are its last words\n(  .*\n)+  NotImplementedError: New is not supported"
    ):
        open_model(folder, converter=checkout(tmp_path, here), registry=REGISTRY)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("1 / 0", r"the converter can't make blk.0.ffn_up.weight: ZeroDivisionError: division by zero"),
        ("os._exit(7)", r"ended with status 7 before it gave blk\.0"),
        ("return np.zeros(3, np.float32)", "the converter can't make blk.0.ffn_up.weight: AssertionError"),
    ],
)
def test_a_tensor_that_can_t_be_made(folder: Path, tmp_path: Path, raised: str, message: str) -> None:
    """No output under its name, and an error that names the tensor."""
    script = SCRIPT.replace("    (FOLDER /", f"    if seed == 2: {raised}\n    (FOLDER /")
    with pytest.raises(ModelError, match=message):
        applied(folder, tmp_path / "out.gguf", converter=checkout(tmp_path, script=script))
    assert not (tmp_path / "out.gguf").exists()


def test_what_is_no_checkout(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no convert_hf_to_gguf\.py; give a checkout of llama.cpp"):
        open_model(folder, converter=tmp_path, registry=REGISTRY)


def test_a_python_that_lacks_something(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[module_function.__module__], "_NEEDED", ("json", "no_such_package"))
    with pytest.raises(
        ModelError, match=r"needs no_such_package, and .* pip install 'quantrecipe\[converter\]'"
    ):
        open_model(folder, converter=checkout(tmp_path), registry=REGISTRY)
    monkeypatch.setenv("QUANTRECIPE_CONVERTER_PYTHON", str(tmp_path / "no-python"))
    with pytest.raises(ModelError, match="no-python can't be run"):
        open_model(folder, converter=checkout(tmp_path), registry=REGISTRY)


def test_where_memory_as_files_is_small(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, where it has 64 MB."""
    free = {tmp_path / "shm": 10**5, tmp_path / "tmp": 10**9}
    module = sys.modules[module_function.__module__]
    monkeypatch.setattr(module, "_SHARED", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    real = shutil.disk_usage

    def usage(at: Path) -> Any:
        found = free.get(Path(at))
        return real(at) if found is None else SimpleNamespace(free=found)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    there = checkout(tmp_path)
    applied(folder, tmp_path / "out.gguf", converter=there)
    assert not list((tmp_path / "shm").iterdir())
    assert len(list((tmp_path / "tmp").glob("quantrecipe-tensors-*/*.tensor"))) == 3  # of six: the last ones
    free[tmp_path / "tmp"] = 10**5
    with pytest.raises(
        ModelError, match=r"its largest tensors take .* and neither .* has room; name another folder"
    ):
        open_model(folder, converter=there, registry=REGISTRY)
