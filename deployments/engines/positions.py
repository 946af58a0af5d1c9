"""How many tokens a network reads: the positions that its embeddings have, and the tokenizer's limit."""

from typing import Any

NO_LIMIT = 1_000_000  # a tokenizer that was saved without a limit has 1e30
DEFAULT_LIMIT = 4096
# The names of the number of positions in a config; the second is MPT's.
NAMES = ("max_position_embeddings", "max_seq_len")


def max_length(tokenizer: Any, model: Any) -> int:
    """Return the most tokens that both tokenizer and network accept; 4096 if neither has a limit."""
    limits = tokenizer.model_max_length, usable_positions(model)
    return min((limit for limit in limits if limit and 0 < limit < NO_LIMIT), default=DEFAULT_LIMIT)


def usable_positions(model: Any) -> int | None:
    """Return the number of positions for tokens, or None if the network has no limit.

    RoBERTa and the networks that copy its embeddings reserve the rows up to the padding id: the first token
    has the position after it. Their table of positions has a `padding_idx`, other tables have none.
    """
    config = model.config.get_text_config()
    values = (getattr(config, name, None) for name in NAMES)
    positions = next((value for value in values if isinstance(value, int)), None)
    for name, table in model.named_modules():
        reserved = getattr(table, "padding_idx", None)
        if name.endswith("position_embeddings") and reserved is not None and positions:
            positions = min(positions, len(table.weight) - reserved - 1)
    return positions
