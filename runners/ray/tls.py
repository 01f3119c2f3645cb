"""What is said between ToolScore and an agent is encrypted: TLS 1.3, with a key the agent makes anew at each start.

Its certificate goes to ToolScore through Ray, so that no authority has to vouch for it, and no other one is taken.
"""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from pathlib import Path

_YEARS = datetime.timedelta(days=3650)


def agents_side(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Make a key and its certificate.

    Args:
        folder: Where the key may lie for the moment in which it is read.

    Returns:
        What an agent listens with, and the certificate (PEM).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ToolScore agent")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _YEARS)  # clocks of machines differ, and nothing hangs on this one
        .not_valid_after(now + _YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    descriptor, path = tempfile.mkstemp(dir=folder)  # its owner's alone
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret + certificate)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context, certificate.decode()


def gateways_side(certificate: str) -> ssl.SSLContext:
    """Give what an agent with this certificate, and no other, is spoken to with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is known
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate)
    return context
