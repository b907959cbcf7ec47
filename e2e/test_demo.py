"""`postwarden demo` as a new user runs it: no root, no cluster, no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

POSTWARDEN = Path(sys.executable).with_name("postwarden")


def test_the_demo_shows_every_kind_of_client_and_ends_by_itself() -> None:
    run = subprocess.run(
        [POSTWARDEN, "demo", "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout)
    verdicts = [(client["address"], client["verdict"]) for client in result["clients"]]
    assert verdicts == [
        ("127.0.1.10", "pass_new"),
        ("127.0.2.20", "allowlisted"),
        ("127.66.6.6", "rejected"),
        ("127.66.7.7", "exempted"),
        ("127.0.3.30", "rejected"),
        ("127.0.3.31", "rejected"),
        ("127.0.3.32", "dropped"),
        ("127.0.3.33", "hangup"),
        ("127.0.1.10", "pass_old"),
    ]
    assert all(client["reason"] for client in result["clients"])
    assert sorted(mail["client"] for mail in result["delivered"]) == [
        "127.0.1.10",
        "127.0.1.10",
        "127.0.2.20",
        "127.66.7.7",
    ]


def test_the_demo_prints_its_table_where_there_is_no_terminal() -> None:
    run = subprocess.run([POSTWARDEN, "demo"], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "talks before the greeting" in run.stdout
    assert "4 mails arrived there" in run.stdout
