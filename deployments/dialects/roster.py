"""Roster's own protocol: its index, its health, and the documentation of every dialect."""

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
    return [
        Operation("GET", "/", show_index, "Show where to go", response=Index),
        Operation("GET", "/health/live", show_live, "Tell that the door is open", response=Liveness),
        Operation(
            "GET", "/health/ready", show_ready, "Tell whether the models have loaded", response=Readiness
        ),
        Operation("GET", "/status", show_status, "Tell how each model does", response=Status),
        Operation(
            "GET", "/models/{model_id}/counters", show_counters, "Count a replica's work", response=Counters
        ),
        Operation("GET", "/openapi.json", show_openapi, "Describe every operation"),
        Operation("GET", "/docs", show_docs, "Show this documentation"),
        Operation("GET", "/favicon.ico", show_icon, "Give the pages' icon"),
        Operation("GET", "/docs/static/{file}", show_static, "Give a file to this documentation"),
    ]


dialect = Dialect(name="roster", error_response=error_response, operations=operations, error=RosterFailure)
