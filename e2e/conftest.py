"""The fixtures of the end-to-end tests. Each set lives beside what it starts; here they are only named."""

from harness.cluster_fixtures import api_server, kubernetes_binaries, namespace, pytest_collection_finish

__all__ = ["api_server", "kubernetes_binaries", "namespace", "pytest_collection_finish"]
