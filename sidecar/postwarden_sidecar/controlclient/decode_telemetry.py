"""From the wire to the settings of telemetry. Strict, see `decode`. Pure."""

from __future__ import annotations

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_sidecar.controlclient.decode_values import Undecodable, known
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.settings import EnvelopeAddresses, LogFormat, SampleRate

_LOG_FORMATS = {
    pb.LOG_FORMAT_JSON: LogFormat.JSON,
    pb.LOG_FORMAT_POSTSCREEN: LogFormat.POSTSCREEN,
    pb.LOG_FORMAT_POSTSCREEN_LEGACY: LogFormat.POSTSCREEN_LEGACY,
}
_ENVELOPE_ADDRESSES = {
    pb.ENVELOPE_ADDRESSES_FULL: EnvelopeAddresses.FULL,
    pb.ENVELOPE_ADDRESSES_HASHED: EnvelopeAddresses.HASHED,
    pb.ENVELOPE_ADDRESSES_OMITTED: EnvelopeAddresses.OMITTED,
}
_VERDICTS = {pb.Verdict.Value(f"VERDICT_{verdict.name}"): verdict for verdict in Verdict}


def log_format(telemetry: pb.Telemetry) -> LogFormat:
    """Raises Undecodable, as the others here."""
    return known("rules.telemetry.log_format", telemetry.log_format, _LOG_FORMATS)


def envelope_addresses(telemetry: pb.Telemetry) -> EnvelopeAddresses:
    """What is shown of a client's envelope."""
    if not telemetry.HasField("envelope_addresses"):
        return EnvelopeAddresses.FULL
    field = "rules.telemetry.envelope_addresses"
    return known(field, telemetry.envelope_addresses, _ENVELOPE_ADDRESSES)


def sampling(telemetry: pb.Telemetry) -> tuple[SampleRate, ...]:
    """The rates by verdict, each once."""
    found: dict[str, SampleRate] = {}
    for at, each in enumerate(telemetry.sampling):
        field = f"rules.telemetry.sampling[{at}]"
        verdict = known(f"{field}.verdict", each.verdict, _VERDICTS).value
        if each.percent > 100:
            raise Undecodable(f"{field}.percent is {each.percent}, more than 100")
        if verdict in found:
            raise Undecodable(f"{field}.verdict is {verdict}, which an earlier one has")
        found[verdict] = SampleRate(verdict, each.percent, each.max_per_second)
    return tuple(found.values())
