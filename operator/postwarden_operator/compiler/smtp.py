"""The tests after the greeting, the dialogue, limits, cache and telemetry of a policy, as they go over the wire. Pure."""

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler.wire_words import (
    ACTIONS,
    ENVELOPE_ADDRESSES,
    HANDOVERS,
    LOG_FORMATS,
    VERDICTS,
)
from postwarden_operator.policy.duration import milliseconds
from postwarden_operator.policy.limits import Cache, Limits, Stress
from postwarden_operator.policy.protocol import Protocol, ProtocolTest
from postwarden_operator.policy.session import Session
from postwarden_operator.policy.telemetry import Telemetry


def protocol(protocol: Protocol) -> pb.Protocol:
    """Command words in upper case, each once."""
    return pb.Protocol(
        pipelining=_test(protocol.pipelining),
        non_smtp_command=_test(protocol.non_smtp_command),
        bare_newline=_test(protocol.bare_newline),
        forbidden_commands=_upper(protocol.forbidden_commands),
        handover=HANDOVERS[protocol.handoff],
    )


def _test(test: ProtocolTest) -> pb.ProtocolTest:
    return pb.ProtocolTest(enabled=test.enabled, action=ACTIONS[test.action], ttl_ms=milliseconds(test.ttl))


def dialogue(session: Session) -> pb.Dialogue:
    """Under stress no command gets more time than else. Keywords in upper case, each once."""
    command_time_limit = milliseconds(session.command_time_limit)
    return pb.Dialogue(
        command_time_limit_ms=command_time_limit,
        stress_command_time_limit_ms=min(command_time_limit, milliseconds(session.stress_command_time_limit)),
        command_count_limit=session.command_count_limit,
        line_length_limit=session.line_length_limit,
        hello_required=session.hello_required,
        reject_footer=session.reject_footer,
        hidden_extensions=_upper(session.hidden_extensions),
        soft_fail=session.soft_fail,
    )


def limits(limits: Limits, stress: Stress) -> pb.Limits:
    return pb.Limits(
        connections_per_client=limits.connections_per_client,
        screening=limits.screening,
        upstream=limits.upstream,
        prefix_ipv4=limits.client_prefix.ipv4,
        prefix_ipv6=limits.client_prefix.ipv6,
        stress_enter_percent=stress.enter_percent,
        stress_leave_percent=stress.leave_percent,
    )


def cache(cache: Cache) -> pb.Cache:
    return pb.Cache(
        retention_ms=milliseconds(cache.retention),
        prefix_ipv4=cache.key_prefix.ipv4,
        prefix_ipv6=cache.key_prefix.ipv6,
    )


def telemetry(telemetry: Telemetry) -> pb.Telemetry:
    """What the policy does not name of sampling is the sidecar's own default."""
    return pb.Telemetry(
        log_format=LOG_FORMATS[telemetry.log_format],
        envelope_addresses=ENVELOPE_ADDRESSES[telemetry.envelope_addresses],
        sampling=[
            pb.Sampling(
                verdict=VERDICTS[each.verdict], percent=each.percent, max_per_second=each.max_per_second
            )
            for each in telemetry.sampling
        ],
    )


def _upper(words: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(word.upper() for word in words))
