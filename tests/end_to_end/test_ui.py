"""The UI on a real cluster, in a real browser, behind the gateway."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Browser, Locator

from tests.end_to_end.cluster import Cluster, in_modes, wait_for
from tests.end_to_end.load import Load
from tests.end_to_end.test_requests import (
    DISSIMILAR,
    NEGATIVE,
    NEWS,
    POSITIVE,
    PROMPT,
    QUERY,
    QUESTION,
    SIMILAR,
    example_image,
)
from tests.ui.conftest import Visit
from tests.ui.conftest import browser as browser

with_and_without_haproxy = in_modes("fast", "slow")
with_haproxy = in_modes("fast")  # what happens behind the Routers does not depend on the proxy
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore"),  # gradio_client and playwright emit warnings
]

RECORD_LENGTHS_JS = """() => {
  window.lengths = new Set();
  const record = () => {
    for (const area of document.querySelectorAll("[role=tabpanel][data-shown] textarea"))
      if (area.readOnly || area.disabled) window.lengths.add(area.value.length);
    requestAnimationFrame(record);
  };
  record();
}"""


@pytest.fixture
def ui_url(cluster: Cluster) -> str:
    """Return the URL of the UI once it is served."""
    wait_for(lambda: cluster.http.get("/ui/").status_code == 200, 60, "the UI")
    return f"{cluster.url}/ui/"


@pytest.fixture
def visit(cluster: Cluster, ui_url: str, browser: Browser) -> Iterator[Visit]:
    """Return a visit; the test fails if the page has problems."""
    wait_for(lambda: all(card["description"] for card in cluster.http.get("/models").json()), 30, "cards")
    visit = Visit(browser, ui_url)
    visit.page.set_default_timeout(20_000)
    yield visit
    visit.close()
    assert visit.problems == []


def wait_for_texts(panel: Locator, *texts: str, seconds: float = 20) -> None:
    """Wait until the panel shows all texts."""
    wait_for(
        lambda: all(text in panel.inner_text() for text in texts),
        seconds,
        f"{texts} in {panel.inner_text()!r}",
    )


def wait_for_output(visit: Visit, pattern: str) -> None:
    """Wait until the output text matches the pattern."""
    output = visit.panel.get_by_label("Output", exact=True).first
    wait_for(lambda: re.search(pattern, output.input_value()), 20, f"{pattern!r} in the output")


def save_screenshot(visit: Visit, tab: str) -> None:
    """Save a screenshot into the folder that the environment variable SCREENSHOTS names, if it is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        time.sleep(0.5)
        visit.page.screenshot(path=Path(folder, f"{tab.lower().replace(' ', '_')}.png"))


def model_stats(cluster: Cluster, model_id: str) -> Any:
    """Return a model's statistics."""
    return {model["id"]: model for model in cluster.http.get("/status").json()}[model_id]


@with_haproxy
def test_text_tabs_show_the_models_outputs(visit: Visit) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(NEGATIVE)
    wait_for_texts(visit.panel, "NEGATIVE", "%")
    save_screenshot(visit, "Sentiment")
    visit.select_tab("Summarization").panel.get_by_role("textbox").first.fill(NEWS)
    visit.click("Run")
    wait_for_output(visit, "Lisbon")
    save_screenshot(visit, "Summarization")
    visit.select_tab("Embeddings").panel.get_by_role("textbox").first.fill(QUERY)
    visit.click("Run")
    visit.panel.locator(".vector-plot").first.wait_for()
    save_screenshot(visit, "Embeddings")
    visit.select_tab("Sentence similarity")
    visit.panel.get_by_role("textbox").nth(0).fill(QUERY)
    visit.panel.get_by_role("textbox").nth(1).fill(f"{DISSIMILAR}\n{SIMILAR}")
    visit.click("Run")
    visit.panel.locator(".matrix").first.wait_for()
    first, second = visit.panel.locator(".bar-chart li").all_inner_texts()[:2]
    assert SIMILAR in first and DISSIMILAR in second, "the ranking is wrong"
    save_screenshot(visit, "Sentence similarity")


@with_and_without_haproxy
def test_text_generation_streams(visit: Visit) -> None:
    visit.open("Text generation").page.evaluate(RECORD_LENGTHS_JS)
    visit.panel.get_by_role("textbox").first.fill(PROMPT)
    visit.click("Parameters")
    visit.field("Max new tokens").fill("150")
    visit.field("Seed").fill("7")
    visit.click("Run")
    wait_for_output(visit, r"\w+ \w+")
    wait_for(lambda: visit.panel.locator(".notice").count() == 0, 20, "the end of the stream")
    assert visit.page.evaluate("window.lengths.size") > 2, "the text appeared in one piece"
    save_screenshot(visit, "Text generation")


@with_haproxy
def test_image_tabs_show_the_models_outputs(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "square.png"
    file.write_bytes(example_image())
    visit.open()
    for tab in ("Image classification", "Object detection", "Image segmentation"):
        visit.select_tab(tab).panel.locator("input[type=file]").first.set_input_files(file)
        visit.click("Run")
        wait_for_texts(visit.panel, "square", seconds=40)
        save_screenshot(visit, tab)


@with_and_without_haproxy
def test_image_of_more_than_10_mb_is_accepted(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (1900, 1900, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    assert file.stat().st_size > 10_000_000
    visit.open("Image classification").panel.locator("input[type=file]").first.set_input_files(file)
    visit.panel.locator("img").first.wait_for(timeout=40_000)
    visit.click("Run")
    wait_for_texts(visit.panel, "%", seconds=40)


@with_haproxy
def test_damaged_image_shows_an_error(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "damaged.png"
    file.write_bytes(example_image()[:90])
    visit.open("Image classification").panel.locator("input[type=file]").first.set_input_files(file)
    visit.click("Run")
    wait_for_texts(visit.alert, "damaged")


@with_haproxy
def test_chat_keeps_its_history_and_is_separate_from_other_chats(visit: Visit, browser: Browser) -> None:
    other = Visit(browser, visit.url)
    other.open("Conversational")
    visit.open("Conversational")
    for message, reply in ((QUESTION, "Rome"), ("What is the opposite of hot?", "cold")):
        visit.panel.get_by_role("textbox").last.fill(message)
        visit.click("Send")
        wait_for_texts(visit.panel, message, reply)
    wait_for_texts(visit.panel, QUESTION, "Rome")
    save_screenshot(visit, "Conversational")
    other.panel.get_by_role("textbox").last.fill("What is the opposite of hot?")
    other.click("Send")
    wait_for_texts(other.panel, "cold")
    assert "Rome" not in other.panel.inner_text()
    other.close()
    assert other.problems == []


@with_haproxy
def test_model_is_added_and_removed_while_the_form_keeps_its_input(cluster: Cluster, visit: Visit) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill("half a sent")
    cluster.add("newcomer", like="sentiment")
    cluster.wait_for_state("newcomer", "ready", 60)
    wait_for_texts(visit.panel, "newcomer")
    visit.panel.get_by_label("Model").click()
    visit.page.get_by_role("option", name="newcomer").click()
    visit.click("Run")
    wait_for(lambda: model_stats(cluster, "newcomer")["totals"]["succeeded"] > 0, 10, "a request")
    wait_for_texts(visit.panel, "%")
    cluster.remove("newcomer")
    wait_for(lambda: cluster.card("newcomer")["state"] == "gone", 15, "404")
    wait_for_texts(visit.panel, "The model newcomer is no longer ready")
    assert visit.panel.get_by_role("textbox").first.input_value() == "half a sent"


@with_haproxy
def test_status_tab_shows_the_load(cluster: Cluster, visit: Visit) -> None:
    visit.open("Status")
    with Load(f"{cluster.url}/models/sentiment", {"inputs": NEGATIVE}):
        wait_for(lambda: " ms" in visit.panel.inner_text(), 20, "latencies")
        # The rate is an average over the last seconds, so it starts low.
        wait_for(lambda: model_stats(cluster, "sentiment")["requests_per_second"] > 1, 20, "the rate")
        save_screenshot(visit, "Status")
        stats = model_stats(cluster, "sentiment")
        time.sleep(3)
    assert stats["p95_ms"] >= stats["p50_ms"] > 0


@with_and_without_haproxy
def test_open_page_recovers_from_a_killed_ui_replica(cluster: Cluster, ui_url: str, browser: Browser) -> None:
    visit = Visit(browser, ui_url)
    visit.page.set_default_timeout(60_000)
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(NEGATIVE)
    wait_for_texts(visit.panel, "NEGATIVE")
    (killed,) = cluster.pids("gateway:UI")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: cluster.pids("gateway:UI") - {killed}, 40, "a new UI replica")
    attempts = itertools.count()

    def has_new_output() -> bool:
        visit.panel.get_by_role("textbox").first.fill(POSITIVE + " " * next(attempts))
        time.sleep(1)
        return "POSITIVE" in visit.panel.locator(".bar-chart li").first.inner_text()

    wait_for(has_new_output, 60, "an output without a reload")
    visit.close()


@with_haproxy
def test_grpcurl_snippet_runs_as_displayed(visit: Visit, tmp_path: Path) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(NEGATIVE)
    wait_for_texts(visit.panel, "NEGATIVE")
    visit.click("Request as code")
    visit.panel.get_by_role("tab", name="Caikit gRPC").click()
    wait_for(lambda: "grpcurl" in visit.panel.inner_text(), 10, "the snippet")
    code = visit.panel.locator(".cm-content:visible").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    grpcurl = tmp_path / "grpcurl"
    grpcurl.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("grpcurl.py")} "$@"\n')
    grpcurl.chmod(0o755)
    process = subprocess.run(
        ["bash", "-c", code],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert '"className": "NEGATIVE"' in process.stdout, process.stderr + code


@with_haproxy
def test_gradio_client_calls_the_api_endpoints(ui_url: str, tmp_path: Path) -> None:
    client = Client(ui_url, verbose=False)
    names = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/sentiment", "/text-generation", "/sentence-similarity", "/object-detection"} <= {*names}
    assert client.predict(text=NEGATIVE, api_name="/sentiment")[0]["label"] == "NEGATIVE"
    file = tmp_path / "square.png"
    file.write_bytes(example_image())
    (detected,) = client.predict(image=handle_file(file), api_name="/object-detection")
    assert detected["label"] == "square"
    alike, unlike = client.predict(
        sentences=[SIMILAR, DISSIMILAR], source_sentence=QUERY, api_name="/sentence-similarity"
    )
    assert alike > unlike
