"""Tabs, model states, the status table, keyboard use and layout in a browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from deployments.card import Replicas
from tests.ui.conftest import Visit
from tests.ui.ui_server import DemoRouter

expect.set_options(timeout=12_000)  # milliseconds: what takes two seconds on an idle machine
SCREENSHOTS = Path("/tmp/roster-ui")
LAYOUT_SELECTORS = {"Object detection": ".box", "Sentence similarity": ".matrix", "Status": ".sparkline"}
UNLABELED_JS = "field => !field.labels?.length && !field.getAttribute('aria-label') && field.type !== 'file'"


def test_model_states_update_and_the_form_keeps_its_input(visit: Visit, router: DemoRouter) -> None:
    visit.open("Sentiment").field("Text").fill("half a sent")
    router.add_model("another", "sentiment", replicas=Replicas(running=2, wanted=3))
    expect(visit.panel.get_by_text("another")).to_be_visible()
    expect(visit.panel.get_by_text("2 of 3 replicas")).to_be_visible()
    router.add_model("another", "sentiment", replicas=Replicas(running=3, wanted=3))
    expect(visit.panel.get_by_text("3 of 3 replicas")).to_be_visible()
    router.add_model("another", "sentiment", state="loading")
    expect(visit.panel.get_by_text("loading").last).to_be_visible()
    router.add_model("another", "sentiment", state="unavailable", reason="models/another/config.yml: wrong")
    expect(visit.panel.get_by_text("models/another/config.yml: wrong")).to_be_visible()
    router.remove_model("another")
    expect(visit.panel.get_by_text("another")).to_have_count(0)
    expect(visit.field("Text")).to_have_value("half a sent")


def test_removed_model_is_replaced_in_the_selection(visit: Visit, router: DemoRouter) -> None:
    router.add_model("another", "sentiment")
    visit.open("Sentiment").panel.get_by_label("Model").click()
    visit.page.get_by_role("option", name="another").click()
    router.remove_model("another")
    sentence = "The model another is no longer ready; sentiment is selected now."
    expect(visit.panel.get_by_text(sentence)).to_be_visible()
    expect(visit.panel.get_by_label("Model")).to_have_value("sentiment")
    visit.click("I loved every")
    expect(visit.panel.locator(".bar-chart li").first).to_be_visible()


def test_tab_is_hidden_without_a_ready_model_and_keeps_its_input(visit: Visit, router: DemoRouter) -> None:
    visit.open("Summarization").field("Text").fill("not yet finished")
    card = router.cards["summarization"]
    router.remove_model("summarization")
    expect(visit.page.get_by_text("The tab Summarization is hidden")).to_be_visible()
    assert "Summarization" not in visit.tabs()
    assert visit.tabs()[-1] == "Status"
    router.cards = {**router.cards, "summarization": card}
    expect(visit.page.get_by_role("tab", name="Summarization")).to_be_visible()
    visit.select_tab("Summarization")
    expect(visit.field("Text")).to_have_value("not yet finished")


def test_status_tab_refreshes_while_it_is_open(visit: Visit, router: DemoRouter) -> None:
    row = visit.open("Status").panel.locator("tbody", has_text="object-detection")
    expect(row).to_contain_text("1 / 1")
    expect(row.locator(".sparkline").first).to_be_visible()
    expect(visit.panel.locator("tbody", has_text="broken")).to_contain_text("models/broken/config.yml: no")
    router.add_model("object-detection", "object-detection", replicas=Replicas(running=1, wanted=4))
    expect(row).to_contain_text("1 / 4")


def test_tabs_are_reachable_by_keyboard_and_fields_have_labels(visit: Visit) -> None:
    visit.open("Sentiment").page.keyboard.press("ArrowRight")
    expect(visit.page.get_by_role("tab", name="Summarization")).to_be_focused()
    expect(visit.page.locator("#panel-summarization")).to_be_visible()
    visit.page.keyboard.press("Home")
    expect(visit.page.get_by_role("tab").first).to_be_focused()
    fields = visit.page.locator("textarea:visible, input:visible").all()
    assert [field.evaluate("e => e.outerHTML") for field in fields if field.evaluate(UNLABELED_JS)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_phone_and_desktop_widths(new_visit: Callable[..., Visit], scheme: str) -> None:
    """Check that nothing overflows horizontally; save screenshots for a visual check."""
    SCREENSHOTS.mkdir(exist_ok=True)
    visit = new_visit(color_scheme=scheme).open("Object detection")
    for tab, selector in LAYOUT_SELECTORS.items():
        visit.select_tab(tab)
        if visit.panel.locator(".examples button").count():
            visit.panel.locator(".examples button").last.click()
        expect(visit.panel.locator(selector).first).to_be_visible()
        for width in (400, 1600):
            visit.page.set_viewport_size({"width": width, "height": 900})
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            name = f"{tab.lower().replace(' ', '-')}-{width}-{scheme}.png"
            visit.page.screenshot(path=SCREENSHOTS / name, full_page=True)
