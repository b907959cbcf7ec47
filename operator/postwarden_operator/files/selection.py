"""Which policy is in force on one machine.

The first by namespace and name; every selector and namespace matches.
"""

from collections.abc import Iterable

from postwarden_operator.compiler import Candidate, SelectedPod, Selection, Standing


def first_by_name(candidates: Iterable[Candidate], pods: Iterable[SelectedPod]) -> Selection:
    """The `Select` of files. Ages do not count: a file has none that means anything."""
    ordered = sorted(candidates, key=lambda candidate: (candidate.namespace, candidate.name))
    uids = [pod.uid for pod in pods]
    standing = {candidate: Standing(matched=list(uids)) for candidate in ordered}
    if not ordered:
        return Selection({}, {})
    winner, *losers = ordered
    standing[winner].won.extend(uids)
    for loser in losers:
        standing[loser].lost_to[winner] += len(uids)
    return Selection(dict.fromkeys(uids, winner), standing)
