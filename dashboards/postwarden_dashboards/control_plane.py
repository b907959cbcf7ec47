"""The dashboard of the operator: how fast policies come into force, where they do not, and whether the replicas are well."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from postwarden.telemetry.prometheus import series_name
from postwarden_operator.telemetry import metrics

from postwarden_dashboards.panels import COUNT, PER_SECOND, SECONDS, Query, board, graph, number
from postwarden_dashboards.queries import BY_POD, DASHBOARD, RANGE, label, most, total

NOT_ACCEPTED = "partly_conflicted|conflicted|invalid|unresolved"
"""States of policies that somebody must look at."""

_q = DASHBOARD
_pod = "{{namespace}}/{{pod}}"
_QUANTILES = (0.5, 0.9, 0.99)


def control_plane() -> Dashboard:
    made = board(
        "Postwarden / Control plane",
        "postwarden-control-plane",
        "How policies come into force, and how the operator is doing.",
        series_name(metrics.LEADING),
    )
    for part in (_at_a_glance, _propagation, _states, _operator):
        part(made)
    return made


def not_connected(pods: str, sidecars: str) -> str:
    """Every replica knows all pods, and each sidecar has a stream to one of them."""
    return f"{most(pods)} - {total(sidecars)}"


def _at_a_glance(made: Dashboard) -> None:
    pods, sidecars = _q.series(metrics.PODS), _q.series(metrics.SIDECARS)
    refused = _q.series(metrics.SIDECARS, state="rejected")
    policies = _q.series(metrics.POLICIES, state=NOT_ACCEPTED)
    state = label(metrics.POLICIES, "state")
    made.with_row(Row("At a glance"))
    for panel in (
        number("Screened pods", "Pods that carry the sidecar and have a policy.", COUNT, Query(most(pods))),
        number(
            "With current rules",
            "Sidecars whose policy is in force as it is now.",
            COUNT,
            Query(total(_q.series(metrics.SIDECARS, state="synced"))),
        ),
        number(
            "Not connected",
            "Pods without a stream to any replica. Their last good rules are in force.",
            COUNT,
            Query(not_connected(pods, sidecars)),
            bad=1,
        ),
        number(
            "Rejected",
            "Sidecars that refuse their policy; its status says why.",
            COUNT,
            Query(total(refused)),
            bad=1,
        ),
        number(
            "Policies with a problem",
            "In conflict, invalid, or with a list or key that is missing.",
            COUNT,
            Query(f"sum({most(policies, state)})"),
            bad=1,
        ),
        number(
            "Leaders",
            "Replicas that write status: one, but for moments.",
            COUNT,
            Query(total(_q.series(metrics.LEADING))),
        ),
    ):
        made.with_panel(panel)


def _propagation(made: Dashboard) -> None:
    made.with_row(Row("Propagation of policy changes"))
    made.with_panel(
        graph(
            "From the write to its being in force",
            "Once a pod: from `kubectl apply` until every worker has the rules.",
            SECONDS,
            *(Query(_q.quantile(at, metrics.PROPAGATION), f"{at:.0%}") for at in _QUANTILES),
            width=12,
        )
    )
    result = label(metrics.PUSHES, "result")
    made.with_panel(
        graph(
            "Pushes to sidecars",
            "Snapshots sent, and the answers to them.",
            PER_SECOND,
            Query(total(_q.rate(metrics.PUSHES), result), f"{{{{{result}}}}}"),
            width=6,
        )
    )
    made.with_panel(
        number(
            "Changes in force",
            "Policy changes that came into force in a pod, in the time shown.",
            COUNT,
            Query(total(_q.increase(metrics.PUSHES, RANGE, result="applied"))),
            width=6,
        )
    )


def _states(made: Dashboard) -> None:
    sidecar, policy = label(metrics.SIDECARS, "state"), label(metrics.POLICIES, "state")
    made.with_row(Row("Sidecars and policies"))
    made.with_panel(
        graph(
            "Sidecars by state",
            "synced: its policy is in force; pending: on its way; rejected: refused; not connected: no stream to any replica.",
            COUNT,
            Query(total(_q.series(metrics.SIDECARS), sidecar), f"{{{{{sidecar}}}}}"),
            Query(not_connected(_q.series(metrics.PODS), _q.series(metrics.SIDECARS)), "not connected"),
            stacked=True,
            width=12,
        )
    )
    made.with_panel(
        graph(
            "Policies by state",
            "accepted, or why not; compiling: large lists take seconds.",
            COUNT,
            Query(most(_q.series(metrics.POLICIES), policy), f"{{{{{policy}}}}}"),
            stacked=True,
            width=12,
        )
    )


def _operator(made: Dashboard) -> None:
    made.with_row(Row("Operator"))
    result = label(metrics.RECONCILES, "result")
    made.with_panel(
        graph(
            "Reconciles",
            "Each makes a plan for all policies and pods. A failed one is tried again.",
            PER_SECOND,
            Query(total(_q.rate(metrics.RECONCILES), result), f"{{{{{result}}}}}"),
        )
    )
    made.with_panel(
        graph(
            "Time of a reconcile",
            "Without the wait for further changes.",
            SECONDS,
            *(Query(_q.quantile(at, metrics.RECONCILE), f"{at:.0%}") for at in _QUANTILES),
        )
    )
    made.with_panel(
        graph(
            "Who leads",
            "1: this replica writes status. All of them serve sidecars.",
            COUNT,
            Query(most(_q.series(metrics.LEADING), *BY_POD), _pod),
        )
    )
    sidecars = total(_q.series(metrics.SIDECARS), *BY_POD)
    made.with_panel(
        graph("Streams by replica", "Sidecars that each replica serves.", COUNT, Query(sidecars, _pod))
    )
    signal = label(metrics.DROPPED, "signal")
    made.with_panel(
        graph(
            "Telemetry dropped",
            "Spans that the OTLP endpoint did not take.",
            PER_SECOND,
            Query(total(_q.rate(metrics.DROPPED), signal), f"{{{{{signal}}}}}"),
        )
    )
