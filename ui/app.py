"""The page as an ASGI application, under /ui."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import Response
from gradio import events

import deployments.tasks  # noqa: F401 - registers the tasks
from deployments.task import TASKS
from ui import api, theme
from ui import refresh as live
from ui import tab_bar as strip
from ui import tabs as hand_made
from ui.client import Client
from ui.live_models import Board
from ui.panel import html
from ui.requests import Place

PATH = "/ui"
EVERY = 2.0  # seconds between two looks of an open page
LOOK_S = 0.05  # between two looks for questions, or progress; gradio's own 1,100 a second are 4 % of a core


def build(router_url: str, *, at_door: bool = False, grpc_port: int = 9000) -> FastAPI:
    """The application; its lifespan must run. It asks the router at `router_url`.

    `at_door`: the page is reached through the router's own door, so the code that it shows names the address
    that the browser has; otherwise `router_url`.
    """
    client = Client(router_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return Response(theme.ICON, media_type="image/svg+xml")

    place = Place(router_url, at_door=at_door, grpc_port=grpc_port)
    gr.mount_gradio_app(
        app,
        page(client, place),
        PATH,
        theme=theme.theme(),
        head=theme.HEAD,
        footer_links=["api"],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        max_file_size="20mb",
    )
    return app


def page(client: Client, place: Place) -> gr.Blocks:
    """The page itself: a head, a tab per task and the status tab; what is not live is hidden."""
    board = Board(client)
    blocks: gr.Blocks
    with gr.Blocks(title="Roster", analytics_enabled=False) as blocks:
        head = _head()
        farewell = html("farewell")
        tabs = strip.strip()
        panels = [hand_made.builder(task)(task, client, place) for task in TASKS.values()]
        with strip.panel(strip.STATUS):
            table = html("table")
        for task in TASKS.values():
            events.api(api.endpoint(task, client, board), api_name=task.name, api_description=task.summary)
        _refresh(blocks, live.Pages(board, panels), tabs, [head, farewell, tabs, table])
    blocks.queue(default_concurrency_limit=None)
    blocks._queue.sleep_when_free = blocks._queue.progress_update_sleep_when_free = LOOK_S
    return blocks


def _head() -> gr.HTML:
    with gr.Row(elem_classes=["head"]):
        html("name", "<h1>Roster</h1>")
        counts = html("counting")
        gr.Button("Light / dark", size="sm", min_width=0, elem_classes=["lamp"]).click(
            None, js=theme.SWITCH, api_visibility="private"
        )
    return counts


def _refresh(blocks: gr.Blocks, pages: live.Pages, tabs: gr.HTML, shown: list[gr.HTML]) -> None:
    """Bring the page up to date: when it is opened, every other second, and when another tab is opened."""
    seen, opened = gr.State({}), gr.Textbox(visible=False)
    gr.on(
        [blocks.load, gr.Timer(EVERY).tick, tabs.click],
        pages.refresh,
        [opened, seen, *(panel.model for panel in pages.panels)],
        [seen, *shown, *(part for panel in pages.panels for part in panel.live())],
        js=strip.OPENED,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )
