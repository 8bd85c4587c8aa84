"""A scripted endpoint and the key that it takes."""

import pytest
from scripted_endpoint import KEY, scripted_endpoint


@pytest.fixture
def server():
    """A running endpoint whose script the test writes."""
    with scripted_endpoint() as script:
        yield script


@pytest.fixture
def api_key(monkeypatch):
    """The environment of somebody who has the right key and names the endpoint himself."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
