"""The cluster's own face: its index, its health, its documentation, and no other host in any of them."""

import re

import httpx
import orjson
import pytest

from deployments.card import Card
from deployments.dialects import DIALECTS
from deployments.dialects.roster import dialect
from deployments.gateway import http_app as web
from deployments.gateway.openapi import document
from deployments.telemetry.request_stats import Totals
from deployments.wire.roster.docs_page import STATIC
from tests.fake_router import FakeRouter


async def test_the_index_leads_on(http) -> None:
    answered = await http.get("/")
    assert answered.json() == {
        "models": "/models",
        "status": "/status",
        "docs": "/docs",
        "openapi": "/openapi.json",
    }
    assert answered.headers["vary"] == "accept"


async def test_figures_are_told_as_they_are(http, router: FakeRouter) -> None:
    (told,) = (await http.get("/status")).json()
    assert told == {
        "id": "sentiment",
        "requests_per_second": 2.0,
        "p50_ms": 3.0,
        "p95_ms": 9.0,
        "in_flight": 1,
        "totals": Totals().model_dump(),
    }


async def test_a_model_s_counters(http) -> None:
    assert (await http.get("/models/text-generation/counters")).json() == {"generated_tokens": 5}
    for model_id, status in (("nobody", 404), ("broken", 503)):
        answered = await http.get(f"/models/{model_id}/counters")
        assert answered.status_code == status
        assert answered.json()["error_type"] == ("not_found" if status == 404 else "unavailable")


async def test_a_browser_is_sent_to_the_documentation(http) -> None:
    answered = await http.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (answered.status_code, answered.headers["location"]) == (307, "/docs")


async def test_live(http) -> None:
    answered = await http.get("/health/live")
    assert (answered.status_code, answered.json()) == (200, {"status": "live"})


async def test_ready_once_settled(http, router) -> None:
    router.cards = {
        "a": Card(id="a", state="ready"),
        "b": Card(id="b", state="ready"),
        "c": Card(id="c", state="loading"),
        "d": Card(id="d", state="unavailable"),
    }
    counts = {"ready": 2, "loading": 1, "unavailable": 1}
    answered = await http.get("/health/ready")
    assert (answered.status_code, answered.json()) == (200, {"status": "ready", **counts})
    router.startup_complete = False
    answered = await http.get("/health/ready")
    told = {"error": "the models are still loading", "error_type": "unavailable"}
    assert (answered.status_code, answered.json()) == (503, {**told, "status": "starting", **counts})
    assert (await http.head("/health/ready")).status_code == 503


async def test_the_document_is_served(http) -> None:
    answered = await http.get("/openapi.json")
    assert answered.headers["content-type"] == "application/json"
    assert answered.json() == orjson.loads(orjson.dumps(document([dialect])))


async def test_the_documentation_asks_no_other_host(http) -> None:
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
async def test_its_files_are_served(http, file: str) -> None:
    page = (await http.get("/docs")).text
    assert f'"/docs/static/{file}"' in page
    answered = await http.get(f"/docs/static/{file}")
    assert answered.status_code == 200
    assert len(answered.content) > 1000
    assert (await http.head(f"/docs/static/{file}")).content == b""


@pytest.mark.parametrize("file", ["redoc.standalone.js", "__init__.py", "core.py", "x"])
async def test_no_other_file_is(http, file: str) -> None:
    answered = await http.get(f"/docs/static/{file}")
    assert answered.status_code == 404
    assert "error" in answered.json()


async def test_behind_a_prefix(router) -> None:
    transport = httpx.ASGITransport(web.build(router, [dialect]), root_path="/roster")
    async with httpx.AsyncClient(transport=transport, base_url="http://door", verify=False) as http:
        assert '"/roster/docs/static/swagger-ui.css"' in (await http.get("/roster/docs")).text
        answered = await http.get("/roster/", headers={"accept": "text/html"})
        assert answered.headers["location"] == "/roster/docs"


def test_it_is_one_of_the_dialects() -> None:
    assert dialect in DIALECTS
