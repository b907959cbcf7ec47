"""The dashboard of the sidecars: what becomes of connections, what catches whom, what it costs good senders, and whether all is well."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from postwarden.telemetry.prometheus import series_name
from postwarden_sidecar.telemetry import metrics

from postwarden_dashboards.panels import COUNT, PER_SECOND, SECONDS, SHARE, Query, board, graph, number
from postwarden_dashboards.queries import BY_POD, DASHBOARD, RANGE, label, most, total

REFUSED = "rejected|dropped"
HANDED_OVER = "allowlisted|pass_old|pass_new|tolerated|exempted|unscreened"
PUT_OFF = "deferred|overloaded|error"
"""By verdict."""

UNANSWERED = "blocked|timeout|unreachable|error"
"""Outcomes of look-ups that say nothing of the client."""

_q = DASHBOARD
_pod = "{{namespace}}/{{pod}}"
_verdict = label(metrics.CONNECTIONS, "verdict")
_zone = label(metrics.USABLE, "zone")


def screening() -> Dashboard:
    made = board(
        "Postwarden / Screening",
        "postwarden-screening",
        "What becomes of connections to port 25, and why.",
        series_name(metrics.CONNECTIONS),
    )
    for part in (_at_a_glance, _verdicts, _waiting, _lists, _load, _health):
        part(made)
    return made


def _at_a_glance(made: Dashboard) -> None:
    refused = total(_q.increase(metrics.CONNECTIONS, RANGE, verdict=REFUSED))
    everything = total(_q.increase(metrics.CONNECTIONS, RANGE))
    put_off = total(_q.increase(metrics.CONNECTIONS, RANGE, verdict=PUT_OFF))
    handed_over = total(_q.increase(metrics.CONNECTIONS, RANGE, verdict=HANDED_OVER))
    made.with_row(Row("At a glance"))
    made.with_panel(
        number("Turned away", "Connections that the mail server never saw.", COUNT, Query(refused))
    )
    made.with_panel(
        number("Share turned away", "Of all connections.", SHARE, Query(f"{refused} / {everything}"))
    )
    made.with_panel(number("Handed over", "Connections given to the mail server.", COUNT, Query(handed_over)))
    made.with_panel(
        number(
            "Put off (4xx)",
            "Told to come back: the hand-off failed, a limit was reached, or a fault of ours. No mail is lost, but it is late.",
            COUNT,
            Query(put_off),
            bad=1,
        )
    )
    made.with_panel(
        number(
            "New senders wait",
            "Median time from connect to hand-over of senders that passed all tests for the first time.",
            SECONDS,
            Query(_q.quantile(0.5, metrics.DURATION, window=RANGE, verdict="pass_new")),
        )
    )
    made.with_panel(
        number("Open now", "Connections of all stages.", COUNT, Query(total(_q.series(metrics.ACTIVE))))
    )


def _verdicts(made: Dashboard) -> None:
    made.with_row(Row("Verdicts and tests"))
    made.with_panel(
        graph(
            "Connections by verdict",
            "Each connection has exactly one verdict; see docs/reference/telemetry.md.",
            PER_SECOND,
            Query(total(_q.rate(metrics.CONNECTIONS), _verdict), f"{{{{{_verdict}}}}}"),
            stacked=True,
            width=12,
        )
    )
    test, action = label(metrics.TESTS, "test"), label(metrics.TESTS, "action")
    made.with_panel(
        graph(
            "What each test catches",
            "Failed tests by what the policy has them do. Ignore: only counted.",
            PER_SECOND,
            Query(
                total(_q.rate(metrics.TESTS, outcome="fail"), test, action),
                f"{{{{{test}}}}}: {{{{{action}}}}}",
            ),
            stacked=True,
            width=12,
        )
    )


def _waiting(made: Dashboard) -> None:
    made.with_row(Row("Time that good senders wait"))
    for verdict, title, whom in (
        ("pass_new", "First visit", "Senders that passed all tests now: the greeting's wait, block lists, and their own pace."),
        ("pass_old|allowlisted", "Known senders", "Senders whose pass still holds, or that are on the access list."),
    ):  # fmt: skip
        made.with_panel(
            graph(
                title,
                f"{whom} Time from connect to hand-over.",
                SECONDS,
                *(Query(_q.quantile(at, metrics.DURATION, verdict=verdict), f"{at:.0%}") for at in (0.5, 0.9, 0.99)),
            )
        )  # fmt: skip
    made.with_panel(
        graph(
            "Time spent on those turned away",
            "Median time from connect to verdict: a zombie that is dropped costs next to nothing.",
            SECONDS,
            *(
                Query(_q.quantile(0.5, metrics.DURATION, verdict=verdict), verdict)
                for verdict in ("dropped", "rejected")
            ),
        )
    )


def _lists(made: Dashboard) -> None:
    lookups = metrics.LOOKUPS
    made.with_row(Row("DNS block lists"))
    unanswered = total(_q.events(lookups, outcome=UNANSWERED), _zone)
    listed = total(_q.events(lookups, outcome="listed"), _zone)
    answered = total(_q.events(lookups, outcome="listed|not_listed"), _zone)
    everything = total(_q.events(lookups), _zone)
    made.with_panel(
        graph(
            "Look-ups by outcome",
            "Answers of block lists. Connections of one client side by side share them.",
            PER_SECOND,
            Query(
                total(_q.events(lookups), label(lookups, "outcome")), f"{{{{{label(lookups, 'outcome')}}}}}"
            ),
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Look-up time (95 %)",
            "By list. A client waits for no list longer than the policy's time limit.",
            SECONDS,
            Query(_q.quantile(0.95, lookups, (_zone,)), f"{{{{{_zone}}}}}"),
        )
    )
    made.with_panel(
        graph(
            "Look-ups without an answer",
            "Share by list: it refuses the resolver, answers with an error, or not in time. Such a list counts for nothing.",
            SHARE,
            Query(f"({unanswered} or 0 * {everything}) / {everything}", f"{{{{{_zone}}}}}"),
        )
    )
    made.with_panel(
        graph(
            "Clients listed",
            "Share of a list's answers, by list.",
            SHARE,
            Query(f"{listed} / {answered}", f"{{{{{_zone}}}}}"),
            width=12,
        )
    )
    made.with_panel(
        graph(
            "Lists that count",
            "1: a list's hits count. 0: they count for nothing somewhere, for it lists 127.0.0.1, refuses the resolver or does not answer.",
            COUNT,
            Query(f"min by ({_zone}) ({_q.series(metrics.USABLE)})", f"{{{{{_zone}}}}}"),
            width=12,
        )
    )


def _load(made: Dashboard) -> None:
    made.with_row(Row("Active against limits"))
    stage = label(metrics.ACTIVE, "stage")
    made.with_panel(
        graph(
            "Open connections by stage",
            "screening: before the greeting; dialog: our own; handoff, relay: with the mail server.",
            COUNT,
            Query(total(_q.series(metrics.ACTIVE), stage), f"{{{{{stage}}}}}"),
            stacked=True,
        )
    )
    for level, limit, title, whom in (
        (metrics.SCREENING, "screening", "In our hands", "Stress mode begins near the limit; at it clients are put off."),
        (metrics.UPSTREAM, "upstream", "Given to the mail server, not yet answered", "At the limit clients are put off."),
    ):  # fmt: skip
        made.with_panel(
            graph(
                title,
                f"{whom} Each pod has the limit for itself; 0 is none.",
                COUNT,
                Query(most(_q.series(level), *BY_POD), _pod),
                Query(most(_q.series(metrics.LIMIT, limit=limit), *BY_POD), f"{_pod} limit"),
            )
        )


def _health(made: Dashboard) -> None:
    made.with_row(Row("Health"))
    for metric, title, description in (
        (metrics.PROVED, "Hand-off proved", "0: no client is given to the mail server, all are told to come back."),
        (metrics.IN_FORCE, "Rules in force", "0: clients are handed over untested, or put off."),
        (metrics.CONNECTED, "Stream to the operator", "0: the last good rules are in force, no new ones arrive."),
    ):  # fmt: skip
        made.with_panel(
            graph(title, description, COUNT, Query(f"min by (namespace, pod) ({_q.series(metric)})", _pod))
        )
    for metric, title, description in (
        (metrics.STRESS, "Stress mode", "1: shorter waits and time limits, for many clients are in our hands."),
        (metrics.LOST_ADDRESS, "Clients' addresses lost", "1: nearly all connections come from one address; see docs/client-address.md."),
        (metrics.STEERING_FAILED, "Steering failed", "1: the kernel does not spread clients over the workers as it should."),
    ):  # fmt: skip
        made.with_panel(
            graph(title, description, COUNT, Query(most(_q.series(metric), *BY_POD), _pod), width=6)
        )
    signal = label(metrics.DROPPED, "signal")
    made.with_panel(
        graph(
            "Telemetry dropped",
            "Records, log lines, spans and log records that were lost. Metrics are exact all the same.",
            PER_SECOND,
            Query(total(_q.rate(metrics.DROPPED), signal), f"{{{{{signal}}}}}"),
            width=6,
        )
    )
