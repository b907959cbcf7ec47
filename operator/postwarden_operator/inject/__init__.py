"""Injection: the pod as a user wants it in, the pod with our sidecar out. Pure."""

from postwarden_operator.inject.injection import Injection, Refusal, inject
from postwarden_operator.inject.settings import InjectionSettings

__all__ = ["Injection", "InjectionSettings", "Refusal", "inject"]
