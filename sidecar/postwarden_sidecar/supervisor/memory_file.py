"""Images of rules in sealed memory files: written once, mapped by the supervisor and by every worker, so that a large list is in memory
once. Whoever maps one may rely on what it holds.

What is here blocks for as long as copying takes (10 ms for a million networks), so call it on a thread; Python's lock is not held
meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from postwarden_sidecar.rules import image
from postwarden_sidecar.rules.intervals import Buffer
from postwarden_sidecar.rules.settings import Rules

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True)
class Placed:
    """Rules whose tables lie in a memory file. descriptor: of the file, the owner's to close. tables: by SHA-256, each shard."""

    rules: Rules
    descriptor: int
    tables: Mapping[str, Buffer] = field(repr=False)


def place(rules: Rules) -> Placed:
    """The same rules, wherever their tables lie now, in a memory file of their own."""
    return placed(memory_file(image.pieces(rules)), checked=True)


def placed(descriptor: int, *, checked: bool = False) -> Placed:
    """The rules of a memory file, whose descriptor is taken over. checked: see image.decode. Raises ImageError."""
    try:
        rules = image.decode(mapped(descriptor), checked=checked)
    except BaseException:
        os.close(descriptor)
        raise
    shards = (shard for table in image.tables(rules) for family in (table.v4, table.v6) for shard in family)
    return Placed(rules, descriptor, {hashlib.sha256(shard).hexdigest(): shard for shard in shards})


def memory_file(pieces: Iterable[Buffer]) -> int:
    """A sealed memory file with these pieces, open for reading only. The descriptor is the caller's."""
    writable = os.memfd_create("postwarden-rules", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(writable, "wb") as file:  # noqa: PTH123  (a descriptor has no path)
        file.writelines(pieces)
        file.flush()
        fcntl.fcntl(writable, fcntl.F_ADD_SEALS, _SEALS)
        # Before Linux 6.7 a sealed file can't be mapped shared by a descriptor that is open for writing.
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)


def mapped(descriptor: int) -> memoryview:
    """What a memory file holds. It stays mapped for as long as there are views of it."""
    size = os.fstat(descriptor).st_size
    return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ)) if size else memoryview(b"")
