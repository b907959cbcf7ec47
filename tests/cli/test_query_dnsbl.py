"""`postwarden explain --query-dnsbl` against a real name server."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from dnsbl.name_server import NameServer, Zone
from postwarden_cli.main import main

POSTWARDEN = str(Path(sys.executable).with_name("postwarden"))
KEY = "sk3k3yk3y"
CLIENT = "203.0.113.9"
TEST_ENTRY = {"2.0.0.127": ["127.0.0.2"]}
HIT = TEST_ENTRY | {"9.113.0.203": ["127.0.0.4"]}


def policy(
    folder: Path,
    server: NameServer,
    sites: str,
    *,
    action: str = "Drop",
    mode: str = "Enforce",
    more: str = "",
) -> str:
    path = folder / "policy.yaml"
    path.write_text(f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: lists}}
spec:
  selector: {{}}
  mode: {mode}
  dnsbl:
    action: {action}
    threshold: 3
    timeout: 500ms
    resolvers: [{server.target}]
    {more}
    sites:
{sites}
---
apiVersion: v1
kind: Secret
metadata:
  name: lists
  labels: {{postwarden.dev/watch: "true"}}
  annotations: {{postwarden.dev/used-for: keyed.test}}
data: {{bl: {base64.b64encode(KEY.encode()).decode()}}}
""")
    return str(path)


def site(zone: str, weight: int = 1, more: str = "") -> str:
    return f'    - {{zone: "{zone}", weight: {weight}{more}}}\n'


def explain(path: str, address: str = CLIENT) -> tuple[int, dict[str, Any], str]:
    """(exit code, the document's dnsbl, all that was said)."""
    done = CliRunner().invoke(main, ["explain", "-f", path, address, "--query-dnsbl"], prog_name="postwarden")
    found: dict[str, Any] = json.loads(done.stdout)["dnsbl"]
    return done.exit_code, found, done.output


KEYED = site("{key}.keyed.test", 2, ", label: lists.example, keyFrom: {secretKeyRef: {name: lists, key: bl}}")


def test_each_zone_is_asked_and_its_weight_counts_if_a_filter_fits(tmp_path: Path) -> None:
    zones = {
        f"{KEY}.keyed.test": Zone(HIT),
        "other.test": Zone(HIT),
        "filtered.test": Zone(HIT),
        "good.test": Zone(TEST_ENTRY),
    }
    sites = (
        KEYED
        + site("other.test", 1)
        + site("filtered.test", 5, ', replies: "127.0.0.[2;3]"')
        + site("good.test", -4)
    )
    with NameServer(zones) as server:
        code, found, said = explain(policy(tmp_path, server, sites))
    assert code == 0
    assert [(s["zone"], s["answer"], s["weight"], s["counts"]) for s in found["sites"]] == [
        ("{key}.keyed.test", "127.0.0.4", 2, True),
        ("other.test", "127.0.0.4", 1, True),
        ("filtered.test", "127.0.0.4", 5, False),
        ("good.test", "not listed", -4, False),
    ]
    assert (found["score"], found["threshold"], found["failing"]) == (3, 3, True)
    assert found["verdict"] == "block lists: score 3 of 3: it is turned away at once with 521"
    assert KEY not in said


def test_what_gives_no_usable_answer_counts_for_nothing_and_is_told_by_the_exit_code(tmp_path: Path) -> None:
    zones = {
        f"{KEY}.keyed.test": Zone({"*": ["127.0.0.2"]}),  # the world
        "blocked.test": Zone({"*": ["127.255.255.254"]}),
        "silent.test": Zone(mode="silent"),
        "broken.test": Zone(mode="servfail"),
        "well.test": Zone(HIT),
    }
    sites = (
        KEYED
        + "".join(site(zone, 3) for zone in ("blocked.test", "silent.test", "broken.test"))
        + site("well.test", 1)
    )
    with NameServer(zones) as server:
        code, found, said = explain(policy(tmp_path, server, sites))
    assert code == 3
    answers = [s["answer"] for s in found["sites"]]
    assert (
        answers[0]
        == "127.0.0.2, but counts for nothing, ListsWorld: it lists 127.0.0.1, which no list may hold"
    )
    assert answers[1].startswith("Blocked")
    assert answers[2:] == ["no answer in time", "no usable answer of any resolver", "127.0.0.4"]
    assert [s["counts"] for s in found["sites"]] == [False] * 4 + [True]
    assert (found["score"], found["failing"]) == (1, False)
    assert KEY not in said


def test_observe_and_a_good_score_are_told(tmp_path: Path) -> None:
    with NameServer({"bl.test": Zone(HIT)}) as server:
        observed = explain(policy(tmp_path, server, site("bl.test", 3), mode="Observe"))[1]
        assert observed["verdict"].endswith(": it is noted, and otherwise treated as if it had passed")
        good = explain(policy(tmp_path, server, site("bl.test", -3), more="allowThreshold: -1"))[1]
        assert good["verdict"] == "block lists: score -3 of 3: it passes all other tests, too"


def test_an_ipv6_client_and_a_resolver_that_is_not_there(tmp_path: Path) -> None:
    nibbles = "1." + "0." * 23 + "8.b.d.0.1.0.0.2"
    with NameServer({"bl.test": Zone(TEST_ENTRY | {nibbles: ["127.0.0.2"]})}) as server:
        path = policy(tmp_path, server, site("bl.test", 1))
        assert explain(path, "2001:db8::1")[1]["score"] == 1
    code, found, _ = explain(path)
    assert (code, found["sites"][0]["answer"]) == (3, "no resolver can be reached")


def test_on_a_terminal_it_is_a_table(tmp_path: Path) -> None:
    with NameServer({f"{KEY}.keyed.test": Zone(HIT)}) as server:
        path = policy(tmp_path, server, KEYED)
        ours, theirs = pty.openpty()
        arguments = [
            POSTWARDEN,
            "explain",
            "-f",
            path,
            CLIENT,
            "--query-dnsbl",
        ]
        environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
        with subprocess.Popen(arguments, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
            os.close(theirs)
            said = b""
            try:
                while piece := os.read(ours, 4096):
                    said += piece
            except OSError:  # the other end is closed
                pass
            os.close(ours)
            assert process.wait(20) == 0
    lines = [line.split() for line in said.decode().splitlines()]
    assert ["zone", "answer", "weight", "counts"] in lines
    assert ["{key}.keyed.test", "127.0.0.4", "+2", "yes"] in lines
    assert "block lists: score 2 of 3: it passes" in said.decode()
    assert KEY.encode() not in said
