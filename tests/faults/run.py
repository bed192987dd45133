"""Moments at which apply is killed or its file system fails: python tests/faults/run.py; see README.md here."""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from faulty_system import FAULTS, FaultySystem  # noqa: E402  # beside this script
from scenes import SCENES, Scene, make_scenes  # noqa: E402

from quantrecipe.errors import QuantrecipeError  # noqa: E402

_OK, _REFUSED, _BUG = 0, 3, 4
_LATE = 16
"""Calls at the end, where headers are written and files get their names: there are few, and most could go wrong."""

_MOST_FAULTS = 3
"""In a row, before a run is left in peace."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=100, help="for each scene and fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", choices=SCENES, action="append")
    parser.add_argument("--fault", choices=FAULTS, action="append")
    parser.add_argument("--at", type=int, help="only this call")
    args = parser.parse_args()
    tried: Counter[str] = Counter()
    problems = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        scenes = make_scenes(Path(name).resolve())
        for scene in (scenes[it] for it in args.scene or SCENES):
            calls, seconds = in_peace(scene)
            for fault in args.fault or FAULTS:
                draw = random.Random(f"{args.seed} {scene.name} {fault}")
                for at in [args.at] if args.at else moments(calls, args.moments, draw):
                    problem = try_moment(scene, fault, at, calls, seconds, draw, tried)
                    if problem:
                        again = f"python tests/faults/run.py --scene {scene.name} --fault {fault} --at {at}"
                        problems.append(f"{problem}\n    {again} --seed {args.seed}")
            done = ", ".join(f"{count} {what}" for what, count in sorted(tried.items()))
            print(f"{scene.name}: {calls} calls; by now {done}", flush=True)
    for problem in problems:
        print(f"WRONG: {problem}")
    total = sum(tried.values())
    print(f"{total} moments tried in {time.monotonic() - began:.0f} s: {len(problems)} wrong")
    return bool(problems)


def moments(calls: int, count: int, draw: random.Random) -> list[int]:
    """Numbers of calls: all of them where there are no more than are wanted; else half of them among the last."""
    everywhere = range(1, calls + 1)
    if calls <= count:
        return list(everywhere)
    late = draw.sample(everywhere[-_LATE:], min(_LATE, count // 2))
    return sorted({*late, *draw.sample(everywhere[:-_LATE], count - len(late))})


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
    for number in range(_MOST_FAULTS):
        place = at if number == 0 else draw.randint(1, calls)
        later = draw.uniform(0, seconds) if fault == "time" else None
        seed = draw.randrange(1 << 30)
        tried[fault] += 1
        status = forked(lambda: faulty(scene, fault, place, seed), later)  # noqa: B023  # called at once
        if status == _BUG:
            return f"{scene.name}, {fault}: an exception that isn't ours"
        if wrong := scene.wrong():
            return f"{scene.name}, {fault}: {wrong}"
        if scene.done() or (number and draw.random() < 0.5):
            break
    if not scene.done():
        # A run that ended between the names of several files has given some of them.
        named = any(path.exists() for path in scene.peace if path not in scene.older)
        status = forked(lambda: scene.run(named))
        if status != _OK:
            return f"{scene.name}, {fault}: the same command doesn't go on ({status})"
        if not scene.done():
            return f"{scene.name}, {fault}: the bytes are others"
        if left := scene.left():
            return f"{scene.name}, {fault}: {', '.join(left)} left"
    return scene.wrong()


def faulty(scene: Scene, fault: str, at: int, seed: int) -> None:
    FaultySystem(scene.folder, "" if fault == "time" else fault, at, seed)
    scene.run(False)


def forked(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Run it in a process of its own, which may be killed: its status, negative for a signal."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        status = _BUG
        try:
            work()
            status = _OK
        except (QuantrecipeError, OSError) as error:
            if not isinstance(error, QuantrecipeError):
                traceback.print_exc()
            status = _REFUSED
        except BaseException:  # noqa: BLE001  # told by the status
            traceback.print_exc()
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
