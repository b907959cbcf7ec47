"""A sidecar never writes the keys of DNSBL zones, and asks for its rules again after a start from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from controlclient.control_server import control_server
from postwarden.screening.v1 import screening_pb2 as pb
from supervisor.scripted_mta import scripted_mta
from supervisor.sidecars import plain, sidecar, visit
from supervisor.test_sidecar import deny_all


async def test_keys_of_zones_are_never_on_disk_and_their_sites_wait_for_the_operator(tmp_path: Path) -> None:
    state, planted = tmp_path / "state", "planted7key3of9zone"
    message = deny_all("v1", "n1")
    keyed = pb.DnsblSite(
        zone=f"{planted}.zen.example", template="{key}.zen.example", weight=1, label="zen.example"
    )
    plain_site = pb.DnsblSite(zone="bl.example", template="bl.example", weight=1, label="bl.example")
    message.rules.dnsbl.CopyFrom(
        pb.Dnsbl(
            action=pb.ACTION_ENFORCE,
            threshold=1,
            timeout_ms=1000,
            ttl_min_ms=1000,
            ttl_max_ms=1000,
            sites=[keyed, plain_site],
        )
    )
    async with control_server(tmp_path) as operator, scripted_mta() as mta:
        how: dict[str, Any] = {"flags": plain(mta.port), "control": operator.target, "state_dir": state}
        async with sidecar(ready=False, **how) as running:
            stream = await operator.stream()
            assert stream.hello.complete
            stream.snapshot(message)
            await stream.next("ack")
            assert planted.encode() not in running.log.getvalue()
        kept = {file.name: file.read_bytes() for file in state.iterdir() if file.is_file()}
        assert b"bl.example" in kept["rules.image"]
        assert [name for name, content in kept.items() if planted.encode() in content] == []
        await operator.stop()
        async with sidecar(**how) as running:
            async with visit(running) as client:
                assert (await client.reply()).startswith("521 ")  # the rest is in force
            await operator.start()
            stream = await operator.stream()
            assert (stream.hello.version, stream.hello.complete) == ("v1", False)
            message.nonce = "n2"
            stream.snapshot(message)
            assert await stream.next("ack") == pb.Ack(nonce="n2", version="v1")
            await operator.stop()
            await operator.start()
            assert (await operator.stream()).hello.complete
