"""Forms, streams, chats and errors in a browser."""

import base64
import io
import re
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect

from deployments.errors import InvalidInput, Overloaded
from deployments.task import TASKS
from tests.ui.conftest import Visit
from tests.ui.ui_server import IMAGE_SIZE, DemoRouter, encoded_image
from ui.panel import task_title

expect.set_options(timeout=12_000)  # milliseconds: what takes two seconds on an idle machine
OUTPUT_SELECTORS = {  # what the output of the first example contains; a text for the other tasks
    "embeddings": ".vector-plot",
    "image-classification": ".bar-chart li",
    "image-segmentation": ".mask",
    "object-detection": ".box",
    "sentence-similarity": ".matrix",
    "sentiment": ".bar-chart li",
}
COPY_IMAGE_JS = """async (png) => {
  const blob = await (await fetch("data:image/png;base64," + png)).blob();
  await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
}"""
CAMERA_IS_ON_JS = """() =>
  [...document.querySelectorAll('[data-shown] video')].some((video) => video.videoWidth > 0)"""


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds; fail after 8 seconds."""
    deadline = time.monotonic() + 8
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def failing(error: Exception) -> Callable[[Any], Any]:
    """Return an output function that raises the error."""

    def output(input: Any) -> Any:
        raise error

    return output


def test_example_button_runs_the_example(visit: Visit) -> None:
    visit.open()
    for name in [name for name in TASKS if name != "conversational"]:
        visit.select_tab(task_title(TASKS[name]))
        visit.click_first_example()
        if name in OUTPUT_SELECTORS:
            expect(visit.panel.locator(OUTPUT_SELECTORS[name]).first).to_be_visible()
        else:
            expect(visit.panel.get_by_label("Output").last).to_have_value(re.compile(r"\w+ \w+"))
        visit.click("Request as code")
        expect(visit.panel.locator(".cm-content").first).to_contain_text("curl http")
        expect(visit.panel.locator(".notice.error")).to_have_count(0)


def test_typing_sends_few_requests_and_the_last_text(visit: Visit, router: DemoRouter) -> None:
    text = "What a lovely and long day this is"
    visit.open("Sentiment").field("Text").press_sequentially(text, delay=15)
    expect(visit.panel.locator(".bar-chart li").first).to_be_visible()
    wait_for(lambda: router.received[-1].inputs[0].text == text)
    assert len(router.received) <= 12, f"{len(text)} keys were pressed"


def test_older_output_never_replaces_a_newer_one(visit: Visit, router: DemoRouter) -> None:
    def slow_for_first(input: Any) -> Any:
        time.sleep(0.6 if input.text == "first" else 0)
        return TASKS["sentiment"].output(labels=[{"label": input.text, "score": 0.9}])

    router.outputs["sentiment"] = slow_for_first
    visit.open("Sentiment").field("Text").fill("first")
    time.sleep(0.3)
    visit.field("Text").fill("second")
    expect(visit.panel.locator(".bar-chart .name")).to_have_text("second")
    time.sleep(0.8)
    expect(visit.panel.locator(".bar-chart .name")).to_have_text("second")


def test_text_generation_streams_and_stops(visit: Visit, router: DemoRouter) -> None:
    router.token_delay = 0.2
    visit.open("Text generation").field("Text").fill("hello there " * 40)
    visit.click("Run")
    output = visit.panel.get_by_label("Output").last
    expect(output).to_have_value(re.compile("You said"))
    expect(visit.button("Run")).to_be_disabled()
    expect(output).not_to_have_value(output.input_value())
    visit.click("Stop")
    wait_for(lambda: router.closed_streams == ["text-generation"])
    expect(visit.button("Run")).to_be_enabled()
    time.sleep(0.6)  # the updates that were already sent arrive
    stopped = output.input_value()
    time.sleep(0.5)
    assert output.input_value() == stopped
    assert not stopped.endswith("say")


def test_chat_keeps_its_history_escapes_html_stops_and_clears(visit: Visit, router: DemoRouter) -> None:
    visit.open("Conversational")
    markup = "my name is <b>Anna</b> <img src='http://example.org/x.png'>"
    for text in (markup, "what is it"):
        visit.message_box.fill(text)
        visit.message_box.press("Enter")
        expect(visit.panel.get_by_text(f"You said {text}", exact=False)).to_be_visible()
        expect(visit.button("Send")).to_be_enabled()
    assert visit.panel.locator(".notice").count() == 0
    messages = router.received[-1].inputs[0].messages
    assert [message.role for message in messages] == ["user", "assistant", "user"]
    assert messages[0].content == markup
    assert messages[1].content.endswith("there is to say")
    router.token_delay = 0.3
    visit.message_box.fill("stop me " * 40)
    visit.click("Send")
    expect(visit.panel.get_by_text("You said stop", exact=False)).to_be_visible()
    expect(visit.button("Send")).to_be_disabled()
    visit.click("Stop")
    expect(visit.panel.locator(".notice")).to_have_count(0)
    expect(visit.button("Send")).to_be_enabled()
    visit.panel.get_by_role("button", name="Clear").last.click()  # the first is an icon of gr.Chatbot
    expect(visit.panel.get_by_text("my name is", exact=False)).to_have_count(0)


def test_chat_message_waits_for_the_reply_before_it(visit: Visit, router: DemoRouter) -> None:
    router.token_delay = 0.2
    visit.open("Conversational")
    for text in ("first", "second"):
        visit.message_box.fill(text)
        visit.click("Send")
        expect(visit.panel.get_by_text(f"You said {text}")).to_be_visible()
    assert len(router.received[-1].inputs[0].messages) == 3


def test_failed_chat_message_returns_to_the_message_box(visit: Visit, router: DemoRouter) -> None:
    async def refuse(input: Any) -> AsyncGenerator[Any, None]:
        raise Overloaded("every queue of 'conversational' is full", retry_after=3)
        yield

    router.streams["conversational"] = refuse
    visit.open("Conversational").message_box.fill("anyone there?")
    visit.click("Send")
    expect(visit.alert).to_have_text("Every queue of 'conversational' is full. Try again in 3 seconds.")
    expect(visit.message_box).to_have_value("anyone there?")


def test_chats_of_two_users_are_separate(new_visit: Callable[..., Visit]) -> None:
    anna, ben = new_visit().open("Conversational"), new_visit().open("Conversational")
    anna.message_box.fill("a secret")
    anna.click("Send")
    expect(anna.panel.get_by_text("You said a secret", exact=False)).to_be_visible()
    time.sleep(2.5)  # longer than the interval of the refreshes
    assert ben.page.get_by_text("secret").count() == 0
    assert ben.message_box.input_value() == ""


def test_error_is_shown_in_the_tab_until_the_next_output(visit: Visit, router: DemoRouter) -> None:
    sentiment = router.outputs["sentiment"]
    visit.open("Sentiment")
    router.outputs["sentiment"] = failing(Overloaded("every queue is full", retry_after=2))
    visit.field("Text").fill("hello")
    expect(visit.alert).to_have_text("Every queue is full. Try again in 2 seconds.")
    router.outputs["sentiment"] = failing(InvalidInput("this is not a sentence"))
    visit.field("Text").fill("hello!")
    expect(visit.alert).to_have_text("This is not a sentence.")
    router.outputs["sentiment"] = failing(RuntimeError("secret"))
    visit.field("Text").fill("hello?")
    expect(visit.alert).to_contain_text("Internal error, request id")
    router.outputs["sentiment"] = sentiment
    visit.field("Text").fill("hello.")
    expect(visit.panel.locator(".bar-chart li").first).to_be_visible()
    expect(visit.alert).to_have_count(0)
    assert visit.page.get_by_text("Traceback").count() == 0


def test_empty_form_shows_which_field_is_missing(visit: Visit) -> None:
    visit.open("Summarization").click("Run")
    expect(visit.panel.get_by_text("Text is empty")).to_be_visible()


def test_unchanged_parameters_are_not_sent(visit: Visit, router: DemoRouter) -> None:
    visit.open("Summarization").click("Parameters")
    visit.field("Max new tokens").fill("9")
    visit.click_first_example()
    expect(visit.panel.get_by_label("Output").last).to_have_value(re.compile("In short"))
    assert router.received[-1].params.model_dump(exclude_unset=True) == {"max_new_tokens": 9}
    visit.field("Temperature").fill("nan")
    visit.click("Run")
    expect(visit.alert).to_contain_text("`temperature`")


def test_image_from_clipboard_and_camera(new_visit: Callable[..., Visit], router: DemoRouter) -> None:
    visit = new_visit(permissions=["clipboard-read", "clipboard-write", "camera"])
    visit.open("Image classification").page.evaluate(
        COPY_IMAGE_JS, base64.b64encode(encoded_image()).decode()
    )
    visit.panel.get_by_label("Paste from clipboard").click()
    expect(visit.panel.locator("img").first).to_be_visible()
    visit.click("Run")
    expect(visit.panel.locator(".bar-chart li").first).to_be_visible()
    assert Image.open(io.BytesIO(router.received[-1].inputs[0].image)).size == IMAGE_SIZE
    visit.panel.get_by_label("Capture from camera").click()
    visit.panel.get_by_text("Click to Access Webcam").click()
    visit.page.wait_for_function(CAMERA_IS_ON_JS)
    visit.panel.get_by_label("capture photo").click()
    expect(visit.panel.get_by_label("capture photo")).to_have_count(0)
    visit.click("Run")
    expect(visit.panel.locator(".notice.error")).to_have_count(0)
    wait_for(lambda: len(router.received) == 2)
    width, height = Image.open(io.BytesIO(router.received[-1].inputs[0].image)).size
    assert width > IMAGE_SIZE[0] and height > IMAGE_SIZE[1], "the image is not the camera's"


def test_file_that_is_not_an_image_shows_an_error(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(b"this is not an image")
    visit.open("Object detection").panel.locator("input[type=file]").set_input_files(file)
    visit.click("Run")
    expect(visit.alert).to_contain_text("known format")


def test_uploaded_image_is_shown_with_its_objects(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "my image.png"
    file.write_bytes(encoded_image())
    visit.open("Object detection").panel.locator("input[type=file]").set_input_files(file)
    expect(visit.panel.locator("img").first).to_be_visible()
    visit.click("Run")
    expect(visit.panel.locator(".legend li")).to_have_text([re.compile("sun"), re.compile("building")])
