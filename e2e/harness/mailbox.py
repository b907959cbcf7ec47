"""Reading the maildir of a test's mail server."""

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path


def read_mailbox(maildir: Path, recipient: str) -> list[EmailMessage]:
    """The mails in `maildir` that were delivered to `recipient`, the oldest first.

    Only `new/` is read: a mail is moved there when it is complete.
    """
    mails = []
    for path in sorted((maildir / "new").glob("*"), key=lambda path: path.stat().st_mtime_ns):
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if mail["Delivered-To"] == recipient:
            mails.append(mail)
    return mails
