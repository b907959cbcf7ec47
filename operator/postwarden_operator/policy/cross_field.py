"""The rules on several fields of one object of a ScreeningPolicy.

Contract: `wrong` looks at the object as it stands in the document (nulls removed), and at nothing else; types may be wrong there, the
model says so elsewhere.
"""

from collections.abc import Mapping
from re import fullmatch

from postwarden_operator.policy.duration import DURATION_PATTERN, milliseconds
from postwarden_operator.policy.part import across
from postwarden_operator.policy.smtp_formats import KEY

_POSTFIX_CIDR = "PostfixCIDR"


def _is_postfix_cidr(rule: Mapping[str, object]) -> bool:
    list_from = rule.get("listFrom")
    return isinstance(list_from, Mapping) and list_from.get("format") == _POSTFIX_CIDR


LIST_FROM_RULES = (
    across(
        "has(self.configMapKeyRef) != has(self.sources)",
        "give either configMapKeyRef or sources, and not both",
        lambda list_from: ("configMapKeyRef" in list_from) == ("sources" in list_from),
    ),
)

_CEL_POSTFIX_CIDR = f"(has(self.listFrom) && self.listFrom.format == '{_POSTFIX_CIDR}')"

RULE_RULES = (
    across(
        "has(self.cidrs) != has(self.listFrom)",
        "give either cidrs or listFrom, and not both",
        lambda rule: ("cidrs" in rule) == ("listFrom" in rule),
    ),
    across(
        f"has(self.action) || {_CEL_POSTFIX_CIDR}",
        "is missing; say Permit, Reject or Dunno",
        lambda rule: "action" not in rule and not _is_postfix_cidr(rule),
        field="action",
        reason="FieldValueRequired",
    ),
    across(
        f"!has(self.action) || !{_CEL_POSTFIX_CIDR}",
        "must be left out: each line of a PostfixCIDR list has its own action",
        lambda rule: "action" in rule and _is_postfix_cidr(rule),
        field="action",
        reason="FieldValueForbidden",
    ),
)

UPSTREAM_RULES = (
    across(
        "!(has(self.port) && has(self.socket))",
        "give either port or socket, and not both",
        lambda upstream: "port" in upstream and "socket" in upstream,
    ),
    across(
        "self.handoff != 'Pass' || has(self.socket)",
        "Pass needs the socket of a pass service of Postfix; give upstream.socket in place of a port",
        lambda upstream: upstream.get("handoff") == "Pass" and "socket" not in upstream,
        field="handoff",
    ),
)


def _zone(site: Mapping[str, object]) -> str:
    zone = site.get("zone")
    return zone if isinstance(zone, str) else ""


DNSBL_SITE_RULES = (
    across(
        f"!self.zone.contains('{KEY}') || has(self.keyFrom)",
        "is missing: the zone has {key}; name the Secret that holds it",
        lambda site: KEY in _zone(site) and "keyFrom" not in site,
        field="keyFrom",
        reason="FieldValueRequired",
    ),
    across(
        f"self.zone.contains('{KEY}') || !has(self.keyFrom)",
        "must be left out: the zone has no {key} that it could replace",
        lambda site: "zone" in site and KEY not in _zone(site) and "keyFrom" in site,
        field="keyFrom",
        reason="FieldValueForbidden",
    ),
)


def _milliseconds(part: Mapping[str, object], field: str, default: str) -> int | None:
    value = part.get(field, default)
    return milliseconds(value) if isinstance(value, str) and fullmatch(DURATION_PATTERN, value) else None


def _min_above_max(bounds: Mapping[str, object]) -> bool:
    least, most = _milliseconds(bounds, "min", "60s"), _milliseconds(bounds, "max", "1h")
    return least is not None and most is not None and least > most


TTL_BOUNDS_RULES = (
    across(
        # Both are there once their defaults are filled in; the object's own default, {}, is judged before that.
        "!has(self.min) || !has(self.max) || duration(self.min) <= duration(self.max)",
        "is longer than max (60s and 1h are the defaults)",
        _min_above_max,
        field="min",
    ),
)


def _leave_not_below_enter(stress: Mapping[str, object]) -> bool:
    enter, leave = stress.get("enterPercent", 90), stress.get("leavePercent", 70)
    return isinstance(enter, int) and isinstance(leave, int) and leave >= enter


STRESS_RULES = (
    across(
        "!has(self.leavePercent) || !has(self.enterPercent) || self.leavePercent < self.enterPercent",
        "must be less than enterPercent (70 and 90 are the defaults), or stress would come and go with every client",
        _leave_not_below_enter,
        field="leavePercent",
    ),
)

EXPRESSION_RULES = (
    across(
        "!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)",
        "In and NotIn need at least one value",
        lambda expression: expression.get("operator") in ("In", "NotIn") and not expression.get("values"),
        field="values",
        reason="FieldValueRequired",
    ),
    across(
        "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || self.values.size() == 0",
        "must be left out: Exists and DoesNotExist take no values",
        lambda expression: (
            expression.get("operator") in ("Exists", "DoesNotExist") and bool(expression.get("values"))
        ),
        field="values",
        reason="FieldValueForbidden",
    ),
)
