"""Who is told of reconciles; for telemetry."""

from dataclasses import dataclass
from typing import Protocol

from postwarden_operator.reconcile.plan import Plan


@dataclass(frozen=True, slots=True)
class ReconcileTimes:
    """Epoch seconds. dirty: when the first of the changes was noticed that led to it; began: when they had settled; planned."""

    dirty: float
    began: float
    planned: float


class ReconcileObserver(Protocol):
    """No call blocks or raises."""

    def reconciled(self, times: ReconcileTimes, plan: Plan) -> None:
        """A plan is made; the streams are told of it next."""

    def failed(self) -> None:
        """A reconcile failed and will be tried again."""


class NoReconcileObserver:
    """Tells nobody."""

    def reconciled(self, times: ReconcileTimes, plan: Plan) -> None:
        pass

    def failed(self) -> None:
        pass


NOBODY = NoReconcileObserver()
