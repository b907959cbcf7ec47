"""The folder examples/, read as its users read it: for tests that check its files, and for those that run them.

Contract: `objects` gives the Kubernetes objects of a file, `text_of` a file's text out of a ConfigMap in it. `for_a_test` changes what
would make a test wait, or show nothing: the greeting's six seconds, and `mode: Observe`.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def objects(name: str) -> list[dict[str, Any]]:
    """Of examples/NAME, in its order."""
    return [each for each in YAML(typ="safe").load_all(EXAMPLES / name) if each]


def of_kind(name: str, kind: str) -> dict[str, Any]:
    """The one object of that kind in examples/NAME."""
    (found,) = [each for each in objects(name) if each["kind"] == kind]
    return found


def text_of(name: str, key: str) -> str:
    """What the ConfigMap in examples/NAME holds under that key."""
    return str(of_kind(name, "ConfigMap")["data"][key])


def for_a_test(name: str) -> str:
    """The policy file examples/NAME, enforced, and with a greeting that takes no time."""
    text = (EXAMPLES / name).read_text()
    for written, tried in (("mode: Observe", "mode: Enforce"), ("wait: 6s", "wait: 200ms")):
        assert text.count(written) == 1, f"{name}: {written}"
        text = text.replace(written, tried)
    return text
