"""The alerts: when, how urgent, what each means, and what to do.

An alert is for what a person must look at: that many zombies come is none, for to stand them is what screening is for. Bounds are low
enough to be seen before senders give up (days) and so high that the restart of an MTA or of a pod is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from postwarden_operator.telemetry import metrics as operator
from postwarden_sidecar.telemetry import metrics as sidecar

from postwarden_dashboards.control_plane import NOT_ACCEPTED, not_connected
from postwarden_dashboards.queries import BY_POD, Scope, label, most, total
from postwarden_dashboards.screening import REFUSED, UNANSWERED


@dataclass(frozen=True, slots=True)
class Alert:
    """lasting: before it fires, as Prometheus writes durations. description: of what is seen, with {{ templates }}. meaning, remedy: in
    words for whoever is woken by it."""

    group: Literal["postwarden-sidecar", "postwarden-operator"]
    name: str
    expression: str
    lasting: str
    severity: Literal["critical", "warning"]
    summary: str
    description: str
    meaning: str
    remedy: str


_q = Scope((), "5m")
_slow = Scope((), "15m")
_POD = "{{ $labels.namespace }}/{{ $labels.pod }}"
_ZONE = label(sidecar.USABLE, "zone")


def _by_pod(expression: str) -> str:
    return total(expression, *BY_POD)


_put_off = _by_pod(_q.rate(sidecar.CONNECTIONS, verdict="deferred|error"))
_not_refused = _by_pod(_q.rate(sidecar.CONNECTIONS, verdict=f"!{REFUSED}|hangup"))
_lookups = total(_slow.events(sidecar.LOOKUPS), *BY_POD, _ZONE)
_unanswered = total(_slow.events(sidecar.LOOKUPS, outcome=UNANSWERED), *BY_POD, _ZONE)
_upstream_limit = most(_q.series(sidecar.LIMIT, limit="upstream"), *BY_POD)

_SIDECAR = (
    Alert(
        "postwarden-sidecar",
        "PostwardenMailDeferred",
        f"{_put_off} > 0.1 * {_not_refused}",
        "5m",
        "critical",
        "Good senders are told to come back",
        f'{_POD} answers 4xx to {{{{ $value | printf "%.2f" }}}} connections a second for faults on our side.',
        "More than a tenth of those that were not turned away as zombies could not be handed to the mail server, or met a fault of "
        "ours. They got a 4xx reply: "
        "no mail is lost, but it waits until the senders try again.",
        "See whether the mail server answers: while it is down, each client is tried and told to come back. If its hand-off was never "
        "proved, or is not as it was, [PostwardenHandoffNotProved](#postwardenhandoffnotproved) fires, too. The sidecar's log has the "
        "reason of each (`postwarden.verdict` deferred or error, `postwarden.reason`). After a fault of ours its log has a "
        "traceback: please report it.",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenHandoffNotProved",
        f"{_q.series(sidecar.PROVED)} == 0",
        "5m",
        "critical",
        "No client is given to the mail server",
        f"{_POD} has no upstream whose hand-off was proved.",
        "The mail server has not answered since the sidecar's start or the policy's change, does not understand the hand-off that the "
        "policy names, or would relay for anyone. All good senders are told to come back.",
        "The policy's `status` (condition Programmed) and the sidecar's log have the proof's result in words. Start the mail server, "
        "or correct its settings as in "
        "[handoff.md](handoff.md).",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenOverloaded",
        f"{_by_pod(_q.rate(sidecar.CONNECTIONS, verdict='overloaded'))} > 0",
        "10m",
        "warning",
        "Clients are told to come back, for a limit was reached",
        f'{_POD} answers 421 to {{{{ $value | printf "%.2f" }}}} connections a second.',
        "`limits.connectionsPerClient`, `limits.screening` or `limits.upstream` was reached without a pause. If it is the first, one "
        "client is greedy, or many share "
        "an address. Otherwise good senders wait, too.",
        "`postwarden.reason` in the log names the limit. Look at the dashboard's 'Active against limits': raise the limit or add pods "
        "if the machine has room; if many "
        "clients share one address, see [client-address.md](client-address.md).",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenUpstreamLimitNear",
        f"{most(_q.series(sidecar.UPSTREAM), *BY_POD)} >= 0.9 * ({_upstream_limit} > 0)",
        "10m",
        "warning",
        "The mail server is slow to answer those given to it",
        f"In {_POD} {{{{ $value }}}} clients wait for the mail server's first reply, near `limits.upstream`.",
        "Clients are handed over faster than the mail server greets them. At the limit they are told to come back.",
        "Look at the mail server: its own limit of processes, slow look-ups of clients' names, a slow disk. Raise `limits.upstream` "
        "only if it can serve more.",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenStress",
        f"{_q.series(sidecar.STRESS)} == 1",
        "30m",
        "warning",
        "Stress mode for half an hour",
        f"{_POD} has nearly as many clients in its hands as `limits.screening` allows.",
        "Waits and time limits are shorter, so that more clients are served: the greeting test catches less. That is meant for "
        "storms, not for every day.",
        "If it is a storm, wait, or add pods. If it stays, raise `limits.screening`: a connection in our hands costs some kilobytes.",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenNoRules",
        f"{_q.series(sidecar.IN_FORCE)} == 0",
        "15m",
        "critical",
        "A sidecar has no rules",
        f"{_POD} screens nobody: clients are handed over untested, or put off if it was told so.",
        "No policy selects the pod, or the sidecar never reached the operator and has no rules on disk.",
        "`kubectl get spol -A` shows whom each policy selects; the sidecar's log says what it heard of the operator. See "
        "[outages.md](outages.md).",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenOperatorUnreachable",
        f"{_q.series(sidecar.CONNECTED)} == 0",
        "15m",
        "warning",
        "A sidecar has no stream to the operator",
        f"{_POD} goes on with the last good rules; new ones do not reach it.",
        "Screening goes on. A pod that restarts has its rules from disk, a new one has none.",
        "If it is all sidecars: is the operator running, and its Service there? If it is one: its log says why (a token, a "
        "certificate, a network policy).",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenDnsblFailing",
        f"{_unanswered} > 0.5 * {_lookups}",
        "15m",
        "warning",
        "A DNS block list does not answer",
        f"More than half of {_POD}'s look-ups in {{{{ $labels.{_ZONE} }}}} have no usable answer.",
        "The list counts for nothing where it does not answer; nobody is refused for it, but zombies that only it knows get through.",
        "The dashboard's 'Look-ups by outcome' tells how: `blocked`: the list refuses your resolver (public ones often); `timeout`, "
        "`unreachable`: the resolver; "
        "`error`: the zone's name or key. See [dnsbl.md](dnsbl.md).",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenDnsblUnusable",
        f"{_q.series(sidecar.USABLE)} == 0",
        "15m",
        "warning",
        "A DNS block list counts for nothing",
        f"{_POD} found {{{{ $labels.{_ZONE} }}}} unwell.",
        "The list lists 127.0.0.1, which no list may hold (then it lists everybody, as lists do that were given up), or it refuses "
        "the resolver, or did not answer. "
        "Its hits are not counted, so nobody is refused by mistake.",
        "The policy's `status.dnsbl` and the sidecar's log say which. A list that lists the world has ended: take it out of the policy.",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenClientAddressLost",
        f"{_q.series(sidecar.LOST_ADDRESS)} == 1",
        "15m",
        "warning",
        "Clients' addresses are lost on their way",
        f"Nearly all connections to {_POD} come from one address of the cluster or a proxy.",
        "Tests that go by the address judge the proxy, not the client: lists catch nobody, and no pass is stored.",
        "`externalTrafficPolicy: Local`, or PROXY from the load balancer: see [client-address.md](client-address.md).",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenSteeringFailed",
        f"{_q.series(sidecar.STEERING_FAILED)} == 1",
        "15m",
        "warning",
        "Clients are not spread over the workers",
        f"The kernel refused {_POD} its way to steer clients to workers.",
        "All works, but one worker serves all clients, or a client's connections are spread and its limit counts them apart.",
        "The sidecar's log has the kernel's words; mostly a seccomp profile or an old kernel.",
    ),
    Alert(
        "postwarden-sidecar",
        "PostwardenTelemetryDropped",
        f"{total(_slow.rate(sidecar.DROPPED), *BY_POD, label(sidecar.DROPPED, 'signal'))} > 0",
        "15m",
        "warning",
        "Telemetry is lost",
        f'{_POD} loses {{{{ $value | printf "%.1f" }}}} items a second of the signal {{{{ $labels.{label(sidecar.DROPPED, "signal")} }}}}.',
        "Traces, log records or log lines are missing; metrics and mail are not touched.",
        "`span`, `log`: the OTLP endpoint does not take them, the log has one warning with its words. `record`, `line`: the pod has "
        "too little CPU, or nobody reads its output.",
    ),
)

_OPERATOR = (
    Alert(
        "postwarden-operator",
        "PostwardenNoLeader",
        f"{total(_q.series(operator.LEADING))} == 0",
        "5m",
        "warning",
        "No replica of the operator writes status",
        "None of the replicas holds the Lease.",
        "Sidecars still get their rules from all replicas; but no policy's status is written, so nobody sees what becomes of it.",
        "The operator's log says why it can't have the Lease: mostly its rights, or an API server that does not answer. See "
        "[replicas.md](replicas.md).",
    ),
    Alert(
        "postwarden-operator",
        "PostwardenSidecarsNotCurrent",
        f"{not_connected(_q.series(operator.PODS), _q.series(operator.SIDECARS, state='synced'))} > 0",
        "15m",
        "warning",
        "Sidecars without the current rules",
        "{{ $value }} pods do not have their policy as it is now.",
        "They are not connected, or a push is under way without end, or they refused it. Their last good rules are in force.",
        "The dashboard 'Control plane' tells which of the three; the policy's `status` names the pods.",
    ),
    Alert(
        "postwarden-operator",
        "PostwardenSidecarsRejected",
        f"{total(_q.series(operator.SIDECARS, state='rejected'))} > 0",
        "5m",
        "warning",
        "Sidecars refuse their policy",
        "{{ $value }} sidecars refuse the policy, or can't prove its hand-off.",
        "The policy needs what they can't do (an older release), or the mail server does not take the hand-off that it names. What "
        "was in force stays.",
        "The policy's condition Programmed has the sidecars' words.",
    ),
    Alert(
        "postwarden-operator",
        "PostwardenPropagationSlow",
        f"{_slow.quantile(0.9, operator.PROPAGATION)} > 10",
        "15m",
        "warning",
        "Policy changes come into force slowly",
        "A tenth of them take longer than {{ $value | humanizeDuration }}.",
        "Well below a second is usual, some seconds for very large lists.",
        "Look at 'Time of a reconcile' and at the CPU of the operator and of the sidecars. Pods that were away count, too: see "
        "'Sidecars by state'.",
    ),
    Alert(
        "postwarden-operator",
        "PostwardenReconcileFailing",
        f"{total(_q.rate(operator.RECONCILES, result='failed'))} > 0",
        "10m",
        "warning",
        "The operator can't make a plan",
        "Reconciles fail and are tried again.",
        "Changes of policies and pods have no effect until it works again; what is in force stays.",
        "The operator's log has the error. If it is a traceback, please report it.",
    ),
    Alert(
        "postwarden-operator",
        "PostwardenPolicyProblem",
        f"{most(_q.series(operator.POLICIES, state=NOT_ACCEPTED), label(operator.POLICIES, 'state'))} > 0",
        "15m",
        "warning",
        "A policy is not in force as it is written",
        f"{{{{ $value }}}} policies are {{{{ $labels.{label(operator.POLICIES, 'state')} }}}}.",
        "In conflict with an older one, invalid, or a list or key is missing that it names. Its last good version stays in force "
        "where there was one.",
        "`kubectl get spol -A`, then the conditions Accepted and ResolvedRefs of those that are not True.",
    ),
)

ALERTS = _SIDECAR + _OPERATOR
