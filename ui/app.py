"""The UI as an ASGI application under /ui."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import Response
from gradio import events

import deployments.tasks  # noqa: F401 - registers the tasks
from deployments.task import TASKS
from ui import tab_bar, theme
from ui.api import build_endpoint
from ui.client import GatewayClient
from ui.live_models import LiveModels
from ui.panel import html
from ui.refresh import PageRefresher
from ui.requests import AddressResolver
from ui.tabs import find_tab_builder

PATH = "/ui"
REFRESH_S = 2.0  # interval of the refreshes of an open page
QUEUE_POLL_S = 0.05


def build(gateway_url: str, *, behind_gateway: bool = False, grpc_port: int = 9000) -> FastAPI:
    """Build the application, which sends its requests to `gateway_url`. Its lifespan must run.

    With `behind_gateway` the gateway serves the page, so the code snippets contain the address in the
    browser; otherwise they contain `gateway_url`.
    """
    client = GatewayClient(gateway_url, notify=gr.Warning)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return Response(theme.ICON, media_type="image/svg+xml")

    addresses = AddressResolver(gateway_url, behind_gateway=behind_gateway, grpc_port=grpc_port)
    gr.mount_gradio_app(
        app,
        build_page(client, addresses),
        PATH,
        theme=theme.build_theme(),
        head=theme.HEAD,
        footer_links=["api"],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        max_file_size="20mb",
    )
    return app


def build_page(client: GatewayClient, addresses: AddressResolver) -> gr.Blocks:
    """Build the page: a header, a tab per task and the status tab. A tab without a ready model is hidden."""
    live_models = LiveModels(client)
    blocks: gr.Blocks
    with gr.Blocks(title="Roster", analytics_enabled=False) as blocks:
        counts = _build_header()
        notices = html("tab-notices")
        tabs = tab_bar.build_tab_bar()
        panels = [find_tab_builder(task)(task, client, addresses) for task in TASKS.values()]
        with tab_bar.tab_panel(tab_bar.STATUS):
            table = html("status-table")
        for task in TASKS.values():
            endpoint = build_endpoint(task, client, live_models)
            events.api(endpoint, api_name=task.name, api_description=task.summary)
        _bind_refresh(blocks, PageRefresher(live_models, panels), tabs, [counts, notices, tabs, table])
    _configure_queue(blocks)
    return blocks


def _configure_queue(blocks: gr.Blocks) -> None:
    """Remove gradio's limit of one running event per listener, and poll the queue less often.

    Gradio polls its queue every 1 ms, which takes 4 % of a core on an idle server. It has no public setting
    for that (gradio 6.31: `status_update_rate` is another interval), so this sets private attributes.
    """
    blocks.queue(default_concurrency_limit=None)
    blocks._queue.sleep_when_free = QUEUE_POLL_S
    blocks._queue.progress_update_sleep_when_free = QUEUE_POLL_S


def _build_header() -> gr.HTML:
    with gr.Row(elem_classes=["page-header"]):
        html("title", "<h1>Roster</h1>")
        counts = html("model-counts")
        gr.Button("Light / dark", size="sm", min_width=0).click(
            None, js=theme.TOGGLE_DARK_JS, api_visibility="private"
        )
    return counts


def _bind_refresh(
    blocks: gr.Blocks, refresher: PageRefresher, tabs: gr.HTML, components: list[gr.HTML]
) -> None:
    """Refresh a page when it loads, every `REFRESH_S`, and when the user opens another tab."""
    page_state, open_tab = gr.State({}), gr.Textbox(visible=False)
    gr.on(
        [blocks.load, gr.Timer(REFRESH_S).tick, tabs.click],
        refresher.refresh,
        [open_tab, page_state, *(panel.model for panel in refresher.panels)],
        [page_state, *components, *(part for panel in refresher.panels for part in panel.live_components())],
        js=tab_bar.OPEN_TAB_JS,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )
