"""A certificate for the mail servers of tests, signed by itself."""

import functools
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def self_signed_pem() -> bytes:
    """Key and certificate of mail.example.com, made once a test run, good for two days."""
    with tempfile.TemporaryDirectory() as directory:
        key, certificate = Path(directory, "key.pem"), Path(directory, "certificate.pem")
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        request += ["-subj", "/CN=mail.example.com", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(request, check=True, capture_output=True, timeout=30)
        return key.read_bytes() + certificate.read_bytes()
