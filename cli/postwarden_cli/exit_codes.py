"""The exit codes of commands that ask sidecars or a cluster, besides 0, and 1 for what the answer says."""

UNANSWERED = 2
"""Nobody can be asked, or one of them has not answered."""

INTERRUPTED = 130
"""By Ctrl-C, as shells have it: 128 and the signal's number."""
