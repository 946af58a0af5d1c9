"""The gateway's arguments: an origin that no browser sends is an error, not an entry without effect."""

import pytest
from pydantic import ValidationError

from deployments.config.gateway_config import GatewayArgs


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "http://[::1]:8080",
        "chrome-extension://abcdef",
        "*",
    ],
)
def test_origin_of_a_page_is_allowed(origin: str) -> None:
    assert GatewayArgs(allowed_origins=[origin]).allowed_origins == [origin]


@pytest.mark.parametrize(
    "origin",
    [
        "localhost:3000",
        "example.com",
        "https://example.com/",
        "https://example.com/app",
        "https://Example.com",
        "https://example.com:443",
        "http://example.com:80",
        "https://*.example.com",
        "https://user@example.com",
        "null",
        "",
    ],
)
def test_text_that_no_browser_sends_as_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is no origin; write it as browsers do"):
        GatewayArgs(allowed_origins=[origin])
