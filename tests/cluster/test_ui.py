"""The pages on a real cluster, in a real browser, through the router's own door."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Locator

from tests.cluster.conftest import Cluster, in_lanes, wait_for
from tests.cluster.load import Load
from tests.cluster.test_doors import ALIKE, ASKED, BAD, NEWS, QUESTION, UNLIKE, picture
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


def expect_answer(visit: Visit, text: str) -> None:
    answer = visit.panel.get_by_label("Answer", exact=True).first
    wait_for(lambda: text in answer.input_value(), 20, f"{text!r} as the answer")


def test_text_tabs_are_used_once(visit: Visit) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(BAD)
    expect(visit.panel, "NEGATIVE", "%")
    visit.go("Summarization").panel.get_by_role("textbox").first.fill(NEWS)
    visit.press("Run")
    expect_answer(visit, "Lisbon")
    visit.go("Embeddings").panel.get_by_role("textbox").first.fill(ASKED)
    visit.press("Run")
    visit.panel.locator("svg, canvas, img").first.wait_for()


def test_picture_tabs_are_used_once(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "square.png"
    file.write_bytes(picture())
    visit.open()
    for tab in ("Image classification", "Object detection", "Image segmentation"):
        visit.go(tab).panel.locator("input[type=file]").first.set_input_files(file)
        visit.press("Run")
        expect(visit.panel, "square", seconds=40)


def test_a_broken_picture_gives_a_sentence(visit: Visit, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture()[:90])
    visit.open("Image classification").panel.locator("input[type=file]").first.set_input_files(broken)
    visit.press("Run")
    wait_for(lambda: "picture" in visit.panel.inner_text().lower(), 20, "a sentence about the picture")


def test_chat_keeps_its_history(visit: Visit) -> None:
    visit.open("Conversational")
    for said, answered in ((QUESTION, "Rome"), ("What is the opposite of hot?", "cold")):
        visit.panel.get_by_role("textbox").last.fill(said)
        visit.press("Send")
        expect(visit.panel, said, answered)
    expect(visit.panel, QUESTION, "Rome")


def test_a_model_comes_and_goes_and_what_was_typed_stays(cluster: Cluster, visit: Visit) -> None:
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill("half a sent")
    cluster.add("newcomer", like="sentiment")
    cluster.wait_for_state("newcomer", "ready", 60)
    expect(visit.panel, "newcomer", seconds=5)
    cluster.remove("newcomer")
    wait_for(lambda: cluster.card("newcomer")["state"] == "gone", 15, "404")
    wait_for(lambda: "newcomer" not in visit.panel.inner_text(), 5, "its end on the page")
    assert visit.panel.get_by_role("textbox").first.input_value() == "half a sent"


def test_the_status_tab_shows_the_load(cluster: Cluster, visit: Visit) -> None:
    visit.open("Status")
    with Load(f"{cluster.url}/models/sentiment", {"inputs": BAD}):
        wait_for(lambda: " ms" in visit.panel.inner_text(), 20, "latencies")
        figures = {one["id"]: one for one in cluster.http.get("/status").json()}
        time.sleep(3)
    assert figures["sentiment"]["requests_per_second"] > 1
    assert figures["sentiment"]["p95_ms"] >= figures["sentiment"]["p50_ms"] > 0


def test_the_pages_come_back_after_a_kill(cluster: Cluster, browser: Browser) -> None:
    wait_for(lambda: cluster.http.get("/ui/").status_code == 200, 60, "the pages")
    (old,) = cluster.pids("gateway:UI")
    os.kill(old, signal.SIGKILL)
    wait_for(
        lambda: cluster.pids("gateway:UI") and old not in cluster.pids("gateway:UI"), 40, "another process"
    )
    wait_for(lambda: cluster.http.get("/ui/").status_code == 200, 60, "the pages")
    visit = Visit(browser, f"{cluster.url}/ui/")
    visit.page.set_default_timeout(20_000)
    visit.open("Sentiment").panel.get_by_role("textbox").first.fill(BAD)
    expect(visit.panel, "NEGATIVE")
    visit.close()


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
