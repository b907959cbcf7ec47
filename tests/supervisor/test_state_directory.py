"""What is kept on disk, and what a damaged file comes to."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest
from controlclient.snapshots import add_rule, snapshot
from postwarden_sidecar.controlclient.decode import decode
from postwarden_sidecar.rules.image import encode
from postwarden_sidecar.rules.settings import Rules
from postwarden_sidecar.supervisor.state_directory import Learned, StateDirectory


def rules() -> Rules:
    message = snapshot()
    add_rule(message, [("192.0.2.0/24", 2, 3), ("2001:db8::/32", 1, 4)])
    return decode(message, {})


def test_rules_are_kept_and_forgotten(tmp_path: Path) -> None:
    StateDirectory(tmp_path / "new" / "state").save_rules(rules())
    state = StateDirectory(tmp_path / "new" / "state")
    kept = state.load_rules()
    assert kept is not None
    os.close(kept.descriptor)
    assert kept.rules == rules()
    contents = [bytes(shard) for shard in kept.tables.values()]
    assert [hashlib.sha256(each).hexdigest() for each in contents] == list(kept.tables)
    assert len(contents) == 2
    assert [entry.name for entry in state.path.iterdir()] == ["rules.image"]
    state.forget_rules()
    state.forget_rules()
    assert state.load_rules() is None


def test_a_new_directory_is_its_owners_alone(tmp_path: Path) -> None:
    assert StateDirectory(tmp_path / "state").path.stat().st_mode & 0o777 == 0o700


def test_what_was_learned_and_trust_are_kept(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    assert (state.load_learned(), state.load_trust()) == (None, b"")
    learned = Learned("127.0.0.1:25", "mx.example.org ESMTP", ("SIZE 1000", "DSN"))
    state.save_learned(learned)
    state.save_trust(b"PEM")
    assert (state.load_learned(), state.load_trust()) == (learned, b"PEM")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"target": 3}', b"\xff\xfe"])
def test_damaged_files_are_one_warning_each_and_count_as_none(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "learned.json").write_bytes(content)
    (tmp_path / "rules.image").write_bytes(content)
    state = StateDirectory(tmp_path)
    assert (state.load_learned(), state.load_rules()) == (None, None)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2


def test_rules_that_lost_their_end_are_none(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    kept = encode(rules())
    for size in range(0, len(kept), 7):
        (tmp_path / "rules.image").write_bytes(kept[:size])
        assert state.load_rules() is None


def test_a_place_that_can_not_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "rules.image").mkdir()
    state.save_rules(rules())
    state.forget_rules()
    assert state.load_rules() is None
    assert len(caplog.records) == 3
