"""The broker, topics, daemons and Tiled server of the daemon's own tests."""

from tests.kafka.conftest import (  # noqa: F401 - fixtures
    bootstrap_servers,
    catalog,
    make_topic,
    start_daemon,
    tiled_server,
    topic,
)
