"""A run that was killed goes on: the same bytes, the same report, and nothing is made twice that was noted."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gram_statistics import write_statistics
from support.imatrix_files import write_gguf_imatrix
from support.interrupted import LEFT, left_after, put_back
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ModelError, NonFiniteError, OutputError
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output import first_rows, passes, row_units
from quantrecipe.output.apply import Result, apply_plan, apply_plans
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.partfile import PartFile, part_path
from quantrecipe.output.progress import Silent
from quantrecipe.output.transform import Rows
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

MIX = recipe(rule("attn_v", "Q8_0"), rule("ffn_down", "F16"), rule("ffn_up", "NVFP4"), default="Q4_K")
OTHER = recipe(rule("attn_v", "Q6_K"), rule("attn_q", "BF16"), default="Q4_K")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small model has many. Each is noted by itself."""
    monkeypatch.setattr(row_units.split, "__defaults__", (1, 8_000))
    monkeypatch.setattr(first_rows, "NOTE_SECONDS", 0.0)


@pytest.fixture(params=["by itself", "with others"])
def noted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a unit is: with others, it is one of three in a row, for each takes 2 ms."""
    if request.param == "with others":
        now = count(0.0, 0.002)
        monkeypatch.setattr(passes, "_clock", lambda: next(now))
        monkeypatch.setattr(first_rows, "NOTE_SECONDS", 0.005)
    return str(request.param)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/out.gguf"


def plan_of(source: Path, registry: Registry, mix: Recipe = MIX, **more: Any) -> Plan:
    return make_plan(mix, open_model(source, registry=registry), registry=registry, **more)


class Heard(Silent):
    """What a run tells of the one before."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []

    def resumed(self, part: Path, share: float) -> None:
        self.said.append(("resumed", share))

    def started_over(self, part: Path, why: str) -> None:
        self.said.append(("started over", why))

    def kept(self, part: Path, share: float) -> None:
        self.said.append(("kept", share))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that are encoded, in each call."""
    found: list[int] = []
    encode = Rows.encode

    def counting(self: Rows, *given: Any, **more: Any) -> int:
        found.append(self._unit.rows)
        return encode(self, *given, **more)

    monkeypatch.setattr(Rows, "encode", counting)
    return found


def same(result: Result, other: Result) -> bool:
    """The same report, but for what a run that goes on has less to do."""
    first, second = (
        replace(it, paths=(), seconds=0, compile_seconds=0, threads=0, read=0, left=0, reused=())
        for it in (result, other)
    )
    pairs = zip(result.paths, other.paths, strict=True)
    return first == second and all(one.read_bytes() == two.read_bytes() for one, two in pairs)


def moments(total: int, count: int = 7) -> list[int]:
    """Numbers of records, from the first to the last."""
    return sorted({1, 2, *np.linspace(1, total, count).astype(int).tolist()})


def rows_noted(plan: Plan, journal: Path) -> int:
    """Of all rows that are encoded, those that a journal says are made."""
    lines = [json.loads(line[17:]) for line in journal.read_bytes().splitlines()]
    rows = 0
    for number, a in enumerate(plan.assignments):
        own = [it for it in lines if it[1:2] == [number]]
        if any(it[0] == "done" for it in own):
            rows += 0 if a.copied or a.owner else a.tensor.rows * a.tensor.experts
            continue
        first = max((it[2] for it in own if it[0] == "first"), default=0)
        rows += first + sum(it[3] - it[2] for it in own if it[0] == "rows" and it[2] >= first)
    return rows


@pytest.mark.parametrize("threads", [1, 3])
def test_whenever_it_was_killed(
    source: Path,
    out: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    encoded: list[int],
    noted: str,
    threads: int,
) -> None:
    plan = plan_of(source, registry)

    def run() -> Result:
        return apply_plan(plan, out, registry=registry, threads=1, resume=True)

    peace = apply_plan(plan, out.with_name("peace.gguf"), registry=registry)
    total = left_after(-1, out.parent, run, monkeypatch, out.parent)
    all_rows = sum(encoded) // 2
    for number, after in enumerate(moments(total)):
        out.unlink()
        left = out.parents[1] / f"left-{number}"
        left_after(after, out.parent, run, monkeypatch, left)
        names = {path.name for path in left.iterdir()}
        assert names == {part_path(out).name, journal_path(out).name}
        put_back(out.parent, left)
        apply_plan(plan, peace.path, registry=registry)  # what `put_back` removed
        encoded.clear()
        result = apply_plan(plan, out, registry=registry, threads=threads, resume=True)
        assert same(result, peace)
        rows = rows_noted(plan, left / journal_path(out).name)
        assert sum(encoded) == all_rows - rows  # what was noted isn't made again, and all else is
        assert not list(out.parent.glob(LEFT))
    assert result.left == plan.size


@pytest.mark.usefixtures("noted")
class TestWhatElseIsRecorded:
    """A run that goes on reports what the one before had found, and writes it into the header."""

    def test_importance_encoders_and_their_remarks(
        self, tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))
        query, key = "blk.0.attn_q.weight", "blk.0.attn_k.weight"
        grams = write_statistics(
            tmp_path, {query: (256, (700,))}, shared={query: (key,)}, indefinite=(query,)
        )
        mix = load_recipe_text(
            "quantrecipe: 1\ndefault: Q4_0\nencoder: {name: feedback, damping: 0.01}\n", registry=registry
        )
        plan = plan_of(source, registry, mix, statistics=grams)
        everywhere_the_same(lambda it: apply_plan(plan, it, registry=registry, resume=True), out, monkeypatch)
        result = apply_plan(plan, tmp_path / "x.gguf", registry=registry)
        assert set(result.remarks) == {query, key}

    def test_weights_that_lost_their_value(
        self, tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tensors = llama_tensors(layers=1)
        tensors["blk.0.attn_q.weight"][3, 5] = tensors["blk.0.attn_q.weight"][200, 1] = np.nan
        plan = plan_of(write_gguf(tmp_path / "bad.gguf", tensors), registry)
        made = everywhere_the_same(
            lambda it: apply_plan(plan, it, registry=registry, nan="allow", resume=True), out, monkeypatch, 16
        )
        assert made.nonfinite == {"blk.0.attn_q.weight": 2}

    def test_of_experts_with_factors_and_importance(
        self, tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tensors = llama_tensors(layers=1, experts=3)
        source = write_gguf(tmp_path / "m.gguf", tensors)
        rng = np.random.default_rng(0)
        entries = {}
        for name, it in tensors.items():
            experts = it.shape[0] if it.ndim > 2 else 1
            if it.ndim > 1:
                entries[name] = rng.random((experts, it.shape[-1])).astype(np.float32), [9.0] * experts
        importance = read_importance(write_gguf_imatrix(tmp_path / "i.gguf", entries))
        mix = recipe(rule("ffn_up_exps", "NVFP4"), rule("ffn_down_exps", "IQ4_XS"), default="Q4_K")
        plan = plan_of(source, registry, mix, importance=importance)
        assert any(a.owner for a in plan.assignments)
        everywhere_the_same(lambda it: apply_plan(plan, it, registry=registry, resume=True), out, monkeypatch)


def everywhere_the_same(
    run: Callable[[Path], Result], out: Path, monkeypatch: pytest.MonkeyPatch, moments_: int = 5
) -> Result:
    """Kill the run at several moments; each time the next one's report and files are those of the first."""
    peace = run(out.parents[1] / "peace.gguf")
    total = left_after(-1, out.parent, lambda: run(out), monkeypatch, out.parent)
    assert total > 10
    for number, after in enumerate(moments(total, moments_)):
        put_back(out.parent, _empty(out))
        left = out.parents[1] / f"left-{number}"
        left_after(after, out.parent, lambda: run(out), monkeypatch, left)
        if not left.exists() and after > 0.8 * total:  # how much is noted together depends on who comes first
            continue
        put_back(out.parent, left)
        assert same(run(out), peace)
    return peace


def _empty(out: Path) -> Path:
    folder = out.parents[1] / "nothing"
    folder.mkdir(exist_ok=True)
    return folder


def test_shards(source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(source, registry, split=SplitLimits(max_tensors=4))
    everywhere_the_same(lambda it: apply_plan(plan, it, registry=registry, resume=True), out, monkeypatch)


def test_a_shard_that_was_removed_has_all_begin_anew(
    source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(source, registry, split=SplitLimits(max_tensors=4))
    left = out.parents[1] / "left"
    left_after(
        30, out.parent, lambda: apply_plan(plan, out, registry=registry, resume=True), monkeypatch, left
    )
    peace = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    put_back(out.parent, left)
    sorted(out.parent.glob("*-part"))[1].unlink()
    result = apply_plan(plan, out, registry=registry, resume=True)
    assert result.left == 0
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == peace


def test_a_shard_that_can_t_be_had_takes_nothing_from_the_others(
    source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has it open, or there is no room: what an earlier run has made of the first stays."""
    plan = plan_of(source, registry, split=SplitLimits(max_tensors=4))
    left = out.parents[1] / "left"
    left_after(
        30, out.parent, lambda: apply_plan(plan, out, registry=registry, resume=True), monkeypatch, left
    )
    peace = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    put_back(out.parent, left)
    before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    second = out.with_name(sorted(peace)[1])
    with (
        PartFile(second, part_path(second).stat().st_size, keep=True) as busy,
        pytest.raises(OutputError, match="another process is writing"),
    ):
        busy.settled = True
        apply_plan(plan, out, registry=registry, resume=True)
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before
    busy.keep()
    result = apply_plan(plan, out, registry=registry, resume=True)
    assert result.left > 0
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == peace


@pytest.mark.usefixtures("noted")
def test_several_outputs_in_one_pass(
    source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its journal; what one of them lacks is made for both, and one alone goes on, too."""
    plans = [plan_of(source, registry), plan_of(source, registry, OTHER)]
    names = [out, out.with_name("other.gguf")]
    pairs = list(zip(plans, names, strict=True))

    def run() -> list[Result]:
        return apply_plans(pairs, registry=registry, threads=1, resume=True)

    peace = [
        apply_plan(plan, out.parents[1] / f"{i}.gguf", registry=registry) for i, plan in enumerate(plans)
    ]
    total = left_after(-1, out.parent, run, monkeypatch, out.parent)
    assert total > 20
    for number, after in enumerate((5, total // 2, total - 5)):
        put_back(out.parent, _empty(out))
        left = out.parents[1] / f"left-{number}"
        left_after(after, out.parent, run, monkeypatch, left)
        put_back(out.parent, left)
        assert all(same(one, two) for one, two in zip(run(), peace, strict=True))
        put_back(out.parent, left)
        journal_path(names[1]).unlink()
        assert all(same(one, two) for one, two in zip(run(), peace, strict=True))
        put_back(out.parent, left)
        alone = apply_plan(plans[0], out, registry=registry, resume=True)
        assert same(alone, peace[0])


def test_reuse(source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    old = out.parents[1] / "old.gguf"
    apply_plan(plan_of(source, registry, OTHER), old, registry=registry)
    plan = plan_of(source, registry)
    made = everywhere_the_same(
        lambda it: apply_plan(plan, it, registry=registry, reuse=old, resume=True), out, monkeypatch
    )
    assert made.reused


class TestWhatAPowerCutTakes:
    """Records may be there without their bytes, and bytes without their records."""

    @pytest.fixture
    def left(self, source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Path:
        self.plan, self.registry = plan_of(source, registry), registry
        self.peace = apply_plan(self.plan, out.parents[1] / "peace.gguf", registry=registry)
        left = out.parents[1] / "left"
        left_after(60, out.parent, lambda: self.run(out), monkeypatch, left)
        put_back(out.parent, left)
        return left

    def run(self, out: Path, **more: Any) -> Result:
        return apply_plan(self.plan, out, registry=self.registry, threads=1, resume=True, **more)

    @pytest.mark.parametrize("seed", range(4))
    def test_pages_of_the_part(self, left: Path, out: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        size = part_path(out).stat().st_size
        with part_path(out).open("r+b") as file:
            for begin in rng.integers(0, size, 12):
                file.seek(int(begin) // 4096 * 4096)
                file.write(bytes(min(4096, size - file.tell())))
        result = self.run(out)
        assert 0 < result.left < self.plan.size
        assert result.path.read_bytes() == self.peace.path.read_bytes()
        assert result.hashes == self.peace.hashes

    def test_a_finished_tensor_s_bytes_are_compared_and_named(self, left: Path, out: Path) -> None:
        first = self.plan.assignments[0]
        flip(part_path(out), first.offset + first.nbytes // 2)
        result = self.run(out)
        assert result.differing == (first.tensor.name,)
        assert result.path.read_bytes() == self.peace.path.read_bytes()

    def test_what_lies_between_tensors(self, left: Path, out: Path) -> None:
        gaps = 0
        for one, two in pairwise(self.plan.assignments):
            for place in range(one.offset + one.nbytes, two.offset):
                flip(part_path(out), place)
                gaps += 1
        assert gaps
        result = self.run(out)
        assert result.left > 0
        assert result.path.read_bytes() == self.peace.path.read_bytes()

    def test_the_journal_but_not_the_part(self, left: Path, out: Path) -> None:
        journal_path(out).unlink()
        part_path(out).write_bytes(b"\xff" * self.plan.nbytes)
        assert self.run(out).left == 0
        assert out.read_bytes() == self.peace.path.read_bytes()

    @pytest.mark.parametrize("cut", [1, 5, 40, 700])
    @pytest.mark.parametrize("filled", [b"", b"\0", b"x\n"])
    def test_the_end_of_the_journal(self, left: Path, out: Path, cut: int, filled: bytes) -> None:
        path = journal_path(out)
        data = path.read_bytes()
        path.write_bytes(data[:-cut] + filled * cut)
        result = self.run(out)
        assert 0 < result.left < self.plan.size
        assert result.path.read_bytes() == self.peace.path.read_bytes()

    def test_a_page_of_the_journal_that_wasn_t_synced_yet(self, left: Path, out: Path) -> None:
        path = journal_path(out)
        data = bytearray(path.read_bytes())
        data[1500:2000] = bytes(500)
        path.write_bytes(data)
        assert 0 < self.run(out).left < self.plan.size
        assert out.read_bytes() == self.peace.path.read_bytes()

    @pytest.mark.parametrize("size", [0, 10, 30])
    def test_nearly_all_of_the_journal(self, left: Path, out: Path, size: int) -> None:
        journal_path(out).write_bytes(journal_path(out).read_bytes()[:size])
        assert self.run(out).left == 0
        assert out.read_bytes() == self.peace.path.read_bytes()

    def test_the_part(self, left: Path, out: Path) -> None:
        part_path(out).unlink()
        assert self.run(out).left == 0
        assert out.read_bytes() == self.peace.path.read_bytes()

    def test_the_length_of_the_part(self, left: Path, out: Path) -> None:
        os.truncate(part_path(out), 1000)
        assert self.run(out).left == 0
        assert out.read_bytes() == self.peace.path.read_bytes()


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 16
    path.write_bytes(data)


class TestAJournalOfAnotherRun:
    """It is told, and not used."""

    @pytest.fixture
    def left(self, source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Path:
        left = out.parents[1] / "left"
        plan = plan_of(source, registry)
        left_after(
            60, out.parent, lambda: apply_plan(plan, out, registry=registry, resume=True), monkeypatch, left
        )
        put_back(out.parent, left)
        return left

    def test_another_recipe(self, left: Path, source: Path, out: Path, registry: Registry) -> None:
        plan = plan_of(source, registry, replace(MIX, text="longer", digest="0" * 32))
        self.starts_over(plan, out, registry, "another recipe")

    def test_another_plan(self, left: Path, source: Path, out: Path, registry: Registry) -> None:
        mix = recipe(rule("ffn_up", "NVFP4"), default="Q5_K")
        self.starts_over(plan_of(source, registry, mix), out, registry, "another plan")

    def test_a_source_that_was_touched(self, left: Path, source: Path, out: Path, registry: Registry) -> None:
        status = source.stat()
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        said = "another model, or of files that have changed since"
        self.starts_over(plan_of(source, registry), out, registry, said)

    def test_another_nan(self, left: Path, source: Path, out: Path, registry: Registry) -> None:
        self.starts_over(plan_of(source, registry), out, registry, "another --nan", nan="allow")

    def test_another_version(
        self, left: Path, source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("quantrecipe.output.run_key.__version__", "0.0.1")
        self.starts_over(plan_of(source, registry), out, registry, "another version of quantrecipe")

    @staticmethod
    def starts_over(plan: Plan, out: Path, registry: Registry, why: str, **more: Any) -> None:
        heard = Heard()
        result = apply_plan(plan, out, registry=registry, resume=True, progress=heard, **more)
        assert heard.said == [("started over", why)]
        assert result.left == 0
        peace = apply_plan(plan, out.parents[1] / "peace.gguf", registry=registry, **more)
        assert out.read_bytes() == peace.path.read_bytes()

    def test_without_resume_it_is_removed(
        self, left: Path, source: Path, out: Path, registry: Registry
    ) -> None:
        result = apply_plan(plan_of(source, registry), out, registry=registry)
        assert result.left == 0
        assert [path.name for path in out.parent.iterdir()] == [out.name]

    def test_one_without_a_part_is_removed(
        self, left: Path, source: Path, out: Path, registry: Registry
    ) -> None:
        part_path(out).rename(out)  # the run was killed when the file had its name
        with pytest.raises(OutputError, match="exists; say --force"):
            apply_plan(plan_of(source, registry), out, registry=registry, resume=True)
        assert [path.name for path in out.parent.iterdir()] == [out.name]


class TestHowARunEnds:
    """What stays after an error, and what doesn't."""

    @pytest.fixture
    def plan(self, source: Path, registry: Registry) -> Plan:
        return plan_of(source, registry)

    def stop(
        self, error: BaseException, monkeypatch: pytest.MonkeyPatch, at: int = 40, where: Any = PartFile
    ) -> None:
        """Have the error raised at one of the writes, once."""
        write, count = where.write, 0

        def failing(part: PartFile, data: memoryview, offset: int) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise error
            write(part, data, offset)

        monkeypatch.setattr(where, "write", failing)

    def run(self, plan: Plan, out: Path, registry: Registry, **more: Any) -> Result:
        return apply_plan(plan, out, registry=registry, threads=1, resume=True, **more)

    def test_a_full_disk(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write, count = os.pwrite, 0

        def full(*given: Any) -> int:
            nonlocal count
            count += 1
            if 40 <= count < 50:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(*given)

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match=r"is full while writing out.gguf.*") as caught:
            self.run(plan, out, registry)
        assert "of the work is kept in" in str(caught.value)
        assert "the same command goes on with it" in caught.value.problems[1].remedy
        heard = Heard()
        count = 100
        result = self.run(plan, out, registry, progress=heard)
        ((_, share),) = heard.said
        assert result.left == pytest.approx(share * plan.size)  # type: ignore[operator]  # a float
        assert 0 < result.left < plan.size

    @pytest.mark.parametrize(
        ("error", "stays"),
        [
            (ModelError("can't be read"), True),
            (MemoryError(), True),
            (SystemExit(3), True),
            (RuntimeError("a bug"), True),
            (NonFiniteError("NaN"), False),
            (KeyboardInterrupt(), False),
        ],
    )
    def test_what_stays(
        self,
        plan: Plan,
        out: Path,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        error: BaseException,
        stays: bool,
    ) -> None:
        heard = Heard()
        self.stop(error, monkeypatch)
        with pytest.raises(type(error)) as caught:
            self.run(plan, out, registry, progress=heard)
        assert bool(list(out.parent.iterdir())) is stays
        told = [what for what, _ in heard.said]
        assert told == (["kept"] if stays and not isinstance(error, ModelError) else [])
        assert ("is kept in" in str(caught.value)) is isinstance(error, ModelError)

    def test_nothing_stays_where_nothing_was_made(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.stop(MemoryError(), monkeypatch, at=1)
        with pytest.raises(MemoryError):
            self.run(plan, out, registry)
        assert not list(out.parent.iterdir())

    @pytest.mark.parametrize("answer", [True, False])
    def test_ctrl_c_is_asked_for(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, answer: bool
    ) -> None:
        asked: list[tuple[Path, float]] = []

        def keep(part: Path, share: float) -> bool:
            asked.append((part, share))
            return answer

        self.stop(KeyboardInterrupt(), monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            self.run(plan, out, registry, keep=keep)
        ((part, share),) = asked
        assert part == part_path(out)
        assert 0 < share < 1
        assert part.exists() is journal_path(out).exists() is answer

    def test_what_was_there_before_stays_after_ctrl_c(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for error in (MemoryError(), KeyboardInterrupt()):
            with monkeypatch.context() as patch:
                self.stop(error, patch, at=20)
                with pytest.raises(type(error)):
                    self.run(plan, out, registry, keep=lambda *_: pytest.fail("asked"))
            assert part_path(out).exists()
        assert self.run(plan, out, registry).left > 0

    def test_what_the_disk_has_lost_is_not_gone_on_with(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a failed fsync the system gives back what it has in memory, and the disk has something else."""
        sync = os.fsync

        def failing(fd: int) -> None:
            if os.fstat(fd).st_size == plan.nbytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(fd)

        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(OutputError, match="Input/output error"):
            self.run(plan, out, registry)
        assert not list(out.parent.iterdir())

    def test_what_was_made_of_a_damaged_download_isn_t_gone_on_with(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else the next run would read nothing again, and find nothing wrong."""

        def damaged(paths: object) -> list[Path]:
            raise ModelError("has the SHA-256 0, and the hub says 1")

        monkeypatch.setattr("quantrecipe.output.apply.settle", damaged)
        with pytest.raises(ModelError, match="SHA-256"):
            self.run(plan, out, registry)
        assert not list(out.parent.iterdir())

    def test_what_an_earlier_run_has_downloaded_wasn_t_checked(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            self.stop(MemoryError(), patch)
            with pytest.raises(MemoryError):
                self.run(plan, out, registry)
        monkeypatch.setattr("quantrecipe.output.apply.settle", lambda paths: [])
        monkeypatch.setattr("quantrecipe.output.apply.remote_file", lambda path: object())
        assert self.run(plan, out, registry).unchecked == plan.model.files
        out.unlink()
        assert self.run(plan, out, registry).unchecked == ()

    def test_a_name_that_is_taken_at_the_end_costs_nothing(
        self, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sync = PartFile.sync
        with monkeypatch.context() as patch:
            patch.setattr(PartFile, "sync", lambda self: (out.write_bytes(b"theirs"), sync(self))[1])
            with pytest.raises(OutputError, match="everything is written, but"):
                self.run(plan, out, registry)
        result = self.run(plan, out, registry, force=True)
        assert result.left == plan.size
        assert result.path.read_bytes()[:4] == b"GGUF"


def test_two_runs_on_one_output(
    source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused, and touches neither the part nor the journal of the first."""
    plan = plan_of(source, registry)
    left, refused = out.parents[1] / "left", 0

    def second() -> None:
        nonlocal refused
        before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
        for resume in (True, False):
            with pytest.raises(OutputError, match="another process is writing"):
                apply_plan(plan, out, registry=registry, resume=resume)
            refused += 1
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before

    add, calls = Journal.add_rows, 0

    def adding(self: Journal, *given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            second()
        add(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_rows", adding)
        result = apply_plan(plan, out, registry=registry, threads=1, resume=True)
    assert refused == 2
    assert same(result, apply_plan(plan, left, registry=registry))


def test_a_damaged_journal_is_named_and_the_part_is_left_alone(
    source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(source, registry)
    left = out.parents[1] / "left"
    sync_each_time(monkeypatch)
    left_after(
        60, out.parent, lambda: apply_plan(plan, out, registry=registry, resume=True), monkeypatch, left
    )
    put_back(out.parent, left)
    before = part_path(out).read_bytes()
    lines = journal_path(out).read_bytes().splitlines(keepends=True)
    damaged = next(number for number, line in enumerate(lines, 1) if b'["rows",3' in line)
    flip(journal_path(out), sum(map(len, lines[: damaged - 1])) + 30)
    with pytest.raises(
        OutputError, match=rf"quantrecipe-journal:{damaged}: this line of the journal is damaged"
    ):
        apply_plan(plan, out, registry=registry, resume=True)
    assert part_path(out).read_bytes() == before
    journal_path(out).unlink()
    assert apply_plan(plan, out, registry=registry, resume=True).left == 0


def sync_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a journal synced whenever it has noted rows."""
    add = Journal.add_rows

    def adding(self: Journal, *given: Any) -> None:
        add(self, *given)
        self.sync()

    monkeypatch.setattr(Journal, "add_rows", adding)


@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "blk.0.ffn_up.weight"])
def test_a_source_that_changed_under_its_old_time(
    name: str, source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what was half done, the source is read again: nothing is kept that was made from other bytes."""
    plan = plan_of(source, registry)
    monkeypatch.setattr("quantrecipe.output.run_key._END", 100)  # a large model's ends are a small part of it
    status = source.stat()
    number = next(i for i, a in enumerate(plan.assignments) if a.tensor.name == name)
    add, calls = Journal.add_rows, 0

    def failing(self: Journal, tensor: int, *given: Any) -> None:
        nonlocal calls
        calls += tensor == number
        if calls == 6:
            raise MemoryError
        add(self, tensor, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_rows", failing)
        with pytest.raises(MemoryError):
            apply_plan(plan, out, registry=registry, threads=1, resume=True)
    data = bytearray(source.read_bytes())
    place = plan.model.sources[name].extents[0].offset
    data[place : place + 2] = b"\x80\x3f"  # 1, the largest: what NVFP4's factor goes by
    source.write_bytes(data)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = apply_plan(plan, out, registry=registry, resume=True)
    peace = apply_plan(plan, out.with_name("peace.gguf"), registry=registry)
    assert 0 < result.left < plan.size
    assert result.path.read_bytes() == peace.path.read_bytes()


def test_finished_tensors_are_not_read_from_the_model(
    source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(source, registry)
    left = out.parents[1] / "left"
    total = left_after(
        -1, out.parent, lambda: apply_plan(plan, out, registry=registry, resume=True), monkeypatch, left
    )
    out.unlink()
    left_after(
        total, out.parent, lambda: apply_plan(plan, out, registry=registry, resume=True), monkeypatch, left
    )
    put_back(out.parent, left)
    monkeypatch.setattr(TensorReader, "read", lambda *_, **__: pytest.fail("read"))
    assert apply_plan(plan, out, registry=registry, resume=True).left == plan.size
