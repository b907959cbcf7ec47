"""Interception by the kernel: what an init container does, so that the MTA's clients come to the sidecar. Nothing of it runs later."""
