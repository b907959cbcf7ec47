"""Kubernetes' LabelSelector, as far as a document states it and as far as it decides on labels."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from postwarden_operator.policy.cross_field import EXPRESSION_RULES
from postwarden_operator.policy.formats import LABEL_KEY_PATTERN, LONGEST_LABEL_KEY, LabelKey, LabelValue
from postwarden_operator.policy.part import CrossFieldRule, Part
from postwarden_operator.policy.text_format import CelRule

_KEYS_ARE_LABELS = CelRule(
    f"self.all(key, size(key) <= {LONGEST_LABEL_KEY} && key.matches('{LABEL_KEY_PATTERN}'))".replace(
        "\\", "\\\\"
    ),
    "keys must be labels like app.kubernetes.io/name",
)
"""A structural schema has no word on a map's keys."""


class SelectorOperator(StrEnum):
    """How an expression compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelExpression(Part):
    """One condition on a pod's labels."""

    RULES: ClassVar[tuple[CrossFieldRule, ...]] = EXPRESSION_RULES

    key: LabelKey
    """The label."""
    operator: SelectorOperator
    """In, NotIn: its value is (not) one of `values`; a pod without the label matches NotIn. Exists, DoesNotExist: whether it is there."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=64)] = ()
    """For In and NotIn."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels fits."""
        match self.operator:
            case SelectorOperator.IN:
                return self.key in labels and labels[self.key] in self.values
            case SelectorOperator.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case SelectorOperator.EXISTS:
                return self.key in labels
            case SelectorOperator.DOES_NOT_EXIST:
                return self.key not in labels


class LabelSelector(Part):
    """Which pods."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, json_schema_extra={"x-kubernetes-validations": [_KEYS_ARE_LABELS.schema()]}
    )
    """Labels that a pod must have, all of them, with these values."""
    match_expressions: Annotated[tuple[LabelExpression, ...], Field(max_length=32)] = ()
    """Conditions on labels, all of which must hold."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels fits all of it; the empty selector fits every pod."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )
