"""For all unit tests."""

from no_event_loop import pytest_sessionstart

__all__ = ["pytest_sessionstart"]
