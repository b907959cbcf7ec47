"""A document in, a ScreeningPolicy out, or everything that is wrong with it."""

from collections.abc import Mapping

from postwarden_operator.policy.model import ScreeningPolicy


def parse_policy(document: Mapping[str, object], *, strict: bool) -> ScreeningPolicy:
    """Raises PolicyInvalid."""
    raise NotImplementedError
