"""Fixtures that every Python test shares: the hubs to run on, and the servers to speak to."""

from __future__ import annotations

import pytest
import services
from isolated import ALL_HUBS, OURS, HubChoice


@pytest.fixture(params=ALL_HUBS, ids=lambda hub: hub.name)
def hub(request) -> HubChoice:
    """Every hub under test: the stock epolls hub as the contract, then ours on each driver."""
    return request.param


@pytest.fixture(params=OURS, ids=lambda hub: hub.name)
def our_hub(request) -> HubChoice:
    """Our hub alone, on each driver: for what the stock hub does not have."""
    return request.param


@pytest.fixture(scope="session")
def postgresql() -> services.Service:
    return services.require(services.POSTGRESQL)


@pytest.fixture(scope="session")
def mariadb() -> services.Service:
    return services.require(services.MARIADB)


@pytest.fixture(scope="session")
def redis() -> services.Service:
    return services.require(services.REDIS)


@pytest.fixture(scope="session")
def rabbitmq() -> services.Service:
    return services.require(services.RABBITMQ)
