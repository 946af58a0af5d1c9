"""The page as people use it: in a browser."""

import base64
import io
import re
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from deployments.card import Replicas
from deployments.errors import InvalidInput, Overloaded
from deployments.task import TASKS
from tests.ui.ui_server import SIZE, House, picture
from ui.panel import title

expect.set_options(timeout=12_000)  # milliseconds, for what takes two where the machine is not shared
SHOTS = Path("/tmp/roster-ui")
SHOWN = {"Object detection": ".box", "Sentence similarity": ".matrix", "Status": ".curve"}
ANSWERS = {  # what the first example's answer shows
    "embeddings": ".spectrum",
    "image-classification": ".bars li",
    "image-segmentation": ".mask",
    "object-detection": ".box",
    "sentence-similarity": ".matrix",
    "sentiment": ".bars li",
}


def wait_for(condition: Callable[[], Any]) -> None:
    """Until the house tells so."""
    by = time.monotonic() + 8
    while not condition() and time.monotonic() < by:
        time.sleep(0.05)
    assert condition()


def test_each_tasks_example_is_one_click_away(visit: Any) -> None:
    seen = visit().open()
    for name in [name for name in TASKS if name != "conversational"]:
        seen.go(title(TASKS[name]))
        seen.panel.locator(".chips button").first.click()
        if name in ANSWERS:
            expect(seen.panel.locator(ANSWERS[name]).first).to_be_visible()
        else:
            expect(seen.panel.get_by_label("Answer").last).to_have_value(re.compile(r"\w+ \w+"))
        seen.press("The same call as code")
        expect(seen.panel.locator(".cm-content").first).to_contain_text("curl http")
        expect(seen.panel.locator(".notice.error")).to_have_count(0)


def test_typing_asks_as_you_type_but_never_floods(visit: Any, house: House) -> None:
    seen = visit().open("Sentiment")
    seen.field("Text").press_sequentially("What a lovely and long day this is", delay=15)
    expect(seen.panel.locator(".bars li").first).to_be_visible()
    wait_for(lambda: house.asked[-1][1][0].text == "What a lovely and long day this is")
    assert len(house.asked) <= 12, "34 keys were struck"


def test_a_slow_answer_never_overwrites_a_newer_one(visit: Any, house: House) -> None:
    real = house._sentiment

    def slow(asked: Any) -> Any:
        time.sleep(0.6 if asked.text == "first" else 0)
        return TASKS["sentiment"].output(labels=[{"label": asked.text, "score": 0.9}])

    house.outputs["sentiment"] = slow
    seen = visit().open("Sentiment")
    seen.field("Text").fill("first")
    time.sleep(0.3)
    seen.field("Text").fill("second")
    expect(seen.panel.locator(".bars .name")).to_have_text("second")
    time.sleep(0.8)
    expect(seen.panel.locator(".bars .name")).to_have_text("second")
    house.outputs["sentiment"] = real


def test_models_come_and_go_and_what_was_typed_stays(visit: Any, house: House) -> None:
    seen = visit().open("Sentiment")
    seen.field("Text").fill("half a sent")
    house.add("another", "sentiment", replicas=Replicas(running=2, wanted=3))
    expect(seen.panel.get_by_text("another")).to_be_visible()
    expect(seen.panel.get_by_text("2 of 3 replicas")).to_be_visible()
    house.add("another", "sentiment", replicas=Replicas(running=3, wanted=3))
    expect(seen.panel.get_by_text("3 of 3 replicas")).to_be_visible()
    house.add("another", "sentiment", state="loading")
    expect(seen.panel.get_by_text("loading").last).to_be_visible()
    house.add("another", "sentiment", state="unavailable", reason="models/another/config.yml: wrong")
    expect(seen.panel.get_by_text("models/another/config.yml: wrong")).to_be_visible()
    house.remove("another")
    expect(seen.panel.get_by_text("another")).to_have_count(0)
    expect(seen.field("Text")).to_have_value("half a sent")


def test_a_chosen_model_that_goes_is_replaced_and_said(visit: Any, house: House) -> None:
    house.add("another", "sentiment")
    seen = visit().open("Sentiment")
    seen.panel.get_by_label("Model").click()
    seen.page.get_by_role("option", name="another").click()
    house.remove("another")
    said = seen.panel.get_by_text("The model another is no longer ready; sentiment is chosen now.")
    expect(said).to_be_visible()
    expect(seen.panel.get_by_label("Model")).to_have_value("sentiment")
    seen.press("I loved every")
    expect(seen.panel.locator(".bars li").first).to_be_visible()


def test_a_tab_leaves_with_its_last_model_and_comes_back_as_it_was(visit: Any, house: House) -> None:
    seen = visit().open("Summarization")
    seen.field("Text").fill("not yet finished")
    card = house.cards["summarization"]
    house.remove("summarization")
    expect(seen.page.get_by_text("The tab Summarization has left")).to_be_visible()
    assert "Summarization" not in seen.tabs()
    assert seen.tabs()[-1] == "Status"
    house.cards = {**house.cards, "summarization": card}
    expect(seen.page.get_by_role("tab", name="Summarization")).to_be_visible()
    seen.go("Summarization")
    expect(seen.field("Text")).to_have_value("not yet finished")


def test_text_streams_and_can_be_stopped(visit: Any, house: House) -> None:
    house.pace = 0.2
    seen = visit().open("Text generation")
    seen.field("Text").fill("hello there " * 40)
    seen.press("Run")
    answer = seen.panel.get_by_label("Answer").last
    expect(answer).to_have_value(re.compile("You said"))
    expect(seen.panel.get_by_role("button", name="Run")).to_be_disabled()
    expect(answer).not_to_have_value(answer.input_value())
    seen.press("Stop")
    wait_for(lambda: house.closed == ["text-generation"])
    expect(seen.panel.get_by_role("button", name="Run")).to_be_enabled()
    time.sleep(0.6)  # what was under way is shown
    stopped = answer.input_value()
    time.sleep(0.5)
    assert answer.input_value() == stopped
    assert not stopped.endswith("say")


def test_a_chat_keeps_its_history_stops_and_clears(visit: Any, house: House) -> None:
    seen = visit().open("Conversational")
    for turn in ("my name is <b>Anna</b> <img src='http://example.org/x.png'>", "what is it"):
        seen.field("Your turn").fill(turn)
        seen.field("Your turn").press("Enter")
        expect(seen.panel.get_by_text(f"You said {turn}", exact=False)).to_be_visible()
        expect(seen.panel.get_by_role("button", name="Send")).to_be_enabled()
    assert seen.panel.locator(".notice").count() == 0
    messages = house.asked[-1][1][0].messages
    assert [message.role for message in messages] == ["user", "assistant", "user"]
    assert messages[0].content == "my name is <b>Anna</b> <img src='http://example.org/x.png'>"
    assert messages[1].content.endswith("there is to say")
    house.pace = 0.3
    seen.field("Your turn").fill("stop me " * 40)
    seen.press("Send")
    expect(seen.panel.get_by_text("You said stop", exact=False)).to_be_visible()
    expect(seen.panel.get_by_role("button", name="Send")).to_be_disabled()
    seen.press("Stop")
    expect(seen.panel.locator(".notice")).to_have_count(0)
    expect(seen.panel.get_by_role("button", name="Send")).to_be_enabled()
    seen.panel.get_by_role("button", name="Clear").last.click()  # the first is the chat's own icon
    expect(seen.panel.get_by_text("my name is", exact=False)).to_have_count(0)


def test_what_is_typed_while_a_reply_is_written_is_sent_after_it(visit: Any, house: House) -> None:
    house.pace = 0.2
    seen = visit().open("Conversational")
    for turn in ("first", "second"):
        seen.field("Your turn").fill(turn)
        seen.press("Send")
        expect(seen.panel.get_by_text(f"You said {turn}")).to_be_visible()
    assert len(house.asked[-1][1][0].messages) == 3


def test_a_failed_turn_goes_back_into_the_box(visit: Any, house: House) -> None:
    async def refuse(asked: Any) -> AsyncGenerator[Any, None]:
        raise Overloaded("every queue of 'conversational' is full", retry_after=3)
        yield

    house.streams["conversational"] = refuse
    seen = visit().open("Conversational")
    seen.field("Your turn").fill("anyone there?")
    seen.press("Send")
    expect(seen.panel.get_by_role("alert")).to_have_text(
        "Every queue of 'conversational' is full. Try again in 3 seconds."
    )
    expect(seen.field("Your turn")).to_have_value("anyone there?")


def test_errors_are_sentences_where_they_happened(visit: Any, house: House) -> None:
    def refuse(error: Exception) -> Any:
        def output(asked: Any) -> Any:
            raise error

        return output

    seen = visit().open("Sentiment")
    house.outputs["sentiment"] = refuse(Overloaded("every queue is full", retry_after=2))
    seen.field("Text").fill("hello")
    expect(seen.panel.get_by_role("alert")).to_have_text("Every queue is full. Try again in 2 seconds.")
    house.outputs["sentiment"] = refuse(InvalidInput("this is no sentence"))
    seen.field("Text").fill("hello!")
    expect(seen.panel.get_by_role("alert")).to_have_text("This is no sentence.")
    house.outputs["sentiment"] = refuse(RuntimeError("secret"))
    seen.field("Text").fill("hello?")
    expect(seen.panel.get_by_role("alert")).to_contain_text("Internal error, request id")
    house.outputs["sentiment"] = house._sentiment
    seen.field("Text").fill("hello.")
    expect(seen.panel.locator(".bars li").first).to_be_visible()
    expect(seen.panel.get_by_role("alert")).to_have_count(0)
    assert seen.page.get_by_text("Traceback").count() == 0


COPY = """async (png) => {
  const blob = await (await fetch("data:image/png;base64," + png)).blob();
  await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
}"""


SEES = "() => [...document.querySelectorAll('[data-shown] video')].some((one) => one.videoWidth > 0)"


def test_a_picture_comes_from_the_clipboard_or_the_camera(visit: Any, house: House) -> None:
    seen = visit(permissions=["clipboard-read", "clipboard-write", "camera"]).open("Image classification")
    seen.page.evaluate(COPY, base64.b64encode(picture()).decode())
    seen.panel.get_by_label("Paste from clipboard").click()
    expect(seen.panel.locator("img").first).to_be_visible()
    seen.press("Run")
    expect(seen.panel.locator(".bars li").first).to_be_visible()
    assert Image.open(io.BytesIO(house.asked[-1][1][0].image)).size == SIZE
    seen.panel.get_by_label("Capture from camera").click()
    seen.panel.get_by_text("Click to Access Webcam").click()
    seen.page.wait_for_function(SEES)
    seen.panel.get_by_label("capture photo").click()
    expect(seen.panel.get_by_label("capture photo")).to_have_count(0)
    seen.press("Run")
    expect(seen.panel.locator(".notice.error")).to_have_count(0)
    wait_for(lambda: len(house.asked) == 2)
    wide, high = Image.open(io.BytesIO(house.asked[-1][1][0].image)).size
    assert wide > SIZE[0] and high > SIZE[1], "the camera's picture"


def test_a_broken_picture_gives_a_sentence(visit: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is no picture")
    seen = visit().open("Object detection")
    seen.panel.locator("input[type=file]").set_input_files(broken)
    seen.press("Run")
    expect(seen.panel.get_by_role("alert")).to_contain_text("picture")


def test_an_uploaded_picture_is_drawn_on(visit: Any, tmp_path: Path) -> None:
    file = tmp_path / "my house.png"
    file.write_bytes(picture())
    seen = visit().open("Object detection")
    seen.panel.locator("input[type=file]").set_input_files(file)
    expect(seen.panel.locator("img").first).to_be_visible()
    seen.press("Run")
    expect(seen.panel.locator(".legend li")).to_have_text([re.compile("sun"), re.compile("house")])


def test_parameters_that_are_looked_at_but_not_set_are_not_sent(visit: Any, house: House) -> None:
    seen = visit().open("Summarization")
    seen.press("Parameters")
    seen.field("Max new tokens").fill("9")
    seen.panel.locator(".chips button").first.click()
    expect(seen.panel.get_by_label("Answer").last).to_have_value(re.compile("In short"))
    assert house.asked[-1][2].model_dump(exclude_unset=True) == {"max_new_tokens": 9}
    seen.field("Temperature").fill("nan")
    seen.press("Run")
    expect(seen.panel.get_by_role("alert")).to_contain_text("`temperature`")


def test_nothing_asked_is_no_error(visit: Any) -> None:
    seen = visit().open("Summarization")
    seen.press("Run")
    expect(seen.panel.get_by_text("Text is empty")).to_be_visible()


def test_people_do_not_see_each_other(visit: Any) -> None:
    anna, ben = visit().open("Conversational"), visit().open("Conversational")
    anna.field("Your turn").fill("a secret")
    anna.press("Send")
    expect(anna.panel.get_by_text("You said a secret", exact=False)).to_be_visible()
    time.sleep(2.5)
    assert ben.page.get_by_text("secret").count() == 0
    assert ben.field("Your turn").input_value() == ""


def test_the_status_tab_is_refreshed_while_it_is_looked_at(visit: Any, house: House) -> None:
    seen = visit().open("Status")
    row = seen.panel.locator("tbody", has_text="object-detection")
    expect(row).to_contain_text("1 / 1")
    expect(row.locator(".curve").first).to_be_visible()
    expect(seen.panel.locator("tbody", has_text="broken")).to_contain_text("models/broken/config.yml: no")
    house.add("object-detection", "object-detection", replicas=Replicas(running=1, wanted=4))
    expect(row).to_contain_text("1 / 4")


def test_the_keyboard_is_enough(visit: Any) -> None:
    seen = visit().open("Sentiment")
    seen.page.keyboard.press("ArrowRight")
    expect(seen.page.get_by_role("tab", name="Summarization")).to_be_focused()
    expect(seen.page.locator("#panel-summarization")).to_be_visible()
    seen.page.keyboard.press("Home")
    expect(seen.page.get_by_role("tab").first).to_be_focused()
    unnamed = "e => !e.labels?.length && !e.getAttribute('aria-label') && e.type !== 'file'"
    fields = seen.page.locator("textarea:visible, input:visible")
    assert [one.evaluate("e => e.outerHTML") for one in fields.all() if one.evaluate(unnamed)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits(visit: Any, scheme: str) -> None:
    """Nothing runs off the side; the pictures are for people to look at."""
    SHOTS.mkdir(exist_ok=True)
    seen = visit(color_scheme=scheme).open("Object detection")
    for tab, shown in SHOWN.items():
        seen.go(tab)
        if seen.panel.locator(".chips button").count():
            seen.panel.locator(".chips button").last.click()
        expect(seen.panel.locator(shown).first).to_be_visible()
        for width in (400, 1600):
            seen.page.set_viewport_size({"width": width, "height": 900})
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
            name = f"{tab.lower().replace(' ', '-')}-{width}-{scheme}.png"
            seen.page.screenshot(path=SHOTS / name, full_page=True)
