"""Policies and lists in, rules out. Pure."""

from postwarden_operator.compiler.compile import compile_policy, list_texts
from postwarden_operator.compiler.content import (
    BlobContent,
    Compiled,
    CompiledList,
    CompileFailed,
    CompileReason,
    ListContent,
    Missing,
    NotLabelled,
    NotPermitted,
    SecretContent,
    SecretValue,
)
from postwarden_operator.compiler.list_table import Lists, ListText, compile_list, digest_of
from postwarden_operator.compiler.select import Candidate, SelectedPod, Selection, Standing, Winners
from postwarden_operator.compiler.sources import BadList, unpacked_size

__all__ = [
    "BadList",
    "BlobContent",
    "Candidate",
    "CompileFailed",
    "CompileReason",
    "Compiled",
    "CompiledList",
    "ListContent",
    "ListText",
    "Lists",
    "Missing",
    "NotLabelled",
    "NotPermitted",
    "SecretContent",
    "SecretValue",
    "SelectedPod",
    "Selection",
    "Standing",
    "Winners",
    "compile_list",
    "compile_policy",
    "digest_of",
    "list_texts",
    "unpacked_size",
]
