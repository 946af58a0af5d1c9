"""The status tab: every model, what it does and how it does, as a table with small plots."""

from collections.abc import Callable
from html import escape

from deployments.card import Card
from ui.charts import curve, number
from ui.live_models import View

UNKNOWN = '<span class="quiet">\N{EM DASH}</span>'


def table(view: View) -> str:
    """Every model in a row; while nothing is served, a sentence."""
    if not view.cards:
        return '<p class="notice quiet" role="status">No model is there yet: put a folder into models/.</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = "".join(
        _row(view, card) for card in sorted(view.cards, key=lambda card: (card.task or "", card.id))
    )
    return f'<div class="scroll"><table class="status"><thead><tr>{head}</tr></thead>{rows}</table></div>'


def summary(view: View) -> str:
    """How many models are in which state, in a line."""
    counts = {
        state: sum(card.state == state for card in view.cards)
        for state in ("ready", "loading", "unavailable")
    }
    told = "".join(
        f'<span class="count"><i class="dot {state}"></i>{count} {state}</span>'
        for state, count in counts.items()
        if count or state == "ready"
    )
    trouble = f'<p class="notice error" role="alert">{escape(view.trouble)}</p>' if view.trouble else ""
    return f'<div class="counts">{told}</div>{trouble}'


def standing(card: Card) -> str:
    """A model's state in a line, with its reason or its replicas."""
    told = escape(card.reason) if card.state != "ready" else _running(card)
    return (
        f'<li><i class="dot {card.state}"></i><b>{escape(card.id)}</b> <span>{card.state}'
        f"{': ' if told and card.state != 'ready' else ', ' if told else ''}{told}</span></li>"
    )


def size(count: float | None) -> str:
    """Bytes in the unit that suits them."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{number(count)} {unit}"
        count /= 1000
    return f"{number(count)} TB"


def _running(card: Card) -> str:
    device = f" on {escape(card.description.device)}" if card.description else ""
    return f"{card.replicas.running} of {card.replicas.wanted} replicas{device}"


def _row(view: View, card: Card) -> str:
    told = list(COLUMNS.items())[1:]
    cells = "".join(f'<td data-name="{name}">{tell(view, card)}</td>' for name, tell in told)
    reason = f'<tr class="reason"><td></td><td colspan="{len(COLUMNS) - 1}">{escape(card.reason)}</td></tr>'
    name = f'<tr><th scope="row">{escape(card.id)}</th>{cells}</tr>'
    return f"<tbody>{name}{reason if card.reason else ''}</tbody>"


def _figure(name: str, unit: str = "", plotted: bool = False) -> Callable[[View, Card], str]:
    def tell(view: View, card: Card) -> str:
        value = view.figures.get(card.id, {}).get(name)
        told = UNKNOWN if value is None else f"{number(value)}{unit}"
        past = view.past.get(card.id, {}).get(name, [])
        return f"{told}{curve(past) if plotted and value is not None else ''}"

    return tell


def _gpu(view: View, card: Card) -> str:
    cards = card.description.gpu_ids if card.description else []
    place = f" of GPU {escape(', '.join(cards))}" if cards else ""
    return f"{number(card.num_gpus)}{place}" if card.num_gpus else UNKNOWN


def _memory(view: View, card: Card) -> str:
    told = view.figures.get(card.id, {}).get("memory_bytes")
    if card.description is None:
        return size(told)
    held = told or card.description.memory_bytes
    return size(held) if held else f"{size(card.description.bytes)} <small>weights</small>"


COLUMNS: dict[str, Callable[[View, Card], str]] = {
    "model": lambda view, card: escape(card.id),
    "task": lambda view, card: escape(card.task or "") or UNKNOWN,
    "state": lambda view, card: f'<i class="dot {card.state}"></i>{card.state}',
    "replicas": lambda view, card: f"{card.replicas.running} / {card.replicas.wanted}",
    "device": lambda view, card: escape(card.description.device) if card.description else UNKNOWN,
    "GPU share": _gpu,
    "memory": _memory,
    "requests/s": _figure("requests_per_second", plotted=True),
    "p50": _figure("p50_ms", " ms"),
    "p95": _figure("p95_ms", " ms", plotted=True),
    "queue": _figure("in_flight", plotted=True),  # requests that wait or are being worked for
}
