"""Policies and lists in, rules out. Pure."""

from postwarden_operator.compiler.compile import compile_policy
from postwarden_operator.compiler.content import (
    BlobContent,
    Compiled,
    CompileFailed,
    CompileReason,
    ListContent,
    Missing,
    NotLabelled,
    NotPermitted,
    SecretContent,
    SecretValue,
)
from postwarden_operator.compiler.select import Candidate, SelectedPod, Selection, Standing, winners

__all__ = [
    "BlobContent",
    "Candidate",
    "CompileFailed",
    "CompileReason",
    "Compiled",
    "ListContent",
    "Missing",
    "NotLabelled",
    "NotPermitted",
    "SecretContent",
    "SecretValue",
    "SelectedPod",
    "Selection",
    "Standing",
    "compile_policy",
    "winners",
]
