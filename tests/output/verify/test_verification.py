"""The result of a verification, for machines."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.output.verify.verification import Check, Finding, Verification
from quantrecipe.plain_data import plain

LOST = Finding(what="is gone", tensor="a.weight", file=Path("m.gguf"), offset=7, row=1, block=2)


def verification(*checks: Check) -> Verification:
    return Verification(
        path=Path("m.gguf"),
        files=(Path("m-1.gguf"), Path("m-2.gguf")),
        claims=True,
        checks=checks,
        requantized=("a.weight",),
        read=12,
        seconds=1.23456,
    )


def test_a_check_fails_if_anything_was_found() -> None:
    assert Check.of("header", "said", []).status == "ok"
    failed = Check.of("header", "said", iter([LOST]))
    assert (failed.status, failed.findings) == ("failed", (LOST,))
    assert (Check.skipped("lock", "none").status, Check.skipped("lock", "none").findings) == ("skipped", ())


def test_what_is_skipped_is_not_wrong() -> None:
    ok, skipped = Check.of("header", "said", []), Check.skipped("lock", "none")
    assert verification(ok, skipped).ok
    whole = verification(ok, Check.of("types", "said", [LOST]), Check.of("plan", "said", [LOST, LOST]))
    assert not whole.ok
    assert whole.findings == (LOST,) * 3


def test_for_machines() -> None:
    found = plain(verification(Check.of("types", "12 tensors", [LOST])))
    assert list(found.items()) == [
        ("path", "m.gguf"),
        ("files", ["m-1.gguf", "m-2.gguf"]),
        ("ok", False),
        (
            "checks",
            [
                {
                    "check": "types",
                    "status": "failed",
                    "said": "12 tensors",
                    "findings": [
                        {
                            "what": "is gone",
                            "tensor": "a.weight",
                            "file": "m.gguf",
                            "offset": 7,
                            "row": 1,
                            "block": 2,
                        }
                    ],
                }
            ],
        ),
        ("requantized", ["a.weight"]),
        ("read_bytes", 12),
        ("seconds", 1.235),
    ]
