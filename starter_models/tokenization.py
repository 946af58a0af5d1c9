"""Train tokenizers: lower-casing WordPiece and byte-level BPE."""

import string
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = 0, 1, 2  # token ids of the byte-level tokenizers
UNK, FIRST_WORD = 1, 5  # token ids of the WordPiece tokenizers; [PAD] is 0 there, too
IGNORED_LABEL = -100


def train_wordpiece(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Train a lower-casing BERT tokenizer."""
    specials = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=60))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials.values()),
        initial_alphabet=list(string.ascii_lowercase + string.digits + string.punctuation),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{key}_token": token for key, token in specials.items()}
    return to_transformers(tokenizer, max_length, **names)


def train_byte_bpe(
    texts: Iterable[str],
    vocab_size: int,
    max_length: int,
    template: str | None = None,
    prefix_space: bool = False,
    eos_token: str = "</s>",
    more_specials: Iterable[str] = (),
    **settings: Any,
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which decodes every text to exactly that text.

    The template names the special tokens around a text, as in "<s> $A". With a prefix space, the first word
    of a text has the same tokens as it has elsewhere, which makes it easier to copy.
    """
    specials = ["<pad>", "<s>", eos_token, *more_specials]
    tokenizer = Tokenizer(models.BPE())
    splits = [pre_tokenizers.ByteLevel(add_prefix_space=prefix_space), pre_tokenizers.Digits(True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    if prefix_space:
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if template:
        ids = [(token, index) for index, token in enumerate(specials)]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": eos_token}
    return to_transformers(tokenizer, max_length, **names, **settings)


def to_transformers(tokenizer: Tokenizer, max_length: int, **settings: Any) -> PreTrainedTokenizerFast:
    """Wrap a trained tokenizer for transformers."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **settings,
    )


def drop_words(ids: torch.Tensor, probability: float) -> torch.Tensor:
    """Replace random words by [UNK], so that a model does not rely on single words."""
    dropped = (torch.rand(ids.shape) < probability) & (ids >= FIRST_WORD)
    return ids.masked_fill(dropped, UNK)
