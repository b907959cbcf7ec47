"""The operator's own traces and metrics: what becomes of a policy change, from its write to each pod."""
