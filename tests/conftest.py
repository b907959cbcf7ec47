"""For all unit tests.

Hypothesis measures no time here: a busy machine is no defect of what is tested. Tests that promise a time measure it themselves.
"""

from hypothesis import HealthCheck, settings
from no_event_loop import pytest_sessionstart
from shared_page import page

__all__ = ["page", "pytest_sessionstart"]

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
