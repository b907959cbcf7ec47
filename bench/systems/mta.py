"""The mail server behind: Debian's Postfix in a control group of its own, its smtpd taking connections as descriptors."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness.postfix import Postfix
from harness.postfix_fixtures import make_postfix_root

from bench.control_group import ControlGroup

SETTINGS = {"default_process_limit": "200", "smtpd_tls_security_level": "none"}
"""As many as clients at a time: no one is to wait for a free smtpd."""


@contextmanager
def passed_to() -> Iterator[tuple[Postfix, ControlGroup]]:
    """It runs within the block; `pass_socket` is where it takes connections."""
    postfix = Postfix(make_postfix_root(), handoff="pass", settings=SETTINGS)
    with ControlGroup("mta") as group, ExitStack() as running:
        with group.joined():
            running.enter_context(postfix)
        yield postfix, group
