"""The first process (PID 1) of a node's namespaces: makes its file systems, starts its programs when told, reaps what ends.

Contract: run as a script with the path of a JSON file {mounts, kernel_settings, cgroups, logs, environment, commands}. Names of
commands come on stdin, one a line, and are started; when stdin ends it ends, and the kernel ends all others with it. Each program writes a
log of its own; "NAME exited: STATUS" is written to stdout. Imports the standard library only.
"""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def prepare(plan: dict[str, Any]) -> None:
    """Raises OSError, CalledProcessError."""
    for group in plan["cgroups"]:
        Path(group, "cgroup.procs").write_text("0")
    for source, target in plan["mounts"]:
        Path(source).mkdir(parents=True, exist_ok=True)
        _mount("--bind", source, target)
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    _mount("-t", "tmpfs", "tmpfs", "/dev/shm")
    for name, value in plan["kernel_settings"].items():
        shown = Path("/run/kernel-settings", name)
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(value + "\n")
        if Path("/proc/sys", name).exists():
            _mount("--bind", str(shown), f"/proc/sys/{name}")
    # Containers get mounts that are made later, as on any node.
    _mount("--make-rshared", "/")
    # Of this network namespace alone.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for optional in ("net/bridge/bridge-nf-call-iptables", "net/ipv6/conf/all/forwarding"):
        if Path("/proc/sys", optional).exists():
            Path("/proc/sys", optional).write_text("1")


def reap(started: dict[int, str]) -> None:
    """Wait for all that has ended: programs, and orphans that the kernel gave to us."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in started:
            name = started.pop(pid)
            print(f"{name} exited: {os.waitstatus_to_exitcode(status)}", flush=True)


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    prepare(plan)
    print("prepared", flush=True)
    started: dict[int, str] = {}
    while True:
        readable, _, _ = select.select([0], [], [], 0.2)
        reap(started)
        if not readable:
            continue
        told = os.read(0, 4096).decode()
        if not told:
            return
        for name in told.split():
            with Path(plan["logs"], f"{name}.log").open("ab") as log:
                process = subprocess.Popen(
                    plan["commands"][name],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=plan["environment"],
                    start_new_session=True,
                )
            started[process.pid] = name
            process.returncode = 0  # reaped above: Popen must not wait for it
            print(f"{time.monotonic():.2f} {name} started", flush=True)


if __name__ == "__main__":
    main()
