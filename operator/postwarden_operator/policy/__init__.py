"""The model of a ScreeningPolicy and its validation. Pure."""

from postwarden_operator.policy.errors import FieldError, PolicyInvalid, name_of
from postwarden_operator.policy.model import ScreeningPolicy, ScreeningPolicySpec
from postwarden_operator.policy.parse import parse_policy
from postwarden_operator.policy.references import (
    ConfigMapKey,
    SecretKey,
    config_map_references,
    secret_references,
)

__all__ = [
    "ConfigMapKey",
    "FieldError",
    "PolicyInvalid",
    "ScreeningPolicy",
    "ScreeningPolicySpec",
    "SecretKey",
    "config_map_references",
    "name_of",
    "parse_policy",
    "secret_references",
]
