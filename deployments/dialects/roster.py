"""Roster's own protocol: the index, the health checks, statistics, and the documentation of every dialect."""

from deployments.dialect import Dialect, Operation
from deployments.wire.roster.docs_page import show_docs, show_icon, show_openapi, show_static
from deployments.wire.roster.errors import RosterFailure, error_response
from deployments.wire.roster.status import (
    Counters,
    Index,
    Liveness,
    Readiness,
    Status,
    show_counters,
    show_index,
    show_live,
    show_ready,
    show_status,
)


def operations() -> list[Operation]:
    """Return every route of the protocol."""
    ready, counters = "Check whether the models have loaded", "Show a replica's running totals"
    return [
        Operation("GET", "/", show_index, "Show the gateway's main paths", response=Index),
        Operation("GET", "/health/live", show_live, "Check that the gateway is running", response=Liveness),
        Operation("GET", "/health/ready", show_ready, ready, response=Readiness),
        Operation("GET", "/status", show_status, "Show state and statistics of each model", response=Status),
        Operation("GET", "/models/{model_id}/counters", show_counters, counters, response=Counters),
        Operation("GET", "/openapi.json", show_openapi, "Describe every operation"),
        Operation("GET", "/docs", show_docs, "Show this documentation"),
        Operation("GET", "/favicon.ico", show_icon, "Get the icon of the pages"),
        Operation("GET", "/docs/static/{file}", show_static, "Get a file of this documentation"),
    ]


dialect = Dialect(name="roster", error_response=error_response, operations=operations, error=RosterFailure)
