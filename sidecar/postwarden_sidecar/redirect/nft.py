"""Giving a ruleset to the kernel by nft(8), and saying in one sentence why it was not taken.

Why the program: the rules are text that an administrator can read and write as well, a transaction is one call, and what the kernel wants
of it is Debian's care. It costs the image 3 MB; the one library in Python, pyroute2, calls its own nftables API very basic.
"""

import os
import subprocess
from pathlib import Path

PROGRAM = "nft"

TIMEOUT = 20.0
"""Seconds; 10 ms are usual, and a kernel that has to load modules first takes a second."""

_CAP_NET_ADMIN = 12
"""Its number in linux/capability.h."""

NO_PROGRAM = f"there is no program `{PROGRAM}` here: use the sidecar's own image, or install your distribution's package nftables"
NO_NET_ADMIN = (
    "NET_ADMIN is missing: give the container `securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}}` (a user "
    "other than root does not get what is added), in a namespace whose Pod Security admits it; or use the mode `port`, which needs none"
)
NO_NFTABLES = (
    "the node's kernel can't do it: it lacks nftables with NAT (the modules nf_tables, nft_chain_nat, nft_nat and nft_fib, for IPv4 and "
    "IPv6), or the pod's sandbox hides it, as gVisor does; load them on the node, or use the mode `port`"
)
CLASH = (
    "iptables-legacy holds this pod's NAT, and a kernel before Linux 4.18 lets only one of the two have it: let whoever writes those rules "
    "(a service mesh, mostly) use iptables-nft, take a newer kernel, or use the mode `port`"
)

_KERNEL_LACKS = (
    "Protocol not supported",
    "Operation not supported",
    "No such file or directory",
    "Address family not supported",
    "Function not implemented",
)


class RulesRefused(Exception):
    """The text is one sentence: why, and what to do; behind it nft's own."""


def write(text: str) -> None:
    """All of it or nothing. Raises RulesRefused."""
    try:
        done = subprocess.run(
            [PROGRAM, "--file", "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise RulesRefused(NO_PROGRAM) from None
    except subprocess.TimeoutExpired:
        raise RulesRefused(f"`{PROGRAM}` did not end within {TIMEOUT:.0f} s: look at the node") from None
    if done.returncode != 0:
        raise RulesRefused(explanation(done.stderr, net_admin=_has_net_admin()))


def explanation(said: str, *, net_admin: bool) -> str:
    """said: by nft. net_admin: whether this process has that capability."""
    own = next((line.strip() for line in said.splitlines() if "rror" in line), said.strip())
    if not net_admin or "Operation not permitted" in said:
        why = NO_NET_ADMIN
    elif "Device or resource busy" in said:
        why = CLASH
    elif any(lacks in said for lacks in _KERNEL_LACKS):
        why = NO_NFTABLES
    else:
        return f"the kernel did not take the rules: {PROGRAM} says {own!r}"
    return f"{why} ({PROGRAM} says: {own})"


def _has_net_admin() -> bool:
    status = Path("/proc/self/status").read_text(errors="replace").splitlines()
    effective = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & 1 << _CAP_NET_ADMIN)
