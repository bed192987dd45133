"""Signatures: that files are what somebody signed, by OpenSSF model signing (the package model-signing, extra `sign`).

A signature is a Sigstore bundle, a JSON file. In it is a statement of in-toto with the SHA-256 of each file, and what a
key, a certificate or an identity at Sigstore signed that statement with. Of one file the statement has its hash alone,
so that the file may be renamed; of several it has their names below a folder.

    sign((Path("model.gguf"),), Signer(key=Path("private.pem")), Path("model.gguf.sig"))
    verify_signature(Path("model.gguf"), Path("model.gguf.sig"), Trust(key=Path("public.pem")))

The library makes and checks signatures. Here is which files they are of, how far the hashing is, and what to say when
something is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantrecipe.errors import OutputError, SignatureError
from quantrecipe.output.signing.signed_files import (
    Counted,
    HashProgress,
    SignedFiles,
    files_of,
    signed,
)
from quantrecipe.output.signing.statement import Statement, compare, expected_files, read_statement

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Signer", "Trust", "is_encrypted", "sign", "verify_signature"]

_CHUNK = 1 << 20  # bytes that are read in one go


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """What to sign with: a private key (PEM, of an elliptic curve), a key with its certificate, or Sigstore.

    password:    of a key that is encrypted
    certificate: for the key; chain: those between it and one that others trust
    identity_token: at Sigstore, in place of asking in a browser
    """

    key: Path | None = None
    password: str | None = None
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()
    identity_token: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """Whose signature it has to be: of a public key (PEM), under a certificate, or of an identity at Sigstore."""

    key: Path | None = None
    chain: tuple[Path, ...] = ()
    identity: str = ""
    issuer: str = ""


def sign(
    paths: Sequence[Path],
    signer: Signer,
    signature: Path,
    *,
    leave_out: Sequence[Path] = (),
    threads: int | None = None,
    progress: HashProgress | None = None,
) -> SignedFiles:
    """Sign a model (a file with all of its shards, or a folder with all that is in it) and files beside it.

    leave_out: of a folder, besides the signature and what is git's; the signature tells that
    `signature` is written when it is complete, over a file that has the name. SignatureError for what can't be signed,
    or not with this key; OutputError where the signature can't be written.
    """
    library = _library()
    absent = (signature, *leave_out)
    root, files = files_of(paths, absent)
    hashing = _hashing(library, files, Counted(files, progress), threads)
    hashing.set_ignored_paths(paths=[it for path in absent if (it := _below(path, root)) is not None])
    config = library.signing.Config().set_hashing_config(hashing)
    with _key_errors(signer.key):
        if signer.certificate is not None:
            config.use_certificate_signer(
                private_key=signer.key, signing_certificate=signer.certificate, certificate_chain=signer.chain
            )
        elif signer.key is not None:
            password = None if signer.password is None else signer.password.encode()
            config.use_elliptic_key_signer(private_key=signer.key, password=password)
        else:
            config.use_sigstore_signer(identity_token=signer.identity_token, use_ambient_credentials=True)
    part = signature.with_name(f"{signature.name}.{os.getpid()}.part")
    try:
        with _signing_errors(signature):
            config.sign(root, part)
        os.replace(part, signature)  # noqa: PTH105  # beside unlink below, for any name
    except OSError as error:
        raise OutputError(
            f"{signature} can't be written: {error.strerror or error}", "name another with -o"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return signed(root, files, hashing.digests)


def verify_signature(
    path: Path,
    signature: Path,
    trust: Trust,
    *,
    threads: int | None = None,
    progress: HashProgress | None = None,
) -> SignedFiles:
    """Check that a file (with its shards), or all of a folder, is what was signed. SignatureError where it isn't so.

    Of a file, others that were signed with it have to be there, too; what else is in its folder may be anything.
    """
    library = _library()
    expected = read_statement(signature)
    root, files = expected_files(path, expected, signature)
    hashing = _hashing(
        library, files, Counted(files, progress), threads, expected=expected, signature=signature
    )
    config = library.verifying.Config()
    with _key_errors(trust.key, certified=bool(trust.chain)):
        if trust.key is not None:
            config.use_elliptic_key_verifier(public_key=trust.key)
        elif trust.identity:
            config.use_sigstore_verifier(identity=trust.identity, oidc_issuer=trust.issuer)
        else:
            config.use_certificate_verifier(certificate_chain=trust.chain)
    config.set_hashing_config(hashing)
    with _verifying_errors(signature):
        config.verify(root, signature)
    return signed(root, files, hashing.digests)


def _below(path: Path, root: Path) -> Path | None:
    """The path from a folder; None for what isn't in it."""
    path, root = path.absolute(), root.absolute()
    return path.relative_to(root) if root.is_dir() and path.is_relative_to(root) else None


def is_encrypted(key: Path) -> bool:
    """True for a private key that needs a password. SignatureError where it can't be read."""
    with _key_errors(key):
        return b"ENCRYPTED" in key.read_bytes()[:_CHUNK]


def _library() -> ModuleType:
    try:
        import model_signing.hashing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise SignatureError(
            f"signatures are made and checked with the package model-signing, which isn't there ({error})",
            "pip install 'quantrecipe[sign]'",
        ) from error
    return model_signing


def _hashing(
    library: Any,
    files: Sequence[Path],
    counted: Counted,
    threads: int | None,
    *,
    expected: Statement | None = None,
    signature: Path | None = None,
) -> Any:
    """The library's way to hash files, for these alone. Where hashes are expected, it says which files differ."""

    class Hashing(library.hashing.Config):  # type: ignore[misc]  # loaded when it is needed
        digests: Mapping[str, str] = {}

        def hash(self, model_path: Path, *, files_to_hash: Iterable[Path] | None = None) -> Any:
            """Hash in a thread that can be told to end, since the library's own wait for large files."""
            with ThreadPoolExecutor(1) as pool:
                future = pool.submit(super().hash, model_path, files_to_hash=files)
                try:
                    manifest = future.result()
                except BaseException:
                    counted.stop.set()
                    raise
            self.digests = {it.identifier: it.digest.digest_hex for it in manifest.resource_descriptors()}
            if expected is not None and signature is not None:
                compare(self.digests, expected, model_path, signature)
            return manifest

        def _build_stream_hasher(self, hashing_algorithm: Any = "sha256") -> Any:
            engine = super()._build_stream_hasher(hashing_algorithm)
            update = engine.update

            def counting(data: bytes) -> None:
                update(data)
                counted.read(len(data))

            engine.update = counting
            return engine

    made = Hashing()
    options: dict[str, Any] = {"max_workers": threads, "chunk_size": _CHUNK}
    if expected is not None and expected.method == "shards":
        made.use_shard_serialization(
            hashing_algorithm=expected.algorithm, shard_size=expected.shard_size, **options
        )
    else:
        made.use_file_serialization(
            hashing_algorithm="sha256" if expected is None else expected.algorithm, **options
        )
    return made.set_allow_symlinks(True)  # caches of downloads are made of links


@contextmanager
def _key_errors(key: Path | None, *, certified: bool = False) -> Iterator[None]:
    """What a key's reader raises becomes a SignatureError that says what kind of key it has to be."""
    try:
        yield
    except OSError as error:
        raise SignatureError(
            f"can't be read: {error.strerror or error}", "check the path", file=error.filename
        ) from error
    except Exception as error:  # cryptography's errors have no common base
        if key is None and not certified:
            what = f"Sigstore can't be asked: {str(error)[:160] or type(error).__name__}"
            raise SignatureError(what, "check the connection, or sign with --key") from error
        said = "it isn't of an elliptic curve" if isinstance(error, AttributeError) else str(error)[:160]
        what = f"isn't a key, or a certificate, that can be used: {said or type(error).__name__}"
        remedy = "use one of the curve prime256v1, secp384r1 or secp521r1, in PEM; `quantrecipe help signing` says how"
        raise SignatureError(what, remedy, file=key) from error


@contextmanager
def _signing_errors(signature: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SignatureError):
        raise
    except Exception as error:  # the library's errors have no common base
        raise SignatureError(
            f"can't be made: {str(error)[:200] or type(error).__name__}", file=signature
        ) from error


@contextmanager
def _verifying_errors(signature: Path) -> Iterator[None]:
    """What the library raises for a signature that isn't right becomes a SignatureError."""
    try:
        yield
    except SignatureError:
        raise
    except OSError as error:
        raise SignatureError(f"can't be read: {error.strerror or error}", file=error.filename) from error
    except Exception as error:  # as above
        if type(error).__name__ == "InvalidSignature" or str(error).startswith("Key mismatch"):
            what = "wasn't made with this key, or was changed since"
            remedy = "get the key from its owner, and the signature from where the model is"
            raise SignatureError(what, remedy, file=signature) from error
        if isinstance(error, AttributeError | LookupError):
            what = "was made in another way than it is checked: with a key, a certificate or an identity"
            remedy = "say --key, --chain or --identity, as its owner does"
            raise SignatureError(what, remedy, file=signature) from error
        what = f"isn't valid: {str(error)[:200] or type(error).__name__}"
        raise SignatureError(what, "get it again from where the model is", file=signature) from error
