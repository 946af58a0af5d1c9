"""The page in a browser, before a house without Ray."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import ui.app
from tests.ui.ui_server import House, door, serving

CHROMIUM = shutil.which("chromium")  # else Playwright's own
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where gradio serves in this process, its and its libraries' warnings are theirs."""
    for item in items:
        if "served" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[House, str, str]]:
    """The house, its router's address and the page's."""
    house = House()
    with serving(lambda: door(house)) as router, serving(lambda: ui.app.build(router)) as page:
        yield house, router, f"{page}/ui/"


@pytest.fixture
def house(served: tuple[House, str, str]) -> Iterator[House]:
    served[0].reset()
    yield served[0]
    served[0].reset()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; gone with the module, for while playwright runs, no test of another may be async."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield found
        found.close()


class Visit:
    """One person's page, and what a test does on it. At its end nothing may have gone wrong unseen."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.wrong: list[str] = []
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        own = url.removesuffix("/ui/")
        self.page.on("request", lambda asked: self._check(asked.url, own))
        self.page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        self.page.on("console", lambda told: self._hear(told.type, told.text))

    def _check(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:", "blob:")):
            self.wrong.append(f"foreign host: {url}")

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error":
            self.wrong.append(f"console: {text}")

    def open(self, tab: str = "") -> "Visit":
        self.page.goto(self.url)
        self.page.get_by_role("tab", name="Sentiment", exact=True).wait_for()
        return self.go(tab) if tab else self

    def go(self, tab: str) -> "Visit":
        self.page.get_by_role("tab", name=tab, exact=True).click()
        self.page.get_by_role("tab", name=tab, exact=True, selected=True).wait_for()
        self.panel.wait_for()
        return self

    @property
    def panel(self) -> Any:
        return self.page.locator("[role=tabpanel][data-shown]")

    def field(self, label: str) -> Any:
        return self.panel.get_by_label(label, exact=False).first

    def press(self, button: str) -> None:
        self.panel.get_by_role("button", name=button, exact=False).first.click()

    def tabs(self) -> list[str]:
        return self.page.get_by_role("tab").locator("visible=true").all_inner_texts()

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def visit(browser: Browser, served: tuple[House, str, str], house: House) -> Iterator[Any]:
    """Makes visits; fails where one met a foreign host, a console error or an exception in the page."""
    made: list[Visit] = []

    def begin(**context: Any) -> Visit:
        made.append(Visit(browser, served[2], **context))
        return made[-1]

    yield begin
    wrong = [told for one in made for told in one.wrong]
    for one in made:
        one.close()
    assert wrong == []
