"""Network namespaces that a test makes itself, so that clients can have any address and ports are nobody else's.

Contract: a `NetworkNamespace` is there from `with` to the end of its block, with loopback up. It is held by a process of its own and
has no name: the kernel removes it, and the veth pairs to it, when that process and those within are gone. That happens at the end of the
block, after a failure too, and also when the test run itself is killed. Of the machine's own network only `link_to_host`
changes anything: it adds one interface.

Why not `ip netns`: its names are mounts that outlive a killed test run.
"""

import ctypes
import ipaddress
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from harness.toolchain import unavailable

Result = TypeVar("Result")

CLONE_NEWNET = 0x40000000
"""From linux/sched.h: the kind of namespace that setns(2) is to join."""

END_TIMEOUT = 5.0
"""Seconds within which killed processes must be gone; it takes milliseconds."""

# The kernel sends SIGKILL when the thread ends that started the program: start none from a thread that ends before it.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")

_link_numbers = itertools.count()


class NetworkNamespace:
    """A network namespace with loopback up, and `addresses` (CIDR form) on it in addition to 127.0.0.1 and ::1.

    Skips, or fails where CI=true, on a machine where namespaces can't be made.
    """

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        self._addresses = list(addresses)
        self._holder: subprocess.Popen[str] | None = None
        self._host_links: list[str] = []

    def __enter__(self) -> Self:
        require_namespaces()
        self._holder = subprocess.Popen(
            [*DIES_WITH_US, "unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        try:
            if self._holder.stdout.readline() != "ready\n":
                raise RuntimeError(f"unshare --net failed with exit status {self._holder.wait()}")
            self.run(["ip", "link", "set", "lo", "up"])
            self._add_addresses("lo", self._addresses)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    @property
    def path(self) -> Path:
        """The namespace's file, for setns(2) and `nsenter --net=`. Raises RuntimeError outside the `with` block."""
        return Path(f"/proc/{self._pid}/ns/net")

    @property
    def _pid(self) -> int:
        if self._holder is None:
            raise RuntimeError("a NetworkNamespace is used outside its `with` block")
        return self._holder.pid

    def link(self, peer: "NetworkNamespace", here: Sequence[str], there: Sequence[str]) -> None:
        """Join this namespace and `peer` by a veth pair with these addresses (CIDR form, as `192.168.0.1/16`) at its ends."""
        name = _new_link_name()
        near, far = ["name", name, "netns", str(self._pid)], ["name", name, "netns", str(peer._pid)]
        _ip("link", "add", *near, "type", "veth", "peer", *far)
        self._raise_link(name, here)
        peer._raise_link(name, there)

    def link_to_host(self, here: Sequence[str], host: Sequence[str]) -> None:
        """Join this namespace and the network that the tests run in. `host` is added there: choose networks unused on a machine."""
        name = _new_link_name()
        _ip("link", "add", "name", name, "type", "veth", "peer", "name", name, "netns", str(self._pid))
        self._host_links.append(name)
        self._raise_link(name, here)
        for address in host:
            _ip(*_add_address(name, address))
        _ip("link", "set", name, "up")

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` in here (by root, from outside)."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, argv)]

    def run(
        self, argv: Sequence[str | Path], *, timeout: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in here to its end, at most `timeout` seconds, and give its output as text.

        With `check`, an exit status that is not 0 raises RuntimeError with what the program said.
        """
        done = subprocess.run(
            self.command(argv), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(map(str, argv))}: exit status {done.returncode}: {done.stderr}{done.stdout}"
            )
        return done

    def popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        """Start a program in here. It is killed at the end of the block, or when the thread that called this ends."""
        return subprocess.Popen([*DIES_WITH_US, *self.command(argv)], text=True, **options)

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """`function(*arguments)`, run by a thread in here, so that sockets which it opens belong to this namespace.

        An event loop can be run with `call(asyncio.run, coroutine)`. What the function raises is raised.
        """
        path = self.path
        outcome: list[Result] = []
        failure: list[BaseException] = []

        def enter_and_call() -> None:
            try:
                with path.open("rb") as handle:
                    # Python has os.setns from 3.12 on. It moves the calling thread only.
                    if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
                outcome.append(function(*arguments))
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=enter_and_call, name="network-namespace", daemon=True)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def processes(self) -> list[int]:
        """The pids of all processes in here, the holder's included."""
        inode = self.path.stat().st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if (entry / "ns/net").stat().st_ino == inode:
                        found.append(int(entry.name))
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
        return found

    def _raise_link(self, name: str, addresses: Sequence[str]) -> None:
        self._add_addresses(name, addresses)
        self.run(["ip", "link", "set", name, "up"])

    def _add_addresses(self, link: str, addresses: Sequence[str]) -> None:
        for address in addresses:
            self.run(["ip", *_add_address(link, address)])

    def _end(self) -> None:
        holder = self._holder
        if holder is None:
            return
        deadline = time.monotonic() + END_TIMEOUT
        # A program may start another while it is being killed.
        while others := [pid for pid in self.processes() if pid != holder.pid]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {others} did not end with their network namespace")
            for pid in others:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.005)
        # The kernel would remove them too, but only some time after the namespace's end.
        while self._host_links:
            _ip("link", "delete", self._host_links.pop())
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
        self._holder = None


def require_namespaces() -> None:
    """Skip the test, or fail it where CI=true, where network, mount and pid namespaces can't be made."""
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True
    )
    if tried.returncode != 0:
        unavailable(f"root with CAP_SYS_ADMIN, to make namespaces ({tried.stderr.strip()})")


def _new_link_name() -> str:
    # An interface's name has at most 15 characters; a pid at most 7 digits.
    return f"pw{os.getpid()}n{next(_link_numbers)}"


def _add_address(link: str, address: str) -> list[str]:
    # Without duplicate address detection an IPv6 address is usable at once.
    nodad = ["nodad"] if ipaddress.ip_interface(address).version == 6 else []
    return ["address", "add", address, "dev", link, *nodad]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr}")
