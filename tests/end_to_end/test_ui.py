"""The pages on a real cluster, in a real browser, through the router's own door."""

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

from tests.end_to_end.conftest import Cluster, in_lanes, wait_for
from tests.end_to_end.load import Load
from tests.end_to_end.test_requests import ALIKE, ASKED, BAD, GOOD, NEWS, PROMPT, QUESTION, UNLIKE, picture
from tests.ui.conftest import Visit
from tests.ui.conftest import browser as browser

pytestmark = [
    pytest.mark.cluster,
    in_lanes("fast", "slow"),
    pytest.mark.filterwarnings("ignore"),  # gradio_client's and playwright's own
]


@pytest.fixture
def visit(cluster: Cluster, browser: Browser) -> Iterator[Visit]:
    wait_for(lambda: cluster.http.get("/ui/").status_code == 200, 60, "the pages")
    wait_for(lambda: all(card["description"] for card in cluster.http.get("/models").json()), 30, "all told")
    visit = Visit(browser, f"{cluster.url}/ui/")
    visit.page.set_default_timeout(20_000)
    yield visit
    visit.close()
    assert visit.wrong == []


def expect(panel: Locator, *texts: str, seconds: float = 20) -> None:
    """Wait until the panel shows all of these."""
    wait_for(
        lambda: all(text in panel.inner_text() for text in texts),
        seconds,
        f"{texts} in {panel.inner_text()!r}",
    )


def expect_answer(visit: Visit, pattern: str) -> None:
    answer = visit.panel.get_by_label("Answer", exact=True).first
    wait_for(lambda: re.search(pattern, answer.input_value()), 20, f"{pattern!r} as the answer")


def keep(visit: Visit, tab: str) -> None:
    """A picture of the page for people to look at, where they ask for one."""
    if folder := os.environ.get("SCREENSHOTS"):
        time.sleep(0.5)
        visit.page.screenshot(path=Path(folder, f"{tab.lower().replace(' ', '_')}.png"))


def test_text_tabs_are_used_once(visit: Visit) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(BAD)
    expect(visit.panel, "NEGATIVE", "%")
    keep(visit, "Sentiment")
    visit.go("Summarization").panel.get_by_role("textbox").first.fill(NEWS)
    visit.press("Run")
    expect_answer(visit, "Lisbon")
    keep(visit, "Summarization")
    visit.go("Embeddings").panel.get_by_role("textbox").first.fill(ASKED)
    visit.press("Run")
    visit.panel.locator(".spectrum").first.wait_for()
    keep(visit, "Embeddings")
    visit.go("Sentence similarity")
    visit.panel.get_by_role("textbox").nth(0).fill(ASKED)
    visit.panel.get_by_role("textbox").nth(1).fill(f"{UNLIKE}\n{ALIKE}")
    visit.press("Run")
    visit.panel.locator(".matrix").first.wait_for()
    first, second = visit.panel.locator(".bars li").all_inner_texts()[:2]
    assert ALIKE in first and UNLIKE in second, "the likest first"
    keep(visit, "Sentence similarity")


GROWTH = """() => {
  window.lengths = new Set();
  const look = () => {
    for (const area of document.querySelectorAll("[role=tabpanel][data-shown] textarea"))
      if (area.readOnly || area.disabled) window.lengths.add(area.value.length);
    requestAnimationFrame(look);
  };
  look();
}"""


def test_text_streams(visit: Visit) -> None:
    visit.open("Text generation").page.evaluate(GROWTH)
    visit.panel.get_by_role("textbox").first.fill(PROMPT)
    visit.press("Parameters")
    visit.field("Max new tokens").fill("150")
    visit.field("Seed").fill("7")
    visit.press("Run")
    expect_answer(visit, r"\w+ \w+")
    wait_for(lambda: visit.panel.locator(".notice").count() == 0, 20, "the end")
    assert visit.page.evaluate("window.lengths.size") > 2, "it is not written as it comes"
    keep(visit, "Text generation")


def test_picture_tabs_are_used_once(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "square.png"
    file.write_bytes(picture())
    visit.open()
    for tab in ("Image classification", "Object detection", "Image segmentation"):
        visit.go(tab).panel.locator("input[type=file]").first.set_input_files(file)
        visit.press("Run")
        expect(visit.panel, "square", seconds=40)
        keep(visit, tab)


def test_a_large_picture_works(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (1900, 1900, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    assert file.stat().st_size > 10_000_000
    visit.open("Image classification").panel.locator("input[type=file]").first.set_input_files(file)
    visit.panel.locator("img").first.wait_for(timeout=40_000)
    visit.press("Run")
    expect(visit.panel, "%", seconds=40)


def test_a_broken_picture_gives_a_sentence(visit: Visit, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture()[:90])
    visit.open("Image classification").panel.locator("input[type=file]").first.set_input_files(broken)
    visit.press("Run")
    wait_for(lambda: "picture" in visit.panel.inner_text().lower(), 20, "a sentence about the picture")


def test_chats_keep_their_histories_and_to_themselves(
    cluster: Cluster, visit: Visit, browser: Browser
) -> None:
    other = Visit(browser, visit.url)
    other.open("Conversational")
    visit.open("Conversational")
    for said, answered in ((QUESTION, "Rome"), ("What is the opposite of hot?", "cold")):
        visit.panel.get_by_role("textbox").last.fill(said)
        visit.press("Send")
        expect(visit.panel, said, answered)
    expect(visit.panel, QUESTION, "Rome")
    keep(visit, "Conversational")
    other.panel.get_by_role("textbox").last.fill("What is the opposite of hot?")
    other.press("Send")
    expect(other.panel, "cold")
    assert "Rome" not in other.panel.inner_text()
    other.close()
    assert other.wrong == []


def figures_of(cluster: Cluster, model_id: str) -> Any:
    """What the status tells of a model."""
    return {one["id"]: one for one in cluster.http.get("/status").json()}[model_id]


def test_a_model_comes_and_goes_and_what_was_typed_stays(cluster: Cluster, visit: Visit) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill("half a sent")
    cluster.add("newcomer", like="sentiment")
    cluster.wait_for_state("newcomer", "ready", 60)
    expect(visit.panel, "newcomer")
    visit.panel.get_by_label("Model").click()
    visit.page.get_by_role("option", name="newcomer").click()
    visit.press("Run")
    wait_for(
        lambda: figures_of(cluster, "newcomer")["totals"]["succeeded"] > 0, 10, "a request to the newcomer"
    )
    expect(visit.panel, "%")
    cluster.remove("newcomer")
    wait_for(lambda: cluster.card("newcomer")["state"] == "gone", 15, "404")
    expect(visit.panel, "The model newcomer is no longer ready")
    assert visit.panel.get_by_role("textbox").first.input_value() == "half a sent"


def test_the_status_tab_shows_the_load(cluster: Cluster, visit: Visit) -> None:
    visit.open("Status")
    with Load(f"{cluster.url}/models/sentiment", {"inputs": BAD}):
        wait_for(lambda: " ms" in visit.panel.inner_text(), 20, "latencies")
        # A rate over the last seconds grows from the first request on.
        wait_for(lambda: figures_of(cluster, "sentiment")["requests_per_second"] > 1, 20, "the rate")
        keep(visit, "Status")
        figures = figures_of(cluster, "sentiment")
        time.sleep(3)
    assert figures["p95_ms"] >= figures["p50_ms"] > 0


def test_open_pages_come_back_after_a_kill(cluster: Cluster, browser: Browser) -> None:
    wait_for(lambda: cluster.http.get("/ui/").status_code == 200, 60, "the pages")
    visit = Visit(browser, f"{cluster.url}/ui/")
    visit.page.set_default_timeout(60_000)
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(BAD)
    expect(visit.panel, "NEGATIVE")
    (old,) = cluster.pids("gateway:UI")
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: cluster.pids("gateway:UI") - {old}, 40, "another process")
    tries = itertools.count()

    def is_answered() -> bool:
        visit.panel.get_by_role("textbox").first.fill(GOOD + " " * next(tries))
        time.sleep(1)
        return "POSITIVE" in visit.panel.locator(".bars li").first.inner_text()

    wait_for(is_answered, 60, "the same page, without a reload")
    visit.close()


def test_caikits_call_runs_as_shown(visit: Visit, cluster: Cluster, tmp_path: Path) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(BAD)
    expect(visit.panel, "NEGATIVE")
    visit.press("The same call as code")
    visit.panel.get_by_role("tab", name="Caikit gRPC").click()
    wait_for(lambda: "grpcurl" in visit.panel.inner_text(), 10, "the call")
    code = visit.panel.locator(".cm-content:visible").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    grpcurl = tmp_path / "grpcurl"
    grpcurl.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("grpcurl.py")} "$@"\n')
    grpcurl.chmod(0o755)
    told = subprocess.run(
        ["bash", "-c", code],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert '"className": "NEGATIVE"' in told.stdout, told.stderr + code


def test_gradio_client_calls_each_tab(cluster: Cluster, tmp_path: Path) -> None:
    wait_for(lambda: cluster.http.get("/ui/").status_code == 200, 60, "the pages")
    client = Client(f"{cluster.url}/ui/", verbose=False)
    names = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/sentiment", "/text-generation", "/sentence-similarity", "/object-detection"} <= {*names}
    assert client.predict(text=BAD, api_name="/sentiment")[0]["label"] == "NEGATIVE"
    file = tmp_path / "square.png"
    file.write_bytes(picture())
    (found,) = client.predict(image=handle_file(file), api_name="/object-detection")
    assert found["label"] == "square"
    alike, unlike = client.predict(
        sentences=[ALIKE, UNLIKE], source_sentence=ASKED, api_name="/sentence-similarity"
    )
    assert alike > unlike
