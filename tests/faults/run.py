"""Moments at which a run is killed or its file system fails: python tests/faults/run.py; see README.md here."""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from faulty_system import FAULTS, FaultySystem  # noqa: E402  # beside this script
from scene import Scene, nobody  # noqa: E402
from scenes import SCENES, make_scenes  # noqa: E402

from quantrecipe.errors import QuantrecipeError  # noqa: E402
from quantrecipe.output.work_folder import work_folder  # noqa: E402

_OK, _REFUSED, _BUG = 0, 3, 4
_LATE = 16
"""Calls at the end, where headers are written and files get their names: there are few, and most could go wrong."""

_MOST_FAULTS = 3
"""In a row, before a run is left in peace."""

_HARMLESS = ("short", "signals", "slow", "clock")
"""What no run may end for."""

_KILLS = ("kill", "half", "time", "twice")
"""After which all is there that was written."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=100, help="for each scene and fault")
    parser.add_argument("--seconds", type=float, help="moments at random until so many have passed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", choices=SCENES, action="append")
    parser.add_argument("--fault", choices=FAULTS, action="append")
    parser.add_argument("--at", type=int, help="only this call")
    args = parser.parse_args()
    tried: dict[str, Counter[str]] = {name: Counter() for name in args.scene or SCENES}
    problems = []
    began = time.monotonic()
    with work_folder(Path(tempfile.gettempdir()), "faults") as folder:
        scenes = make_scenes(folder.resolve())
        peace = {name: in_peace(scenes[name]) for name in tried}
        for name, fault, at in wanted(args, {name: calls for name, (calls, _) in peace.items()}):
            if args.seconds and time.monotonic() - began > args.seconds:
                break
            draw = random.Random(f"{args.seed} {name} {fault} {at}")
            problem = try_moment(scenes[name], fault, at, *peace[name], draw, tried[name])
            if problem:
                again = (
                    f"python tests/faults/run.py --scene {name} --fault {fault} --at {at} --seed {args.seed}"
                )
                problems.append(f"{problem}\n    {again}")
    for name, counts in tried.items():
        done = ", ".join(f"{counts[fault]} {fault}" for fault in FAULTS if counts[fault])
        print(f"{name}: {peace[name][0]} calls; {counts.total()} moments: {done}")
    for problem in problems:
        print(f"WRONG: {problem}")
    total = sum(counts.total() for counts in tried.values())
    print(f"{total} moments tried in {time.monotonic() - began:.0f} s: {len(problems)} wrong")
    return bool(problems)


def wanted(args: argparse.Namespace, calls: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    """(scene, fault, call): all that were asked for; for a time, of everything a little."""
    faults = args.fault or FAULTS
    pairs = [(name, fault) for name in calls for fault in faults]
    if args.seconds:
        draw = random.Random(args.seed)
        while True:
            for name, fault in draw.sample(pairs, len(pairs)):
                yield name, fault, draw.choice(moments(calls[name], args.moments, draw))
    for name, fault in pairs:
        draw = random.Random(f"{args.seed} {name} {fault}")
        for at in [args.at] if args.at else moments(calls[name], args.moments, draw):
            yield name, fault, at


def moments(calls: int, count: int, draw: random.Random) -> list[int]:
    """Numbers of calls: all of them where there are no more than are wanted; else half of them among the last."""
    everywhere = range(1, calls + 1)
    if calls <= count:
        return list(everywhere)
    late = draw.sample(everywhere[-_LATE:], min(_LATE, count // 2))
    return sorted({*late, *draw.sample(everywhere[:-_LATE], min(count - len(late), calls - _LATE))})


def in_peace(scene: Scene) -> tuple[int, float]:
    """How many calls a run makes, and how long it takes."""
    scene.begin()
    report, seconds = scene.folder.with_name("calls"), time.monotonic()

    def work() -> None:
        system = FaultySystem(scene.folder, "", 0, 0)
        scene.run(False)
        report.write_text(str(system.count))

    status = forked(work)
    if status != _OK or not scene.done():
        raise SystemExit(f"{scene.name} fails in peace: {status}")
    return int(report.read_text()), time.monotonic() - seconds


def try_moment(
    scene: Scene,
    fault: str,
    at: int,
    calls: int,
    seconds: float,
    draw: random.Random,
    tried: Counter[str],
) -> str:
    """What went wrong, "" if nothing did."""
    scene.begin()
    noted: frozenset[str] = frozenset()
    for number in range(_MOST_FAULTS):
        place = at if number == 0 else draw.randint(1, calls)
        later = draw.uniform(0, seconds) if fault == "time" else None
        seed = draw.randrange(1 << 30)
        tried[fault] += 1
        if fault == "flip":
            if wrong := flipped(scene, place, seed, draw):
                return wrong
            break
        statuses = together(scene, fault, place, seed, later, draw.uniform(0, seconds))
        if _BUG in statuses:
            return f"{scene.name}, {fault}: an exception that isn't ours"
        if fault in _HARMLESS and statuses[0] != _OK:
            return f"{scene.name}, {fault}: ended with {statuses[0]}, although nothing has failed"
        if wrong := scene.wrong():
            return f"{scene.name}, {fault}: {wrong}"
        notes = scene.notes()
        if notes is not None and fault in _KILLS:
            if not noted <= notes:
                return f"{scene.name}, {fault}: {len(noted - notes)} lines of the journal are lost"
            noted = notes
        if scene.done() or (number and draw.random() < 0.5):
            break
    if not scene.done():
        status = forked(lambda: scene.run(scene.some_named()))
        if status != _OK:
            return f"{scene.name}, {fault}: the same command doesn't go on ({status})"
        if not scene.done():
            return f"{scene.name}, {fault}: the bytes are others"
        if left := scene.left():
            return f"{scene.name}, {fault}: {', '.join(left)} left"
    return scene.wrong_file() if fault == "flip" else scene.wrong()


def flipped(scene: Scene, at: int, seed: int, draw: random.Random) -> str:
    """Kill the run, and change a bit of what it has left: the next makes the same of it, or names what is damaged."""
    forked(lambda: faulty(scene, "kill", at, seed))
    damaged = scene.flip(draw)
    if damaged is None:
        return ""
    told = scene.folder.with_name("said")

    def again() -> None:
        try:
            scene.run(scene.some_named())
        except QuantrecipeError as error:
            told.write_text(str(error), encoding="utf-8")
            raise

    status = forked(again)
    if status == _REFUSED:
        said = told.read_text(encoding="utf-8")
        if damaged.name not in said:
            return f"{scene.name}, flip: {damaged.name} is damaged, and the error names it nowhere: {said}"
        if f"remove {damaged.parent} " in said:  # as the remedy says
            shutil.rmtree(damaged.parent)
        else:
            damaged.unlink()
    elif status != _OK:
        return f"{scene.name}, flip: a bit of {damaged.name} is an exception that isn't ours ({status})"
    elif not scene.done():
        return f"{scene.name}, flip: a bit of {damaged.name} makes other bytes"
    return ""


def together(
    scene: Scene, fault: str, at: int, seed: int, kill_after: float | None, second_after: float
) -> list[int]:
    """The statuses of the run, and of what others do at the same time: the same command, for "twice"."""
    others = [] if scene.beside is nobody else [begun(scene.beside)]
    first = begun(lambda: faulty(scene, fault, at, seed))
    if fault == "twice":
        time.sleep(second_after / 2)
        others.append(begun(lambda: scene.run(False)))
        if seed % 2:
            kill_after = second_after / 2
    return [ended(first, kill_after), *map(ended, others)]


def faulty(scene: Scene, fault: str, at: int, seed: int) -> None:
    """The run, in which the fault happens."""
    FaultySystem(scene.folder, "" if fault in ("time", "twice") else fault, at, seed)
    scene.run(False)


def forked(work: Callable[[], object]) -> int:
    """Run it in a process of its own, which may be killed: its status, negative for a signal."""
    return ended(begun(work))


def begun(work: Callable[[], object]) -> int:
    """The process that runs it."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        status = _BUG
        try:
            work()
            status = _OK
        except QuantrecipeError:
            status = _REFUSED
        except BaseException:  # noqa: BLE001  # told by the status
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def ended(pid: int, kill_after: float | None = None) -> int:
    """Its status, once it has ended."""
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
