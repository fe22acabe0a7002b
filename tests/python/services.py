"""The servers that some tests speak to: where they listen, and how to start them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Service:
    """A server on this machine, with the settings that the tests use."""

    name: str
    port: int
    start_command: str
    host: str = "127.0.0.1"

    def is_up(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=2).close()
        except OSError:
            return False
        return True


# Trust authentication; roles root and postgres, database test.
POSTGRESQL = Service("PostgreSQL", 5432, "service postgresql start")
# User root without a password, database test.
MARIADB = Service("MariaDB", 3306, "service mariadb start")
REDIS = Service("Redis", 6379, "service redis-server start")
# User guest, password guest.
RABBITMQ = Service("RabbitMQ", 5672, "service rabbitmq-server start")


def require(service: Service) -> Service:
    """Skips the test if the service is down; fails it where URINGHUB_REQUIRE_SERVICES=1 says it must run."""
    if service.is_up():
        return service
    reason = (
        f"{service.name} does not listen on {service.host}:{service.port}; start it: {service.start_command}"
    )
    if os.environ.get("URINGHUB_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
