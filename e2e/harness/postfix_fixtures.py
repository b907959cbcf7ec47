"""Fixtures for tests with a real Postfix. Each part is made when the first test asks for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.milter import Milter
from harness.postfix import Postfix
from harness.rootfs import debian_root
from harness.toolchain import apt_install


@contextmanager
def progress_seen(config: pytest.Config) -> Iterator[None]:
    """pytest's capture is off within: what is said of an installation is seen while it goes on."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        yield


def make_postfix_root() -> Path:
    """The root folder with Debian's Postfix. Skips or fails as `debian_root` does."""
    # The other answers to this question make Debian's scripts write a configuration.
    answer = "postfix postfix/main_mailer_type select No configuration"
    # Makes the queue's folders, which Postfix otherwise does at its first start with all its slow checks.
    check = "echo compatibility_level=3.6 >/etc/postfix/main.cf; postfix check; rm /etc/postfix/main.cf"
    return debian_root("postfix", ["postfix"], preseed=[answer], commands=[check])


@pytest.fixture(scope="session")
def postfix_root(pytestconfig: pytest.Config) -> Path:
    """As `make_postfix_root`."""
    with progress_seen(pytestconfig):
        return make_postfix_root()


@pytest.fixture
def start_postfix(postfix_root: Path) -> Iterator[Callable[..., Postfix]]:
    """`start_postfix(**options)` gives a running `Postfix` (its options without `root`); all end with the test."""
    with ExitStack() as running:

        def start(**options: object) -> Postfix:
            return running.enter_context(Postfix(postfix_root, **options))  # type: ignore[arg-type]  # as Postfix's

        yield start


@pytest.fixture
def milter() -> Iterator[Milter]:
    """A running milter that records its connections."""
    with Milter() as running:
        yield running


@pytest.fixture(scope="session")
def swaks(pytestconfig: pytest.Config) -> str:
    """The command `swaks`, an SMTP client, installed if it is missing, with what it needs for TLS."""
    with progress_seen(pytestconfig):
        apt_install(["swaks", "libnet-ssleay-perl"])
    return "swaks"


@pytest.fixture(scope="session")
def msmtp(pytestconfig: pytest.Config) -> str:
    """The command `msmtp`, an SMTP client, installed if it is missing."""
    with progress_seen(pytestconfig):
        apt_install(["msmtp"])
    return "msmtp"
