"""The logits processors that a checkpoint's generation config applies to every output."""

from collections.abc import Iterable
from typing import Any


def generation_rules(config: Any, prompt_length: int, eos_token_ids: Iterable[int], device: Any) -> Any:
    """Return the logits processors for the token rules of a checkpoint's generation config.

    `prompt_length` is in tokens.
    """
    import transformers as library

    factories = {
        "sequence_bias": library.SequenceBiasLogitsProcessor,
        "no_repeat_ngram_size": library.NoRepeatNGramLogitsProcessor,
        "bad_words_ids": lambda ids: library.NoBadWordsLogitsProcessor(ids, sorted(eos_token_ids) or None),
        "remove_invalid_values": lambda _: library.InfNanRemoveLogitsProcessor(),
        "suppress_tokens": lambda ids: library.SuppressTokensLogitsProcessor(ids, device),
        "begin_suppress_tokens": lambda ids: library.SuppressTokensAtBeginLogitsProcessor(
            ids, prompt_length, device
        ),
    }
    return library.LogitsProcessorList(
        factory(value) for name, factory in factories.items() if (value := getattr(config, name, None))
    )
