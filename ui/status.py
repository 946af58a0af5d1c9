"""The status tab: a table of all models with their state, devices, memory and statistics."""

from collections.abc import Callable
from html import escape

from deployments.card import Card
from ui.charts import format_number, sparkline
from ui.live_models import ModelsSnapshot

UNKNOWN = '<span class="muted">\N{EM DASH}</span>'


def status_table(snapshot: ModelsSnapshot) -> str:
    """Return the HTML table with a row per model, or a notice if there are no models."""
    if not snapshot.cards:
        return '<p class="notice info" role="status">No models yet. Add a model folder to models/.</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    cards = sorted(snapshot.cards, key=lambda card: (card.task or "", card.id))
    rows = "".join(_model_rows(snapshot, card) for card in cards)
    return f'<div class="scroll"><table class="status"><thead><tr>{head}</tr></thead>{rows}</table></div>'


def state_counts(snapshot: ModelsSnapshot) -> str:
    """Return the HTML with the number of models in each state, and the snapshot's error."""
    counts = {
        state: sum(card.state == state for card in snapshot.cards)
        for state in ("ready", "loading", "unavailable")
    }
    items = "".join(
        f'<span class="count"><i class="dot {state}"></i>{count} {state}</span>'
        for state, count in counts.items()
        if count or state == "ready"
    )
    error = f'<p class="notice error" role="alert">{escape(snapshot.error)}</p>' if snapshot.error else ""
    return f'<div class="counts">{items}</div>{error}'


def model_state(card: Card) -> str:
    """Return the HTML list item with a model's state and its replicas, or the reason of its state."""
    details = f", {_replicas(card)}" if card.state == "ready" else ""
    details += card.reason and f": {escape(card.reason)}"
    name = f'<i class="dot {card.state}"></i><b>{escape(card.id)}</b>'
    return f"<li>{name} <span>{card.state}{details}</span></li>"


def format_bytes(count: float | None) -> str:
    """Format a number of bytes with a decimal unit."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{format_number(count)} {unit}"
        count /= 1000
    return f"{format_number(count)} TB"


def _replicas(card: Card) -> str:
    device = f" on {escape(card.description.device)}" if card.description else ""
    return f"{card.replicas.running} of {card.replicas.wanted} replicas{device}"


def _model_rows(snapshot: ModelsSnapshot, card: Card) -> str:
    columns = list(COLUMNS.items())[1:]
    cells = "".join(f'<td data-name="{name}">{render(snapshot, card)}</td>' for name, render in columns)
    reason = f'<tr class="reason"><td></td><td colspan="{len(COLUMNS) - 1}">{escape(card.reason)}</td></tr>'
    row = f'<tr><th scope="row">{escape(card.id)}</th>{cells}</tr>'
    return f"<tbody>{row}{reason if card.reason else ''}</tbody>"


def _stat(name: str, unit: str = "", plotted: bool = False) -> Callable[[ModelsSnapshot, Card], str]:
    def render(snapshot: ModelsSnapshot, card: Card) -> str:
        value = snapshot.stats.get(card.id, {}).get(name)
        if value is None:
            return UNKNOWN
        history = snapshot.history.get(card.id, {}).get(name, [])
        return f"{format_number(value)}{unit}{sparkline(history) if plotted else ''}"

    return render


def _gpu_share(snapshot: ModelsSnapshot, card: Card) -> str:
    gpu_ids = card.description.gpu_ids if card.description else []
    suffix = f" of GPU {escape(', '.join(gpu_ids))}" if gpu_ids else ""
    return f"{format_number(card.num_gpus)}{suffix}" if card.num_gpus else UNKNOWN


def _memory(snapshot: ModelsSnapshot, card: Card) -> str:
    """Return the memory of the replica's process, or the size of its weights if that is unknown."""
    measured = snapshot.stats.get(card.id, {}).get("memory_bytes")
    if card.description is None:
        return format_bytes(measured)
    used = measured or card.description.memory_bytes
    return format_bytes(used) if used else f"{format_bytes(card.description.bytes)} <small>weights</small>"


COLUMNS: dict[str, Callable[[ModelsSnapshot, Card], str]] = {
    "model": lambda snapshot, card: escape(card.id),
    "task": lambda snapshot, card: escape(card.task or "") or UNKNOWN,
    "state": lambda snapshot, card: f'<i class="dot {card.state}"></i>{card.state}',
    "replicas": lambda snapshot, card: f"{card.replicas.running} / {card.replicas.wanted}",
    "device": lambda snapshot, card: escape(card.description.device) if card.description else UNKNOWN,
    "GPU share": _gpu_share,
    "memory": _memory,
    "requests/s": _stat("requests_per_second", plotted=True),
    "p50": _stat("p50_ms", " ms"),
    "p95": _stat("p95_ms", " ms", plotted=True),
    "in flight": _stat("in_flight", plotted=True),  # queued requests and requests in inference
}
