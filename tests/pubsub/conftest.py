"""A server process on either backend, and Google's own clients of it."""

from collections.abc import Iterator

import pytest
from google_clients import Google, Server, started


@pytest.fixture(scope="session", params=["memory", "folder"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = "memory://" if request.param == "memory" else str(tmp_path_factory.mktemp("pubsub") / "data")
    server = started(data)
    yield server
    assert server.stop() == 0


@pytest.fixture
def google(server: Server) -> Iterator[Google]:
    """With names of the test's own."""
    with Google(server.address) as google:
        yield google
