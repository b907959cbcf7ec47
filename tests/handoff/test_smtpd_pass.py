"""The attributes that smtpd reads, byte by byte."""

from postwarden_sidecar.handoff.smtpd_pass import DESCRIPTOR_PAYLOAD, encode_attributes


def test_the_attributes_are_those_that_smtpd_reads() -> None:
    attributes = encode_attributes("203.0.113.5", 54321, "192.0.2.25", 25)
    assert attributes == (
        b"client_address\x00203.0.113.5\x00client_port\x0054321\x00server_address\x00192.0.2.25\x00server_port\x0025\x00\x00"
    )
    assert len(attributes) == 87
    assert DESCRIPTOR_PAYLOAD == b"\0"
