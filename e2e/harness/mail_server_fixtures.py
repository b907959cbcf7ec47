"""Fixtures for tests with a real Exim or OpenSMTPD. Each part is made when the first test asks for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.exim import Exim
from harness.postfix_fixtures import progress_seen
from harness.rootfs import debian_root

__all__ = ["exim_root", "make_exim_root", "make_opensmtpd_root", "opensmtpd_root", "start_exim"]


def make_exim_root() -> Path:
    """The root folder with Debian's Exim, of the package that knows the PROXY protocol."""
    return debian_root("exim", ["exim4-daemon-heavy"])


def make_opensmtpd_root() -> Path:
    """The root folder with Debian's OpenSMTPD, 7.6: bookworm's 6.8 breaks off each TLS handshake, for it knows no OpenSSL 3."""
    return debian_root("opensmtpd", ["opensmtpd", "ca-certificates"], suite="trixie")


@pytest.fixture(scope="session")
def exim_root(pytestconfig: pytest.Config) -> Path:
    """As `make_exim_root` makes it."""
    with progress_seen(pytestconfig):
        return make_exim_root()


@pytest.fixture(scope="session")
def opensmtpd_root(pytestconfig: pytest.Config) -> Path:
    """As `make_opensmtpd_root` makes it."""
    with progress_seen(pytestconfig):
        return make_opensmtpd_root()


@pytest.fixture
def start_exim(exim_root: Path) -> Iterator[Callable[..., Exim]]:
    """`start_exim(**options)` gives a running `Exim` (its options without `root`); all end with the test."""
    with ExitStack() as running:

        def start(**options: object) -> Exim:
            return running.enter_context(Exim(exim_root, **options))  # type: ignore[arg-type]  # as Exim's

        yield start
