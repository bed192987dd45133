"""One process has a unit's lease, and others see that it lives; clocks of machines don't matter."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output.shares.leases import Leases

HOUR = 3600.0


def test_one_has_it_until_it_gives_it_back(tmp_path: Path) -> None:
    one, two = Leases(tmp_path, "one"), Leases(tmp_path, "two")
    with one.take(7) as ours:
        assert ours
        with two.take(7) as theirs:
            assert not theirs
        with two.take(8) as theirs:
            assert theirs
        seen = two.seen(7)
        assert seen is not None
        assert (seen.who, seen.expired) == ("one", False)
    assert two.seen(7) is None
    with two.take(7) as ours:
        assert ours
    one.close()
    two.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("age", [200.0, HOUR, -200.0, -HOUR])
def test_a_silent_one_is_taken_over(tmp_path: Path, age: float) -> None:
    """However the file system's clock has jumped; nothing is asked of this machine's."""
    one, two = Leases(tmp_path, "one", seconds=120), Leases(tmp_path, "two", seconds=120)
    with one.take(7):
        then = time.time() - age
        os.utime(tmp_path / "000007.lease", (then, then))
        seen = two.seen(7)
        assert seen is not None
        assert seen.expired
        with two.take(7) as ours:
            assert ours
            seen = one.seen(7)
            assert seen is not None
            assert (seen.who, seen.expired) == ("two", False)
    assert one.seen(7) is None


def test_this_machine_s_clock_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Leases(tmp_path, "one"), Leases(tmp_path, "two")
    with one.take(7):
        monkeypatch.setattr(time, "time", lambda: 9e9)
        seen = two.seen(7)
        assert seen is not None
        assert not seen.expired


def test_who_was_replaced_leaves_the_other_s_alone(tmp_path: Path) -> None:
    one, two = Leases(tmp_path, "one", seconds=120), Leases(tmp_path, "two", seconds=120)
    with two.take(8):
        with one.take(7):
            os.utime(tmp_path / "000007.lease", (0, 0))
            other = two.take(7)
            assert other.__enter__()
        seen = one.seen(7)  # the first has gone, and has removed nothing
        assert seen is not None
        assert seen.who == "two"
        other.__exit__(None, None, None)
    assert one.seen(7) is None


def test_a_holder_gives_signs_of_life(tmp_path: Path) -> None:
    one, two = Leases(tmp_path, "one", seconds=0.3), Leases(tmp_path, "two", seconds=0.3)
    assert one.touch_seconds == pytest.approx(0.05)
    with one.take(7):
        path = tmp_path / "000007.lease"
        os.utime(path, (1.0, 1.0))
        end = time.monotonic() + 10
        while path.stat().st_mtime == 1.0:
            assert time.monotonic() < end
        seen = two.seen(7)
        assert seen is not None
        assert seen.touched > 1.0


def test_signs_of_life_are_its_own(tmp_path: Path) -> None:
    """A holder that was replaced doesn't keep the other's lease alive."""
    one, two = Leases(tmp_path, "one", seconds=0.3), Leases(tmp_path, "two", seconds=HOUR)
    with one.take(7):
        theirs = tmp_path / "theirs"
        theirs.write_bytes(b'{"who": "two", "token": "t"}')
        os.utime(theirs, (1.0, 1.0))
        ours = (tmp_path / "000007.lease").open("rb")
        theirs.replace(tmp_path / "000007.lease")
        before, end = os.fstat(ours.fileno()).st_mtime_ns, time.monotonic() + 10
        while os.fstat(ours.fileno()).st_mtime_ns == before:
            assert time.monotonic() < end
        assert (tmp_path / "000007.lease").stat().st_mtime == 1.0
        ours.close()
    seen = two.seen(7)
    assert seen is not None
    assert seen.who == "two"


def test_a_lease_that_is_just_made_is_somebody_s(tmp_path: Path) -> None:
    (tmp_path / "000007.lease").touch()
    seen = Leases(tmp_path, "two").seen(7)
    assert seen is not None
    assert (seen.who, seen.expired) == ("another process", False)


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "gone", "one")
    assert leases.seen(7) is None
    with pytest.raises(OutputError, match="gone"), leases.take(7):
        pass
