"""The checkpoints that are measured: real architectures and sizes, random weights, made once from a seed.

They lie in `.bench/`, which git ignores; every server in a comparison loads the very same files.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import texts

ROOT = Path(__file__).parents[1]
BENCH = ROOT / ".bench"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHAT = "{{ messages[0].content }}"  # a prompt as it is: chat servers read what text generation reads
SOURCES = Path(__file__).read_bytes() + Path(texts.__file__).read_bytes()
VERSION = hashlib.sha256(SOURCES).hexdigest()[:8]
Checkpoint = tuple[Any, Any, dict[str, Any]]


def checkpoint(kind: str) -> Path:
    """The folder of a checkpoint, with a config.yml for Roster; made now if this version of it is missing.

    `kind`: "embeddings" (as large as MiniLM-L6), "classification" (DistilBERT-base), "generation" (a Llama
    of 8 million parameters) or "images" (ResNet-18).
    """
    folder = home() / "checkpoints" / f"{kind}-{VERSION}"
    if not folder.exists():
        # In a process of its own: this one shall not hold torch while it measures.
        subprocess.run([sys.executable, "-m", "benchmarks.models", kind], check=True, cwd=ROOT)
    return folder


def make(kind: str) -> None:
    """Write a checkpoint's folder; those of other versions go."""
    module_id, build = KINDS[kind]
    folder = home() / "checkpoints" / f"{kind}-{VERSION}"
    for old in folder.parent.glob(f"{kind}-*"):
        shutil.rmtree(old)
    making = folder.with_suffix(".making")
    _save(making, module_id, *build())
    making.rename(folder)


def home() -> Path:
    """`.bench/`, which ignores itself."""
    BENCH.mkdir(exist_ok=True)
    (BENCH / ".gitignore").write_text("*\n")
    return BENCH


def _save(folder: Path, module_id: str, model: Any, preprocessor: Any, files: dict[str, Any]) -> None:
    model.eval().save_pretrained(folder)
    preprocessor.save_pretrained(folder)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    (folder / "config.yml").write_text(f"module_id: {module_id}\n")


def _embeddings() -> Checkpoint:
    import torch
    import transformers

    torch.manual_seed(texts.SEED)
    tokenizer = _wordpiece()
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        initializer_range=0.08,  # large enough that different texts get different vectors
    )
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(kinds.items())
    ]
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
    }
    return transformers.BertModel(config), tokenizer, files


def _classification() -> Checkpoint:
    import torch
    import transformers

    torch.manual_seed(texts.SEED)
    tokenizer = _wordpiece()
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer),
        initializer_range=0.05,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )
    return transformers.DistilBertForSequenceClassification(config), tokenizer, {}


def _generation() -> Checkpoint:
    import tokenizers
    import torch
    import transformers

    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        texts.texts(4000), vocab_size=4096, special_tokens=["<pad>", "</s>"], show_progress=False
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=1024,
        chat_template=CHAT,
        model_input_names=["input_ids", "attention_mask"],
    )
    torch.manual_seed(texts.SEED)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=320,
        intermediate_size=864,
        num_hidden_layers=6,
        num_attention_heads=10,
        max_position_embeddings=1024,
        initializer_range=0.06,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[:2] = (
            0.0  # neither padding nor the end is ever likeliest: answers have full length
        )
    return model, tokenizer, {}


def _images() -> Checkpoint:
    import torch
    import transformers

    torch.manual_seed(texts.SEED)
    config = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        id2label={place: f"class {place}" for place in range(1000)},
        label2id={f"class {place}": place for place in range(1000)},
    )
    processor = transformers.ViTImageProcessorPil(size={"height": 224, "width": 224})
    return transformers.ResNetForImageClassification(config), processor, {}


def _wordpiece() -> Any:
    """BERT's tokenizer, knowing the workload's words and the pieces of the others."""
    import tokenizers
    import transformers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
    pieces = [*SPECIAL, *letters, *(f"##{piece}" for piece in (*letters, *texts.ENDINGS) if piece != "s")]
    pieces += ["##s", *texts.vocabulary()]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    wordpiece = tokenizers.BertWordPieceTokenizer(vocabulary)
    return transformers.BertTokenizer(
        tokenizer_object=wordpiece._tokenizer, vocab=vocabulary, model_max_length=512
    )


KINDS: dict[str, tuple[str, Callable[[], Checkpoint]]] = {
    "embeddings": ("01A9FC92-EF27-4AE7-8D95-E2DC488302D4", _embeddings),
    "classification": ("FADC770C-25C8-4685-A176-51FF67B382C1", _classification),
    "generation": ("9E42606B-34A8-4D4C-9B6C-6F66DAD8EC5A", _generation),
    "images": ("D7B3B724-147B-41C1-A41E-A38F9D00F905", _images),
}


if __name__ == "__main__":
    make(sys.argv[1])
