"""The words of a policy as the wire's numbers."""

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.policy.vocabulary import (
    AccessAction,
    Action,
    EnvelopeAddresses,
    Handoff,
    Handover,
    LogFormat,
    Mode,
    Verdict,
)

MODES = {Mode.ENFORCE: pb.MODE_ENFORCE, Mode.OBSERVE: pb.MODE_OBSERVE}
ACTIONS = {Action.IGNORE: pb.ACTION_IGNORE, Action.ENFORCE: pb.ACTION_ENFORCE, Action.DROP: pb.ACTION_DROP}
ACCESS_ACTIONS = {
    AccessAction.PERMIT: pb.ACCESS_ACTION_PERMIT,
    AccessAction.REJECT: pb.ACCESS_ACTION_REJECT,
    AccessAction.DUNNO: pb.ACCESS_ACTION_DUNNO,
}
HANDOFFS = {
    Handoff.PLAIN: pb.HANDOFF_PLAIN,
    Handoff.PROXY_V1: pb.HANDOFF_PROXY_V1,
    Handoff.PROXY_V2: pb.HANDOFF_PROXY_V2,
    Handoff.PASS: pb.HANDOFF_PASS,
}
LOG_FORMATS = {
    LogFormat.JSON: pb.LOG_FORMAT_JSON,
    LogFormat.POSTSCREEN: pb.LOG_FORMAT_POSTSCREEN,
    LogFormat.POSTSCREEN_LEGACY: pb.LOG_FORMAT_POSTSCREEN_LEGACY,
}
HANDOVERS = {Handover.INLINE: pb.HANDOVER_INLINE, Handover.RECONNECT: pb.HANDOVER_RECONNECT}
ENVELOPE_ADDRESSES = {
    EnvelopeAddresses.FULL: pb.ENVELOPE_ADDRESSES_FULL,
    EnvelopeAddresses.HASHED: pb.ENVELOPE_ADDRESSES_HASHED,
    EnvelopeAddresses.OMITTED: pb.ENVELOPE_ADDRESSES_OMITTED,
}
VERDICTS = {verdict: pb.Verdict.Name(pb.Verdict.Value(f"VERDICT_{verdict.name}")) for verdict in Verdict}
