"""A valid policy and the content of its lists in, rules for the sidecars out."""

from collections.abc import Mapping

from postwarden_operator.compiler.content import Compiled, ListContent
from postwarden_operator.policy import ConfigMapKey, ScreeningPolicy


def compile_policy(policy: ScreeningPolicy, lists: Mapping[ConfigMapKey, ListContent]) -> Compiled:
    """Raises CompileFailed. A ConfigMapKey that `lists` does not have counts as Missing."""
    raise NotImplementedError
