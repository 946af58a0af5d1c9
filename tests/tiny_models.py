"""Tiny random models of architectures that the starter models lack: right in shape, nonsense in content."""

import atexit
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import tokenizers
import torch
import transformers as hf

from tests.samples import LONG

ROOT = Path(mkdtemp(prefix="tiny-"))
atexit.register(shutil.rmtree, ROOT)

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CORPUS = [LONG, "I loved it. Hello! How are you? My name is Anna. 0123456789", "ünïcödé 😀 文字"]
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('system comes first') }}{% endif %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LABELS = {"id2label": {0: "zero", 1: "one", 2: "two"}, "label2id": {"zero": 0, "one": 1, "two": 2}}


def byte_bpe(**options: Any) -> Any:
    """Return a byte-level BPE tokenizer, as GPT-2's."""
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(CORPUS, vocab_size=350, special_tokens=["<pad>", "</s>"], show_progress=False)
    return hf.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="</s>", **options)


def sentencepiece() -> Any:
    """Return a tokenizer like Llama's: spaces as underlines, single bytes for unknown characters."""
    letters = sorted(set("".join(CORPUS[:2]).replace(" ", "▁")))
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    model = tokenizers.models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def wordpiece() -> Any:
    """Return a WordPiece tokenizer, as BERT's."""
    pieces = tokenizers.BertWordPieceTokenizer()
    pieces.train_from_iterator(CORPUS, vocab_size=200, show_progress=False)
    return hf.BertTokenizer(tokenizer_object=pieces._tokenizer, vocab=pieces.get_vocab(), model_max_length=32)


def save(*parts: Any, **files: Any) -> Path:
    """Save a checkpoint of these parts, with JSON files such as "modules" or "1_Pooling/config"."""
    folder = Path(mkdtemp(dir=ROOT))
    for part in parts:
        part.save_pretrained(folder)
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def causal(make: Callable[..., Any] = hf.GPT2LMHeadModel, tokenizer: Any = None, **settings: Any) -> Path:
    """Return a language model with 64 positions; `settings` go into its config."""
    torch.manual_seed(0)
    tokenizer = tokenizer or byte_bpe()
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    inner = {} if make is hf.GPT2LMHeadModel else {"intermediate_size": 64}
    config = make.config_class(
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=1,
        **size,
        **inner,
    )
    for name, value in settings.items():
        setattr(config, name, value)
    model = make(config)
    return save(louder(model, 6), tokenizer)


def louder(model: Any, factor: float) -> Any:
    """Random weights of the usual size make everything alike; larger ones give a model something to say."""
    for weight in model.parameters():
        weight.data *= factor if weight.dim() > 1 else 1
    return model


@cache
def gpt2() -> Path:
    return causal()


@cache
def chatty() -> Path:
    return causal(hf.LlamaForCausalLM, byte_bpe(chat_template=TEMPLATE, pad_token="<pad>"))


@cache
def bert(labels: int = 3, **settings: Any) -> Path:
    torch.manual_seed(0)
    tokenizer = wordpiece()
    names = LABELS if labels == 3 else {"num_labels": labels}
    config = hf.BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=32, **SMALL, **names, **settings
    )
    return save(hf.BertForSequenceClassification(config), tokenizer)


def encoder(**files: Any) -> Path:
    torch.manual_seed(0)
    tokenizer = wordpiece()
    config = hf.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **SMALL)
    return save(hf.BertModel(config), tokenizer, **files)


def seq2seq(**settings: Any) -> Path:
    torch.manual_seed(0)
    tokenizer = byte_bpe(model_max_length=64, pad_token="<pad>")
    config = hf.T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        **settings,
    )
    model = hf.T5ForConditionalGeneration(config)
    return save(model, tokenizer)


BACKBONE = {
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def detr(make: Any) -> Path:
    torch.manual_seed(0)
    config = hf.DetrConfig(
        backbone_config=hf.ResNetConfig(**BACKBONE), d_model=64, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=16, decoder_ffn_dim=16,
        num_queries=5, **LABELS,
    )  # fmt: skip
    size = {"shortest_edge": 64, "longest_edge": 100}
    model = louder(make(config), 3)
    detector = model if hasattr(model, "class_labels_classifier") else model.detr
    detector.class_labels_classifier.bias.data[-1] = -9  # so that there is something everywhere
    return save(model, hf.DetrImageProcessorPil(size=size))


@cache
def detr_detection() -> Path:
    return detr(hf.DetrForObjectDetection)


@cache
def detr_segmentation() -> Path:
    return detr(hf.DetrForSegmentation)


@cache
def yolos() -> Path:
    torch.manual_seed(0)
    config = hf.YolosConfig(image_size=[64, 96], patch_size=16, num_detection_tokens=5, **SMALL, **LABELS)
    size = {"shortest_edge": 64, "longest_edge": 96}
    return save(louder(hf.YolosForObjectDetection(config), 6), hf.YolosImageProcessorPil(size=size))


@cache
def vit(**settings: Any) -> Path:
    torch.manual_seed(0)
    config = hf.ViTConfig(image_size=32, patch_size=16, **SMALL, **LABELS, **settings)
    return save(
        hf.ViTForImageClassification(config), hf.ViTImageProcessorPil(size={"height": 32, "width": 32})
    )
