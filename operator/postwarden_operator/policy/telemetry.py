"""The part of a ScreeningPolicy on how decisions are reported. Conventions as in `model`."""

from typing import Annotated

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from postwarden_operator.policy.part import Part
from postwarden_operator.policy.vocabulary import DOCUMENTED_DEFAULT, EnvelopeAddresses, LogFormat, Verdict

MOST_TRACES = 10_000
"""A second, of one verdict: a trace costs the supervisor some 100 us or more (measured), so more can't be had."""


class Sampling(Part):
    """How many connections of one verdict get a trace."""

    verdict: Verdict
    """Which verdict, as traces and metrics name it."""
    percent: Annotated[int, Strict(), Field(ge=0, le=100)] = 100
    """The share of its connections."""
    max_per_second: Annotated[int, Strict(), Field(ge=0, le=MOST_TRACES)] = 50
    """At most so many traces a second, in each pod."""


def _each_once(sampling: tuple[Sampling, ...]) -> tuple[Sampling, ...]:
    """The API server refuses it by itself, for the list is a map by verdict."""
    if len({each.verdict for each in sampling}) < len(sampling):
        raise PydanticCustomError(
            "text_format", "{sentence}", {"sentence": "names a verdict twice; give each once"}
        )
    return sampling


class Telemetry(Part):
    """How decisions are reported."""

    sampling: Annotated[
        tuple[Sampling, ...],
        Field(
            max_length=len(Verdict),
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["verdict"],
                DOCUMENTED_DEFAULT: "dropped: 1 %, 10/s; all others together: 100 %, 50/s",
            },
        ),
        AfterValidator(_each_once),
    ] = ()
    """Which connections get a trace, by verdict. Verdicts that are not named keep the default. Metrics count every connection, and every
    connection has its log line."""
    log_format: LogFormat = LogFormat.JSON
    """JSON: one object a line. Postscreen: the lines of Postfix's postscreen. PostscreenLegacy: the same with its older words WHITELISTED
    and BLACKLISTED."""
    envelope_addresses: EnvelopeAddresses = EnvelopeAddresses.FULL
    """What logs and traces show of HELO name, sender and recipient. Hashed: a hash of each in its place, the same for the same address
    within this policy, and nothing else that the client sent. Omitted: nothing of them."""
