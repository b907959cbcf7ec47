"""Measurements: not part of the tests, for they take minutes and tell of a machine."""
