"""Keys of elliptic curves, as `openssl ecparam` makes them, and certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = ["write_certificate", "write_key", "write_rsa_key"]

_Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_key(
    folder: Path, name: str = "key", *, curve: ec.EllipticCurve | None = None, password: str | None = None
) -> tuple[Path, Path]:
    """A private key and its public key, as PEM files."""
    return _written(ec.generate_private_key(curve or ec.SECP256R1()), folder, name, password)


def write_rsa_key(folder: Path) -> tuple[Path, Path]:
    return _written(rsa.generate_private_key(65537, 2048), folder, "rsa", None)


def _written(key: _Private, folder: Path, name: str, password: str | None) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.public.pem"
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def write_certificate(folder: Path, key: Path, root: Path) -> tuple[Path, Path]:
    """A certificate for a key, that a root's key has signed, and the root's own."""
    signer = serialization.load_pem_private_key(key.read_bytes(), None)
    issuer = serialization.load_pem_private_key(root.read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    assert isinstance(issuer, ec.EllipticCurvePrivateKey)
    made = []
    for name, subject, is_root in (("signer", signer, False), ("root", issuer, True)):
        path = folder / f"{name}.crt"
        usage = x509.KeyUsage(
            digital_signature=not is_root,
            key_cert_sign=is_root,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "root")]))
            .public_key(subject.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(issuer, hashes.SHA256())
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.append(path)
    return made[0], made[1]
