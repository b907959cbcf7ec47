"""Pods that send mail, and what becomes of it: single sessions, sessions that are held, and mail after mail that is counted.

Contract: a `ClientPod` runs pod_client.py by `kubectl exec`, and reads the mailbox of all mail servers, which is mounted in it.
"""

import json
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.cluster_client import ClusterClient, wait_for
from harness.polling import poll

ARRIVED_WITHIN = 45.0
"""Seconds from the MTA's 250 to the mailbox; one is usual, and the machine may be busy."""

_CLIENT = Path(__file__).with_name("pod_client.py").read_text()


@dataclass(frozen=True)
class Said:
    """What a client heard: every reply, and how it ended."""

    replies: tuple[str, ...]
    ended: str

    @property
    def last(self) -> str:
        """But for the answer to QUIT; "" where nothing was heard."""
        heard = [reply for reply in self.replies if not reply.startswith("221")]
        return heard[-1] if heard else ""


_READ_MAILS = """
import json, pathlib, sys, time
end = time.monotonic() + 5
while True:
    paths = sorted(pathlib.Path("/var/mail/all/new").glob("*"), key=lambda each: each.stat().st_mtime_ns)
    found = [path.read_text(errors="replace") for path in paths]
    whole = "\\n".join(found)
    if all(text in whole for text in sys.argv[1:]) or time.monotonic() > end:
        break
    time.sleep(0.1)
print(json.dumps(found))
"""
"""It waits itself: each `kubectl exec` costs a good part of a second of a core."""


class ClientPod:
    """address: its own, as mail servers see it."""

    def __init__(self, cluster: ClusterClient, namespace: str, name: str, address: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.name = name
        self.address = address

    def speak(
        self,
        kind: str,
        *,
        host: str = "mail",
        port: int | None = None,
        subject: str = "hello",
        recipient: str = "bob@example.org",
    ) -> Said:
        """One connection of that kind (see pod_client.py). port: None: the Service's, or the sidecar's where `host` is a pod's address."""
        told = self._cluster.kubectl(
            f"--namespace={self._namespace}",
            "exec",
            self.name,
            "--",
            "python3",
            "-c",
            _CLIENT,
            kind,
            host,
            _port(host) if port is None else str(port),
            recipient,
            subject,
        )
        return _said(told)

    def mails(self, *texts: str) -> list[str]:
        """All that arrived at the service, whole, the oldest first; once each of `texts` is found in them, or after 5 s."""
        command = ("exec", self.name, "--", "python3", "-c", _READ_MAILS, *texts)
        found: list[str] = json.loads(self._cluster.kubectl(f"--namespace={self._namespace}", *command))
        return found

    def wait_for_mail(self, text: str, told: Callable[[], str]) -> str:
        """The first mail that arrived with `text` in it. Raises TimeoutError with what `told` says."""
        return poll(
            lambda: next((mail for mail in self.mails(text) if text in mail), None), ARRIVED_WITHIN, told
        )

    def start(
        self, kind: str, *, subject: str, host: str = "mail", recipient: str = "bob@example.org"
    ) -> subprocess.Popen[str]:
        """The client as a process whose stdin and stdout are pipes."""
        return self._cluster.start_kubectl(
            *("exec", "--stdin", self.name, f"--namespace={self._namespace}", "--"),
            *("python3", "-c", _CLIENT, kind, host, _port(host), recipient, subject),
        )

    @contextmanager
    def held(self, subject: str, host: str = "mail") -> Iterator["HeldSession"]:
        """A session that has been greeted, and goes on when it is told to."""
        with self.start("held", subject=subject, host=host) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "greeted\n"
                yield HeldSession(process)
            finally:
                process.kill()


class HeldSession:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def deliver(self) -> Said:
        """Go on with the mail."""
        told, _ = self._process.communicate("\n", timeout=60)
        return _said(told)


class Flow:
    """Mail after mail from a client, within the `with` block. `tries`: what became of each (see pod_client.py), complete after it."""

    def __init__(self, client: ClientPod, subject: str, host: str = "mail") -> None:
        self._client = client
        # A test that is tried again finds the mails of its first try in the mailbox.
        self._subject = f"{subject}-{secrets.token_hex(2)}"
        self._host = host
        self.tries: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._process = self._client.start("flow", subject=self._subject, host=self._host)
        self._thread = threading.Thread(target=self._read, name="mail-flow", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._thread.join(60)
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_for(self, more: int) -> None:
        """Until so many more mails have been tried. Raises TimeoutError."""
        wanted = len(self.tries) + more
        wait_for(lambda: len(self.tries) >= wanted, 60.0, f"{more} more mails; the last: {self.tries[-2:]}")

    @property
    def accepted(self) -> list[str]:
        """The subjects of all mails that were accepted."""
        return [each["subject"] for each in self.tries if each["accepted"]]

    @property
    def others(self) -> list[dict[str, Any]]:
        """The tries that ended otherwise."""
        return [each for each in self.tries if not each["accepted"]]

    def arrived(self, within: float = ARRIVED_WITHIN) -> None:
        """Every mail that was accepted is in the mailbox, once. Raises AssertionError."""

        def missing() -> set[str]:
            awaited = (f"Subject: {subject}\n" for subject in self.accepted)
            self._subjects = [_subject(mail) for mail in self._client.mails(*awaited)]
            return set(self.accepted) - set(self._subjects)

        try:
            wait_for(lambda: not missing(), within, "all accepted mail")
        except TimeoutError:
            lost = missing()
            raise AssertionError(
                f"{len(lost)} of {len(self.accepted)} accepted mails did not arrive: {sorted(lost)[:5]}"
            ) from None
        again = [each for each in self.accepted if self._subjects.count(each) > 1]
        assert not again, f"arrived more than once: {again}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.tries.append(json.loads(line))


def _port(host: str) -> str:
    """The Service's, or the sidecar's in a pod that is reached by its address."""
    return "10025" if host[:1].isdigit() else "25"


def _said(told: str) -> Said:
    answer = json.loads(told.strip().splitlines()[-1])
    return Said(tuple(answer["replies"]), answer["ended"])


def _subject(mail: str) -> str:
    return next(
        (line.removeprefix("Subject: ") for line in mail.splitlines() if line.startswith("Subject: ")), ""
    )
