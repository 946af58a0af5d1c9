"""Roster's own protocol: index, health checks, statistics, and the documentation without other hosts."""

import re

import httpx
import orjson
import pytest

from deployments.card import Card
from deployments.dialects import DIALECTS
from deployments.dialects.roster import dialect
from deployments.gateway import http_app
from deployments.gateway.openapi import document
from deployments.telemetry.request_stats import Totals
from deployments.wire.roster.docs_page import STATIC
from tests.fake_router import FakeRouter


async def test_index_lists_main_paths(http) -> None:
    response = await http.get("/")
    assert response.json() == {
        "models": "/models",
        "status": "/status",
        "docs": "/docs",
        "openapi": "/openapi.json",
    }
    assert response.headers["vary"] == "accept"


async def test_status_returns_state_and_statistics_of_each_model(http, router: FakeRouter) -> None:
    (stats,) = (await http.get("/status")).json()
    assert stats == {
        "id": "sentiment",
        "requests_per_second": 2.0,
        "p50_ms": 3.0,
        "p95_ms": 9.0,
        "in_flight": 1,
        "totals": Totals().model_dump(),
        "state": "ready",
        "reason": "",
    }


async def test_counters_of_a_replica(http) -> None:
    assert (await http.get("/models/text-generation/counters")).json() == {"generated_tokens": 5}
    for model_id, status in (("unknown", 404), ("broken", 503)):
        response = await http.get(f"/models/{model_id}/counters")
        assert response.status_code == status
        assert response.json()["error_type"] == ("not_found" if status == 404 else "unavailable")


async def test_index_redirects_browser_to_documentation_without_ui(http) -> None:
    response = await http.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (response.status_code, response.headers["location"]) == (307, "/docs")


async def test_live_is_200(http) -> None:
    response = await http.get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "live"})


async def test_ready_is_503_until_startup_is_complete(http, router) -> None:
    router.cards = {
        "a": Card(id="a", state="ready"),
        "b": Card(id="b", state="ready"),
        "c": Card(id="c", state="loading"),
        "d": Card(id="d", state="unavailable"),
    }
    counts = {"ready": 2, "loading": 1, "unavailable": 1}
    response = await http.get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready", **counts})
    router.startup_complete = False
    response = await http.get("/health/ready")
    error = {"error": "the models are still loading", "error_type": "unavailable"}
    assert (response.status_code, response.json()) == (503, {**error, "status": "starting", **counts})
    assert (await http.head("/health/ready")).status_code == 503


async def test_openapi_document_is_served(http) -> None:
    response = await http.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == orjson.loads(orjson.dumps(document([dialect])))


async def test_documentation_page_loads_nothing_from_other_hosts(http) -> None:
    page = await http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'(?:src|href|url)(?:=|: )"([^"]*)"', page.text)
    assert len(links) == 4
    for link in links:
        assert re.match("/[^/]", link)
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("file", sorted(STATIC))
async def test_static_files_of_documentation_are_served(http, file: str) -> None:
    page = (await http.get("/docs")).text
    assert f'"/docs/static/{file}"' in page
    response = await http.get(f"/docs/static/{file}")
    assert response.status_code == 200
    assert len(response.content) > 1000
    assert (await http.head(f"/docs/static/{file}")).content == b""


@pytest.mark.parametrize("file", ["redoc.standalone.js", "__init__.py", "core.py", "x"])
async def test_other_static_file_is_404(http, file: str) -> None:
    response = await http.get(f"/docs/static/{file}")
    assert response.status_code == 404
    assert "error" in response.json()


async def test_links_start_with_root_path(router) -> None:
    transport = httpx.ASGITransport(http_app.build(router, [dialect]), root_path="/roster")
    async with httpx.AsyncClient(transport=transport, base_url="http://test", verify=False) as http:
        assert '"/roster/docs/static/swagger-ui.css"' in (await http.get("/roster/docs")).text
        response = await http.get("/roster/", headers={"accept": "text/html"})
        assert response.headers["location"] == "/roster/docs"


def test_roster_is_a_registered_dialect() -> None:
    assert dialect in DIALECTS
