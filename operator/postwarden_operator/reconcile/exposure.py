"""How a screened pod can be reached. Plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a pod can be reached. listen: the sidecar's port. mta: the MTA's, None: a socket, or not known. names: of TCP ports, in the order
    in which a Service looks. redirected: the kernel gives the MTA's clients to the sidecar."""

    listen: int
    mta: int | None
    names: tuple[tuple[str, int], ...]
    redirected: bool = False

    def resolve(self, target: int | str) -> int | None:
        """None: no port has that name; the pod is no endpoint of the Service then."""
        if isinstance(target, int):
            return target
        return next((number for name, number in self.names if name == target), None)

    @property
    def way_in(self) -> int | str:
        """What a Service's targetPort is to be."""
        return next((name for name, _ in self.names if self.resolve(name) == self.listen), self.listen)
