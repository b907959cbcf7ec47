"""For all unit tests.

Hypothesis measures no time here: a busy machine is no defect of what is tested. Tests that promise a time measure it themselves.
"""

from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings
from no_event_loop import pytest_sessionstart
from shared_page import page

__all__ = ["page", "pytest_sessionstart"]

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Compiled code (e2e/test_compiled.py) is tested without tests that replace a part of it, for it takes no replacement."""
    data_path = find_spec("postwarden_sidecar.net.loop")
    if data_path is None or str(data_path.origin).endswith(".py"):
        return
    replacing = [item for item in items if "monkeypatch" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in replacing]
    config.hook.pytest_deselected(items=replacing)
