"""Policies and lists in, rules out. Pure."""
