"""The fixtures of the end-to-end tests. Each set lives beside what it starts; here they are only named."""

from harness.cluster_fixtures import api_server, kubernetes_binaries, namespace, pytest_collection_finish
from harness.collector import otel_collector
from harness.distribution import pytest_xdist_auto_num_workers, pytest_xdist_make_scheduler
from harness.failure_logs import pytest_runtest_makereport
from harness.jaeger import jaeger
from harness.mail_cluster_fixtures import friend, mail_service, zombie
from harness.mail_server_fixtures import exim_root, opensmtpd_root, start_exim
from harness.older_release import older_programs
from harness.one_node.fixtures import cluster_jaeger, installed, one_node, real_cluster
from harness.operator_fixtures import operator
from harness.postfix_fixtures import milter, msmtp, postfix_root, start_postfix, swaks
from harness.replica_fixtures import replica_pair, replicas
from harness.sidecar_fixtures import mail_sink, start_sidecar
from no_event_loop import pytest_sessionstart

__all__ = [
    "api_server",
    "cluster_jaeger",
    "exim_root",
    "friend",
    "installed",
    "jaeger",
    "kubernetes_binaries",
    "mail_service",
    "mail_sink",
    "milter",
    "msmtp",
    "namespace",
    "older_programs",
    "one_node",
    "opensmtpd_root",
    "operator",
    "otel_collector",
    "postfix_root",
    "pytest_collection_finish",
    "pytest_runtest_makereport",
    "pytest_sessionstart",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
    "real_cluster",
    "replica_pair",
    "replicas",
    "start_exim",
    "start_postfix",
    "start_sidecar",
    "swaks",
    "zombie",
]
