"""Fixtures of the UI's tests: a gateway without Ray, the UI in front of it, and visits in a browser."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

import ui.app
from tests.ui.ui_server import DemoRouter, gateway_app, serve_in_thread

CHROMIUM = shutil.which("chromium")  # if None, playwright uses its own
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


class Servers(NamedTuple):
    """The running servers of a test session."""

    router: DemoRouter
    gateway_url: str
    ui_url: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the servers; gradio and its libraries emit warnings in this process."""
    for item in items:
        if "servers" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Serve the gateway and the UI for the session."""
    router = DemoRouter()
    with (
        serve_in_thread(lambda: gateway_app(router)) as gateway_url,
        serve_in_thread(lambda: ui.app.build(gateway_url)) as ui_url,
    ):
        yield Servers(router, gateway_url, f"{ui_url}/ui/")


@pytest.fixture
def router(servers: Servers) -> Iterator[DemoRouter]:
    """Return the served router in its initial state."""
    servers.router.reset()
    yield servers.router
    servers.router.reset()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium for one module: async tests of other modules cannot run while playwright is active."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield chromium
        chromium.close()


class Visit:
    """One user's page, with the actions of a test. `problems` must be empty at the end.

    `problems` holds requests to other hosts, console errors and uncaught exceptions of the page.
    """

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.problems: list[str] = []
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        origin = url.removesuffix("/ui/")
        self.page.on("request", lambda request: self._check_host(request.url, origin))
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.on("console", lambda message: self._check_console(message.type, message.text))

    def _check_host(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "data:", "blob:")):
            self.problems.append(f"foreign host: {url}")

    def _check_console(self, message_type: str, text: str) -> None:
        if message_type == "error":
            self.problems.append(f"console: {text}")

    def open(self, tab: str = "") -> "Visit":
        """Load the page, and select the tab if one is named."""
        self.page.goto(self.url)
        self.page.get_by_role("tab", name="Sentiment", exact=True).wait_for()
        return self.select_tab(tab) if tab else self

    def select_tab(self, tab: str) -> "Visit":
        """Click the tab and wait for its panel."""
        self.page.get_by_role("tab", name=tab, exact=True).click()
        self.page.get_by_role("tab", name=tab, exact=True, selected=True).wait_for()
        self.panel.wait_for()
        return self

    @property
    def panel(self) -> Locator:
        """The panel of the selected tab."""
        return self.page.locator("[role=tabpanel][data-shown]")

    @property
    def alert(self) -> Locator:
        """The error notice in the panel."""
        return self.panel.get_by_role("alert")

    @property
    def message_box(self) -> Locator:
        """The chat's text box; the messages above it have a label with "message", too."""
        return self.panel.get_by_role("textbox", name="Message", exact=True)

    def field(self, label: str) -> Locator:
        """Return the panel's first field with this label."""
        return self.panel.get_by_label(label, exact=False).first

    def button(self, name: str) -> Locator:
        """Return the panel's first button with this name."""
        return self.panel.get_by_role("button", name=name, exact=False).first

    def click(self, button: str) -> None:
        """Click the panel's first button with this name."""
        self.button(button).click()

    def click_first_example(self) -> None:
        """Fill the form with the first example, which also runs it."""
        self.panel.locator(".examples button").first.click()

    def tabs(self) -> list[str]:
        """Return the titles of the visible tabs."""
        return self.page.get_by_role("tab").locator("visible=true").all_inner_texts()

    def close(self) -> None:
        """Close the page."""
        self.context.close()


@pytest.fixture
def new_visit(browser: Browser, servers: Servers, router: DemoRouter) -> Iterator[Callable[..., Visit]]:
    """Return a function that creates visits; the test fails if one of them has problems."""
    visits: list[Visit] = []

    def create(**context: Any) -> Visit:
        visits.append(Visit(browser, servers.ui_url, **context))
        return visits[-1]

    yield create
    problems = [problem for visit in visits for problem in visit.problems]
    for visit in visits:
        visit.close()
    assert problems == []


@pytest.fixture
def visit(new_visit: Callable[..., Visit]) -> Visit:
    """Return one visit."""
    return new_visit()
