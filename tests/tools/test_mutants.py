"""The mutation tester, on a package of two modules: it finds what no test holds, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("coverage")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tools` can be imported, as in the repository's root."""
    monkeypatch.syspath_prepend(str(ROOT))


def mutants_of(source: str) -> dict[str, list[str]]:
    """By operator, the changed sources, without the line's indentation."""
    from tools.mutants.changes import changed, changes, is_program

    found: dict[str, list[str]] = {}
    for change in changes(source):
        if is_program(source, change):
            lines = changed(source, change).splitlines()
            found.setdefault(change.operator, []).append(lines[change.lines[0] - 1].strip())
    return found


@pytest.mark.usefixtures("tools")
class TestOperators:
    @pytest.mark.parametrize(
        ("source", "operator", "mutants"),
        [
            ("x = a < b", "comparison", ["x = (a >= b)"]),
            ("x = a < b", "boundary", ["x = (a <= b)"]),
            ("x = a is not None", "comparison", ["x = (a is None)"]),
            ("x = a not in b", "comparison", ["x = (a in b)"]),
            ("x = a and b", "boolean", ["x = (a or b)", "x = (b)", "x = (a)"]),
            ("x = not a", "not", ["x = (a)"]),
            ("x = a + b * c", "arithmetic", ["x = (a - b * c)", "x = a + (b // c)"]),
            ("x += a", "arithmetic", ["x -= a"]),
            ("x = 5", "constant", ["x = 6", "x = (4)"]),
            ("x = True", "constant", ["x = False"]),
            ("x = a if b else c", "condition", ["x = a if True else c", "x = a if False else c"]),
            ("x = f(a, b=1)", "argument", ["x = f(a)"]),
            ("x = f(a, b)", "argument", ["x = f(b, a)"]),
            ("for x in a:\n    f(x)", "iteration", ["for x in [*(a)][1:]:", "for x in [*(a)][:-1]:"]),
            ("x = min(a, b)", "function", ["x = max(a, b)"]),
            ("x = a.startswith(b)", "function", ["x = a.endswith(b)"]),
            ("x = a[b:c]", "slice", ["x = a[:c]", "x = a[b:]"]),
            ("x = a['k']", "key", ["x = a['kx']"]),
            ("x = a == 'k'", "key", ["x = a == 'kx'"]),
            ("x = a in ('k', 'l')", "key", ["x = a in ('kx', 'l')", "x = a in ('k', 'lx')"]),
            ("f()", "statement", ["pass"]),
        ],
    )
    def test_what_they_change(self, source: str, operator: str, mutants: list[str]) -> None:
        assert mutants_of(source)[operator] == mutants

    @pytest.mark.parametrize(
        ("kind", "value"), [("bool", "not (x)"), ("int", "(x) + 1"), ("list[int]", "[]"), ("Path", "None")]
    )
    def test_what_a_function_returns(self, kind: str, value: str) -> None:
        assert mutants_of(f"def f(x) -> {kind}:\n    return x")["return"] == [f"return {value}"]

    @pytest.mark.parametrize(
        "source",
        [
            '"""Text of 5."""',
            "def f(x: int = None) -> list[3]: ...",
            '__all__ = ["a"]',
            'raise ValueError(f"{5}")'.replace("raise", "assert True,"),
            "x = f'{5 + 6}'",
            "import a",
            "from a import b",
            "if TYPE_CHECKING:\n    x = 5",
            "x: TypeAlias = dict[5]",
            "@dataclass(frozen=True)\nclass A: ...",
            "f(encoding='utf-8').x = a",
        ],
    )
    def test_what_they_leave_alone(self, source: str) -> None:
        assert mutants_of(source) == {}

    def test_letters_of_several_bytes_before_the_place(self) -> None:
        assert mutants_of("x = 'é→' + a[5]")["constant"] == ["x = 'é→' + a[6]", "x = 'é→' + a[(4)]"]

    def test_a_raise_is_left_out_as_a_whole(self) -> None:
        assert mutants_of("if a:\n    raise ValueError(5)")["statement"] == ["pass"]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("hits", "of", "low", "high"), [(0, 10, 0.0, 0.278), (8, 10, 0.490, 0.943), (360, 400, 0.867, 0.926)]
)
def test_the_interval(hits: int, of: int, low: float, high: float) -> None:
    from tools.mutants.sample import wilson

    assert wilson(hits, of) == pytest.approx((low, high), abs=1e-3)


CODE = '''"""A module."""


def doubled(items: list[int]) -> list[int]:
    return [2 * item for item in items]


def untested(x: int) -> int:
    return x + 1
'''
TESTS = """import pytest
from toy.part.code import doubled

@pytest.fixture(scope="module")
def made():
    return doubled([1, 2, 3])

def test_first(made):
    assert made

def test_second(made):
    assert made[:2] == [2, 4]
"""
REASON = """[[survivor]]
file = "toy/part/code.py"
before = "return [2 * item for item in items]"
after = "return [2 * item for item in [*(items)][:-1]]"
reason = "the last one is nobody's"
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    files = {
        "toy/__init__.py": "",
        "toy/part/__init__.py": "",
        "toy/part/code.py": CODE,
        "tests/part/test_code.py": TESTS,
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(toy: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "tools.mutants", "part", "--root", str(toy), "--package", "toy", *more]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_package(toy: Path) -> None:
    before = {path: path.read_bytes() for path in toy.rglob("*") if path.is_file()}
    said = run(toy, "--jobs", "2")
    assert "6 of 6 mutants of lines that tests reach, seed 0" in said
    assert {path: path.read_bytes() for path in before} == before, "the working tree is left alone"

    # the test that kills most isn't the one for which the fixture ran
    outcomes = [json.loads(line) for line in (toy / ".mutants/journal.jsonl").read_text().splitlines()]
    assert len(outcomes) == 6
    assert {it["by"] for it in outcomes} >= {"tests/part/test_code.py::test_second"}
    assert "killed: 5 of 6, 83.3% (95 % interval 43.6% to 97.0%)" in said
    assert (
        "killed, of those that have no reason to live: 5 of 6, 83.3% (95 % interval 43.6% to 97.0%)" in said
    )
    assert said[-3:] == [
        "toy/part/code.py:5 in doubled: iteration (2 tests)",
        "  - return [2 * item for item in items]",
        "  + return [2 * item for item in [*(items)][:-1]]",
    ]

    # a second run tries nothing again; a reason is told, and counted apart
    (toy / "tools/mutants").mkdir(parents=True)
    (toy / "tools/mutants/survivors.toml").write_text(REASON)
    again = run(toy)
    assert len((toy / ".mutants/journal.jsonl").read_text().splitlines()) == 6
    assert again[-1] == "  reason: the last one is nobody's"
    assert "killed: 5 of 6, 83.3% (95 % interval 43.6% to 97.0%)" in again
    assert (
        "killed, of those that have no reason to live: 5 of 5, 100.0% (95 % interval 56.6% to 100.0%)"
        in again
    )


@pytest.mark.usefixtures("tools")
@pytest.mark.slow
def test_what_goes_on_for_ever_is_ended(toy: Path) -> None:
    from tools.mutants.tree import Tree

    (toy / "tests/part/test_code.py").write_text("def test():\n    while True:\n        pass\n")
    tree = Tree(toy, "toy", toy / ".mutants")
    file = tree.root / "tests/part/test_code.py"
    task = {"tests": ["tests/part/test_code.py::test"], "result": str(toy / "result.json")}
    assert tree.pytest(task, [file], timeout=1.5) == (None, "")
