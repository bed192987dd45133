"""quantrecipe sign, and verify with a signature: what is written, what is said, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.signing_keys import write_key

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, a recipe, a key; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUANTRECIPE_KEY_PASSWORD", raising=False)
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m.yaml"):
        Path(name).write_bytes(name.encode())
    (tmp_path / "keys").mkdir()
    write_key(tmp_path / "keys")
    return tmp_path


SIGN = ["sign", "m-00002-of-00002.gguf", "m.yaml", "--key", "keys/key.pem"]
VERIFY = ["verify", "m-00002-of-00002.gguf", "--key", "keys/key.public.pem"]


def test_sign_and_verify(folder: Path, capsys: Output) -> None:
    assert main([*SIGN, "--checksums", "SHA256SUMS"]) == 0
    said = capsys.readouterr().out
    assert said == "wrote m-00001-of-00002.gguf.sig and SHA256SUMS: 3 files, 48 B\n"
    assert len(Path("SHA256SUMS").read_text().splitlines()) == 3
    assert main(VERIFY) == 0
    said = capsys.readouterr().out
    assert said == "m-00002-of-00002.gguf: as it was signed (3 files, 48 B; m-00001-of-00002.gguf.sig)\n"


def test_what_differs_is_an_error(folder: Path, capsys: Output) -> None:
    assert main(SIGN) == 0
    Path("m.yaml").write_text("other")
    assert main(VERIFY) == 1
    assert "error: m.yaml: has changed since it was signed" in capsys.readouterr().err


def test_a_signature_that_is_there_is_replaced_with_force_alone(folder: Path, capsys: Output) -> None:
    assert main(SIGN) == 0
    assert main(SIGN) == 1
    assert "m-00001-of-00002.gguf.sig exists" in capsys.readouterr().err
    assert main([*SIGN, "--force"]) == 0


def test_a_folder_has_its_signature_in_it(folder: Path, capsys: Output) -> None:
    assert main(["sign", ".", "--key", "keys/key.pem", "--checksums", "SHA256SUMS"]) == 0
    assert Path("model.sig").exists()
    assert main(["verify", ".", "--key", "keys/key.public.pem"]) == 0
    Path("more").write_text("x")
    assert main(["verify", ".", "--key", "keys/key.public.pem"]) == 1
    assert "more: wasn't there when . was signed" in capsys.readouterr().err


def test_checksums_alone_need_no_key(folder: Path, capsys: Output) -> None:
    assert main(["sign", "m.yaml", "--checksums", "SUMS", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["signature"], said["checksums"], [*said["files"]]) == (None, "SUMS", ["m.yaml"])
    assert Path("SUMS").read_text() == f"{said['files']['m.yaml']}  m.yaml\n"
    assert main(["sign", "m.yaml", "--checksums", "SUMS"]) == 1
    assert "SUMS exists" in capsys.readouterr().err


def test_as_json(folder: Path, capsys: Output) -> None:
    assert main([*SIGN, "--json"]) == 0
    signed = json.loads(capsys.readouterr().out)
    assert main([*VERIFY, "--json"]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert signed["checksums"] is None
    assert verified == {name: signed[name] for name in ("signature", "nbytes", "files")}
    assert signed["nbytes"] == 48


def test_a_password(folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(folder / "keys", "secret", password="word")
    command = ["sign", "m.yaml", "--key", "keys/secret.pem"]
    assert main(command) == 1
    assert "has a password; set QUANTRECIPE_KEY_PASSWORD to it" in capsys.readouterr().err
    monkeypatch.setenv("QUANTRECIPE_KEY_PASSWORD", "word")
    assert main(command) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sign", "m.yaml"], "Say with what to sign"),
        (["sign", "m.yaml", "--sigstore", "--key", "k"], "one of them"),
        (["sign", "m.yaml", "--certificate", "c"], "need --key"),
        (["sign", "m.yaml", "--key", "k", "--identity-token", "t"], "is for --sigstore"),
        (["verify", "m.yaml", "--signature", "s"], "need --key PEM"),
        (["verify", "m.yaml", "--key", "k", "--chain", "c"], "exclude each other"),
        (["verify", "m.yaml", "--identity", "me"], "belong together"),
        (["verify", "m.yaml", "--key", "k", "--all"], "A signature is checked alone"),
        (["verify", "m.yaml", "--key", "k", "--lock", "l"], "A signature is checked alone"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], said: str, folder: Path, capsys: Output
) -> None:
    assert main(arguments) == 2
    assert said in " ".join(capsys.readouterr().err.split())
