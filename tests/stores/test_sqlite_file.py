"""The SQLite store and its file: what a restart keeps, and what a file that is not ours comes to."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest
from postwarden_sidecar.stores.sqlite import SqliteStore
from postwarden_sidecar.stores.store import StoreError

NOW = 1_700_000_000.0


async def filled(path: Path) -> None:
    store = await SqliteStore.open(path)
    for number in range(500):
        await store.put(f"192.0.2.{number}", {"pregreet": NOW + 10}, NOW)
    await store.close()


def names(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


async def test_passes_outlive_the_process(tmp_path: Path) -> None:
    await filled(tmp_path / "passes")
    store = await SqliteStore.open(tmp_path / "passes")
    assert await store.get("192.0.2.7") == {"pregreet": NOW + 10}
    await store.close()
    assert names(tmp_path) == ["passes"]


def no_database(path: Path) -> None:
    path.write_text("not a database at all, but long enough to be taken for one\n" * 100)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE passes (a, b, c)")
    connection.close()


def of_another_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 4] = b"\xa5" * 4096 * 2
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def without_columns(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE passes RENAME COLUMN expiry TO other")
    connection.close()


@pytest.mark.parametrize(
    "spoil", [no_database, foreign, of_another_version, damaged, cut_short, without_columns]
)
async def test_an_unreadable_file_is_moved_aside_with_one_warning(
    spoil: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "passes"
    if spoil is not foreign:
        await filled(path)
    assert callable(spoil)
    spoil(path)
    spoiled = path.read_bytes()
    store = await SqliteStore.open(path)
    assert await store.get("192.0.2.7") == {}
    await store.put("192.0.2.7", {"pregreet": NOW + 1}, NOW)
    assert await store.get("192.0.2.7") == {"pregreet": NOW + 1}
    await store.close()
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(path) in warning.getMessage()
    assert (tmp_path / "passes.unreadable").read_bytes() == spoiled


async def test_a_file_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "passes"
    await filled(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="can't be made: database is locked"):
        await SqliteStore.open(path, lock_timeout=0.05)
    other.close()
    store = await SqliteStore.open(path)
    assert await store.get("192.0.2.7") == {"pregreet": NOW + 10}
    await store.close()


async def test_a_place_without_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no-such-directory/passes can't be made"):
        await SqliteStore.open(tmp_path / "no-such-directory" / "passes")


async def test_a_closed_store_is_an_error_of_its_own_kind(tmp_path: Path) -> None:
    path = tmp_path / "passes"
    store = await SqliteStore.open(path, in_memory=0)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE passes")
    connection.close()
    with pytest.raises(StoreError, match="can't be read: no such table"):
        await store.get("192.0.2.1")
    await store.close()
