"""What a stream keeps of its sidecar's reports on DNSBL zones, and on clients' addresses."""

from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane.subscription import (
    LONGEST_DETAIL,
    MOST_ZONES,
    State,
    Subscription,
    ZoneReport,
)


def subscription() -> Subscription:
    return Subscription(revision="", version="", complete=True)


def test_last_report_of_a_zone_counts_whatever_the_state_of_the_rules() -> None:
    stream = subscription()
    stream.receive_dnsbl("a.example", pb.DNSBL_STATE_BLOCKED, "127.255.255.254")
    stream.receive_dnsbl("b.example", pb.DNSBL_STATE_LISTS_WORLD, "")
    stream.receive_dnsbl("a.example", pb.DNSBL_STATE_UNREACHABLE, "time-out")
    assert stream.state.state is State.PENDING
    assert set(stream.state.zones) == {
        ZoneReport("a.example", "Unreachable", "time-out"),
        ZoneReport("b.example", "ListsWorld", ""),
    }


def test_state_of_a_newer_sidecar_is_dropped() -> None:
    stream = subscription()
    stream.receive_dnsbl("a.example", pb.DNSBL_STATE_HEALTHY, "")
    for unknown in (pb.DNSBL_STATE_UNSPECIFIED, 99):
        stream.receive_dnsbl("a.example", unknown, "?")
    assert stream.state.zones == (ZoneReport("a.example", "Healthy", ""),)


def test_reports_are_bounded_and_on_one_line() -> None:
    stream = subscription()
    for number in range(MOST_ZONES + 1):
        stream.receive_dnsbl(f"z{number}.example", pb.DNSBL_STATE_BLOCKED, "a\r\n\x1b[0m" + "x" * 1000)
    zones = stream.state.zones
    assert len(zones) == MOST_ZONES
    assert (zones[0].zone, zones[-1].zone) == ("z1.example", f"z{MOST_ZONES}.example")
    assert len(zones[0].detail) == LONGEST_DETAIL
    assert zones[0].detail.startswith("a???[0mx")


def test_a_lost_address_is_kept_until_it_is_taken_back() -> None:
    stream = subscription()
    assert stream.state.lost_address == ""
    stream.receive_lost_address("10.0.0.1", "99 % come\r\nfrom 10.0.0.1" + "x" * 1000)
    assert stream.state.lost_address.startswith("99 % come??from 10.0.0.1x")
    assert len(stream.state.lost_address) == LONGEST_DETAIL
    stream.receive_lost_address("10.0.0.1", "")
    assert stream.state.lost_address == "10.0.0.1"
    stream.receive_lost_address("", "")
    assert stream.state.lost_address == ""


def test_a_refused_steering_is_kept_until_it_is_taken_back() -> None:
    stream = subscription()
    stream.receive_steering("one serves\r\nall" + "x" * 1000)
    assert stream.state.unsteered.startswith("one serves??allx")
    assert len(stream.state.unsteered) == LONGEST_DETAIL
    stream.receive_steering("")
    assert stream.state.unsteered == ""
