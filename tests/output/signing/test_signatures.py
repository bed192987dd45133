"""What is signed can be checked, by the library's own program, too; and whatever differs is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.signing_keys import write_certificate, write_key, write_rsa_key

from quantrecipe.errors import OutputError, SignatureError
from quantrecipe.output.signing.signatures import Signer, Trust, is_encrypted, sign, verify_signature

Keys = tuple[Path, Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A model of two shards with its recipe, and something else."""
    folder = tmp_path / "release"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"m-0000{number}-of-00002.gguf").write_bytes(b"GGUF" + bytes([number]) * 3_000_000)
    (folder / "m.yaml").write_text("quantrecipe: 1\n")
    (folder / "notes.txt").write_text("mine\n")
    return folder


def shard(release: Path, number: int = 1) -> Path:
    return release / f"m-0000{number}-of-00002.gguf"


def refused(path: Path, signature: Path, trust: Trust) -> str:
    with pytest.raises(SignatureError) as caught:
        verify_signature(path, signature, trust)
    return str(caught.value)


class Told:
    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, nbytes: int) -> None:
        self.total = nbytes

    def read(self, nbytes: int) -> None:
        self.done += nbytes


class TestShardsAndARecipe:
    @pytest.fixture
    def signature(self, release: Path, keys: Keys) -> Path:
        path = release / "m.sig"
        sign((shard(release, 2), release / "m.yaml"), Signer(key=keys[0]), path)
        return path

    def test_each_shard_stands_for_all(self, release: Path, signature: Path, keys: Keys) -> None:
        told = Told()
        for number in (1, 2):
            found = verify_signature(shard(release, number), signature, Trust(key=keys[1]), progress=told)
        assert [*found.files] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m.yaml"]
        assert told.total == found.nbytes == 6_000_008 + 15
        assert told.done == 2 * told.total

    @pytest.mark.parametrize("name", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m.yaml"])
    def test_a_byte_that_changed_is_named_with_its_file(
        self, name: str, release: Path, signature: Path, keys: Keys
    ) -> None:
        data = bytearray((release / name).read_bytes())
        data[-1] ^= 1
        (release / name).write_bytes(data)
        said = refused(shard(release), signature, Trust(key=keys[1]))
        assert said.startswith(f"{release / name}: has changed since it was signed")
        assert "\n" not in said

    def test_a_missing_file(self, release: Path, signature: Path, keys: Keys) -> None:
        (release / "m.yaml").unlink()
        assert "m.yaml: is missing" in refused(shard(release), signature, Trust(key=keys[1]))
        shard(release, 2).unlink()
        assert "m-00002-of-00002.gguf is missing" in refused(shard(release), signature, Trust(key=keys[1]))

    def test_the_signature_of_another_model(self, release: Path, signature: Path, keys: Keys) -> None:
        other = release / "other.gguf"
        other.write_bytes(b"GGUF")
        assert "other.gguf isn't in it" in refused(other, signature, Trust(key=keys[1]))

    def test_another_key(self, release: Path, signature: Path, tmp_path: Path) -> None:
        _, public = write_key(tmp_path, "other")
        assert "wasn't made with this key" in refused(shard(release), signature, Trust(key=public))

    def test_a_changed_signature(self, release: Path, signature: Path, keys: Keys) -> None:
        document = json.loads(signature.read_text())
        first = document["dsseEnvelope"]["signatures"][0]
        first["sig"] = first["sig"][:20] + ("A" if first["sig"][20] != "A" else "B") + first["sig"][21:]
        signature.write_text(json.dumps(document))
        assert "wasn't made with this key, or was changed" in refused(
            shard(release), signature, Trust(key=keys[1])
        )

    def test_a_way_that_it_was_not_made_in(self, release: Path, signature: Path, tmp_path: Path) -> None:
        key, _ = write_key(tmp_path, "root")
        _, root = write_certificate(tmp_path, key, key)
        assert "made in another way" in refused(shard(release), signature, Trust(chain=(root,)))


class TestAFolder:
    @pytest.fixture
    def signature(self, release: Path, keys: Keys) -> Path:
        path = release / "model.sig"
        sign((release,), Signer(key=keys[0]), path, leave_out=(release / "SHA256SUMS",))
        (release / "SHA256SUMS").write_text("made later\n")
        (release / ".git").mkdir()
        (release / ".git" / "HEAD").write_text("git's\n")
        return path

    def test_all_of_it(self, release: Path, signature: Path, keys: Keys) -> None:
        found = verify_signature(release, signature, Trust(key=keys[1]))
        assert [*found.files] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m.yaml", "notes.txt"]

    def test_what_is_more_is_named(self, release: Path, signature: Path, keys: Keys) -> None:
        (release / "extra.bin").write_bytes(b"x")
        said = refused(release, signature, Trust(key=keys[1]))
        assert said.startswith(f"{release / 'extra.bin'}: wasn't there when")
        verify_signature(shard(release), signature, Trust(key=keys[1]))  # the model alone

    @pytest.mark.slow
    def test_the_library_s_own_program_takes_it(self, release: Path, signature: Path, keys: Keys) -> None:
        assert "Verification succeeded" in program(
            "verify", "key", str(release), "--signature", str(signature), "--public_key", str(keys[1])
        )
        (release / "extra.bin").write_bytes(b"x")
        assert "extra.bin" in program(
            "verify", "key", str(release), "--signature", str(signature), "--public_key", str(keys[1])
        )


@pytest.mark.slow
def test_what_the_library_s_own_program_signs_is_taken(release: Path, keys: Keys) -> None:
    for path, signature in ((release, release / "oms.sig"), (shard(release), release.parent / "one.sig")):
        arguments = [str(path), "--private_key", str(keys[0]), "--signature", str(signature)]
        assert "Signing succeeded" in program("sign", "key", *arguments)
        assert verify_signature(path, signature, Trust(key=keys[1])).nbytes > 3_000_000
        shard(release).write_bytes(shard(release).read_bytes() + b"!")
        assert "has changed" in refused(path, signature, Trust(key=keys[1]))


def program(*arguments: str) -> str:
    command = [sys.executable, "-m", "model_signing", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


def test_a_file_that_was_signed_alone_may_be_renamed(tmp_path: Path, keys: Keys) -> None:
    file, signature = tmp_path / "m.gguf", tmp_path / "m.sig"
    file.write_bytes(b"GGUF")
    sign((file,), Signer(key=keys[0]), signature)
    renamed = file.rename(tmp_path / "other.gguf")
    assert [*verify_signature(renamed, signature, Trust(key=keys[1])).files] == ["other.gguf"]
    assert "of a single file, not of a folder" in refused(tmp_path, signature, Trust(key=keys[1]))


def test_a_link_is_what_it_leads_to(tmp_path: Path, keys: Keys) -> None:
    """Caches of downloads are made of links."""
    (tmp_path / "blob").write_bytes(b"GGUF")
    (tmp_path / "m.gguf").symlink_to("blob")
    sign((tmp_path / "m.gguf",), Signer(key=keys[0]), tmp_path / "m.sig")
    verify_signature(tmp_path / "m.gguf", tmp_path / "m.sig", Trust(key=keys[1]))


def test_a_certificate(release: Path, tmp_path: Path, keys: Keys) -> None:
    root, _ = write_key(tmp_path, "root", curve=ec.SECP384R1())
    certificate, authority = write_certificate(tmp_path, keys[0], root)
    signature = release / "m.sig"
    sign((shard(release),), Signer(key=keys[0], certificate=certificate, chain=(authority,)), signature)
    verify_signature(shard(release), signature, Trust(chain=(authority,)))
    other, _ = write_key(tmp_path, "root")
    _, stranger = write_certificate(tmp_path, keys[0], other)
    assert "isn't valid" in refused(shard(release), signature, Trust(chain=(stranger,)))
    assert "made in another way" in refused(shard(release), signature, Trust(key=keys[1]))


def test_keys_that_cannot_be_used(release: Path, tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "text.pem").write_text("no key\n")
    curve, _ = write_key(tmp_path, "curve", curve=ec.SECP256K1())
    for key, said in {
        write_rsa_key(tmp_path)[0]: "it isn't of an elliptic curve",
        curve: "Unsupported key for curve",
        tmp_path / "text.pem": "isn't a key",
        keys[1]: "isn't a key",
        tmp_path / "none.pem": "can't be read",
    }.items():
        with pytest.raises(SignatureError, match=said) as caught:
            sign((shard(release),), Signer(key=key), release / "m.sig")
        assert str(key) in str(caught.value)
    assert not (release / "m.sig").exists()


def test_a_key_with_a_password(release: Path, tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "secret", password="word")
    assert is_encrypted(private)
    sign((shard(release),), Signer(key=private, password="word"), release / "m.sig")
    verify_signature(shard(release), release / "m.sig", Trust(key=public))
    with pytest.raises(SignatureError, match="Incorrect password"):
        sign((shard(release),), Signer(key=private, password="other"), release / "m.sig")


def test_a_folder_that_cannot_be_written_to(release: Path, keys: Keys) -> None:
    with pytest.raises(OutputError, match=r"m\.sig can't be written: No such file"):
        sign((shard(release),), Signer(key=keys[0]), release / "none" / "m.sig")


def test_without_the_package_it_says_how_to_get_it(
    release: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing.hashing", None)
    with pytest.raises(SignatureError, match=r"pip install 'quantrecipe\[sign\]'"):
        sign((shard(release),), Signer(key=keys[0]), release / "m.sig")


def test_an_interrupt_ends_the_hashing(release: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupts(Told):
        def read(self, nbytes: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sign((shard(release),), Signer(key=keys[0]), release / "m.sig", progress=Interrupts())
    assert not list(release.glob("m.sig*"))
