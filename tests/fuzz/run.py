"""Fuzz targets one after the other: python tests/fuzz/run.py [TARGET [FILE]] [-t SECONDS]; see README.md here."""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FINDINGS = HERE / "findings"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?")
    parser.add_argument("file", nargs="?", type=Path, help="play this input, and nothing else")
    parser.add_argument("-t", "--seconds", type=int, default=120)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return fuzz(args.target, args.seconds)
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    if args.list:
        print(
            *(f"{name:12} {(target.__doc__ or '').splitlines()[0]}" for name, target in TARGETS.items()),
            sep="\n",
        )
        return 0
    if args.target and args.target not in TARGETS:
        parser.error(f"there is no target {args.target}; there are {', '.join(TARGETS)}")
    if args.file is not None:
        TARGETS[args.target](args.file.read_bytes())
        return 0
    failed = []
    for name in [args.target] if args.target else list(TARGETS):
        print(f"== {name}, {args.seconds} s", flush=True)
        command = [sys.executable, __file__, name, "--inside", "-t", str(args.seconds)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print("findings in: " + ", ".join(failed) if failed else "nothing found")
    return bool(failed)


def fuzz(name: str, seconds: int) -> int:
    """One target, in this process, until the time is over or something is found."""
    import atheris

    with atheris.instrument_imports(include=["quantrecipe", "yaml"]):
        sys.path.insert(0, str(HERE))
        import targets

    target = targets.TARGETS[name]
    target(b"")  # what is loaded once isn't the input's fault
    corpus, grown = HERE / "corpus" / name, FINDINGS / "corpus" / name
    grown.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    words = HERE / "words.txt"
    atheris.Setup(
        [
            name,
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-verbosity=0",
            f"-dict={words}",
            f"-artifact_prefix={FINDINGS}/{name}-",
            str(grown),
            str(corpus),
        ],
        target,
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
