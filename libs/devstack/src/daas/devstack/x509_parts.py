"""What the development stack's own certificates have in common; they are simulated authorities, made anew per stack."""

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

LIFE_DAYS: Final = 365
#: A state directory kept for longer than eleven months gets new certificates.
RENEW_DAYS: Final = 30
#: Clocks on one machine agree; containers started together may differ by seconds.
_BACKDATED: Final = timedelta(minutes=5)


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """A certificate of `LIFE_DAYS` with a random serial number; extensions and signature are still to come."""
    start = datetime.now(UTC) - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=LIFE_DAYS))
    )


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """Signing, and for an authority also signing certificates."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
