"""The rules of a checkpoint's generation config, which hold for every answer."""

from collections.abc import Iterable
from typing import Any


def rules(config: Any, prompt: int, ends: Iterable[int], device: Any) -> Any:
    """Return what a checkpoint's generation config forbids or favours in any answer, as logits processors.

    `prompt` is how many tokens come before the answer, `ends` are the ids that end it.
    """
    import transformers as library

    made = {
        "sequence_bias": library.SequenceBiasLogitsProcessor,
        "no_repeat_ngram_size": library.NoRepeatNGramLogitsProcessor,
        "bad_words_ids": lambda words: library.NoBadWordsLogitsProcessor(words, sorted(ends) or None),
        "remove_invalid_values": lambda _: library.InfNanRemoveLogitsProcessor(),
        "suppress_tokens": lambda ids: library.SuppressTokensLogitsProcessor(ids, device),
        "begin_suppress_tokens": lambda ids: library.SuppressTokensAtBeginLogitsProcessor(
            ids, prompt, device
        ),
    }
    return library.LogitsProcessorList(
        make(value) for name, make in made.items() if (value := getattr(config, name, None))
    )
