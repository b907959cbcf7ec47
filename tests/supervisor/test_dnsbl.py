"""Block lists through a whole sidecar: workers, supervisor and the stream to an operator."""

from __future__ import annotations

from pathlib import Path

import pytest
from controlclient.control_server import control_server
from controlclient.snapshots import snapshot
from dnsbl.name_server import NameServer, Zone
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.controlclient import reports
from supervisor.scripted_mta import scripted_mta
from supervisor.sidecars import plain, sidecar, visit

KEY = "secretkey"


def listing(resolver: str) -> pb.Snapshot:
    message = snapshot(banner="")
    message.rules.pregreet.wait_ms = 3000
    message.rules.dnsbl.CopyFrom(
        pb.Dnsbl(action=pb.ACTION_DROP, threshold=1, timeout_ms=3000, ttl_min_ms=60000, ttl_max_ms=3600000)
    )
    message.rules.dnsbl.resolvers.append(resolver)
    message.rules.dnsbl.sites.add(
        zone=f"{KEY}.bl.example", template="{key}.bl.example", weight=1, label="bl.example"
    )
    return message


@pytest.mark.parametrize(
    ("listed", "state"),
    [
        ({"2.0.0.127": ["127.0.0.2"]}, pb.DNSBL_STATE_HEALTHY),
        ({"*": ["127.0.0.2"]}, pb.DNSBL_STATE_LISTS_WORLD),
        ({"*": ["127.255.255.254"]}, pb.DNSBL_STATE_BLOCKED),
    ],
)
async def test_a_zone_that_is_not_to_be_believed_drops_nobody_and_its_health_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: dict[str, list[str]], state: int
) -> None:
    monkeypatch.setattr(reports, "JITTER", 0.0)
    with NameServer({f"{KEY}.bl.example": Zone(listed)}) as names:
        async with (
            control_server(tmp_path) as server,
            scripted_mta() as mta,
            sidecar(flags=plain(mta.port), control=server.target, ready=False) as running,
        ):
            stream = await server.stream()
            stream.snapshot(listing(names.target))
            assert (await stream.next("ack")).nonce
            await running.supervisor.wait_ready()
            async with visit(running) as client:
                assert (await client.reply()).startswith("220 ")
            report = await stream.next("dnsbl")
            assert (report.zone, report.state) == ("{key}.bl.example", state)
            assert KEY not in report.detail
