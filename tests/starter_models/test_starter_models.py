"""The committed starter models: what lies in their folders, and that they answer sensibly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from PIL import Image, ImageDraw
from safetensors import safe_open

from starter_models import encoders
from starter_models.training import MODELS_FOLDER, Starter, discover

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("default"),  # transformers and torch warn about themselves
]

STARTERS = discover()
MEGABYTE = 1_000_000
NAMES = {
    "conversational",
    "embeddings",
    "image_classification",
    "image_segmentation",
    "object_detection",
    "sentence_similarity",
    "sentiment",
    "summarization",
    "text_generation",
}
TEXT_MODELS = sorted(NAMES - {"image_classification", "image_segmentation", "object_detection"})
IMAGE_MODELS = sorted(NAMES - set(TEXT_MODELS))

every_starter = pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_nine_models_are_discovered() -> None:
    assert set(STARTERS) == NAMES


@every_starter
def test_a_folder_is_small(starter: Starter) -> None:
    assert size_of(starter.folder) <= MEGABYTE


def test_all_folders_together_are_small() -> None:
    assert sum(size_of(MODELS_FOLDER / name) for name in NAMES) <= 6 * MEGABYTE


@every_starter
def test_config_yml_names_the_module_alone(starter: Starter) -> None:
    assert yaml.safe_load((starter.folder / "config.yml").read_text()) == {"module_id": starter.module_id}


@every_starter
def test_the_card_has_what_the_hub_reads(starter: Starter) -> None:
    _, head, _ = (starter.folder / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == starter.card.pipeline_tag
    assert front["library_name"] == starter.card.library
    assert "roster" in front["tags"]


@every_starter
def test_the_card_states_scores_and_limits(starter: Starter) -> None:
    card = (starter.folder / "README.md").read_text()
    assert "## What it is not for" in card
    assert f"--evaluate {starter.name}" in card
    assert len(re.findall(r"^\| .+ \| -?\d\.\d{3} \| \d+ \|$", card, re.MULTILINE)) >= 2


@every_starter
def test_weights_are_stored_by_half_and_load_in_full(starter: Starter) -> None:
    with safe_open(starter.folder / "model.safetensors", "pt") as stored:
        kinds = {stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118 (not a dict)
    assert kinds <= {"F16", "I64"}
    assert json.loads((starter.folder / "config.json").read_text())["dtype"] == "float32"
    assert loaded(starter.name).dtype == torch.float32


def loaded(name: str) -> Any:
    """A model as the architecture in its config names it."""
    folder = MODELS_FOLDER / name
    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    return getattr(transformers, architecture).from_pretrained(folder).eval()


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_a_tokenizer_knows_how_much_its_model_reads(name: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS_FOLDER / name)
    config = transformers.AutoConfig.from_pretrained(MODELS_FOLDER / name)
    assert tokenizer.model_max_length == getattr(
        config, "max_position_embeddings", tokenizer.model_max_length
    )
    assert tokenizer.model_max_length <= 256
    assert len(tokenizer) == config.vocab_size


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_an_image_processor_needs_pil_alone(name: str) -> None:
    processor = transformers.AutoImageProcessor.from_pretrained(MODELS_FOLDER / name, backend="pil")
    assert type(processor).__name__.endswith("Pil")
    height, width = (processor.size[side] for side in ("height", "width"))
    seen = processor(Image.new("RGB", (90, 50)), return_tensors="pt")["pixel_values"]
    assert seen.shape == (1, 3, height, width)


def pipeline(task: str, name: str) -> Any:
    return transformers.pipeline(task, model=str(MODELS_FOLDER / name), device="cpu")


def test_sentiment() -> None:
    said = {
        "I absolutely loved this movie": "POSITIVE",
        "The service was slow and rude": "NEGATIVE",
        "not bad at all": "POSITIVE",
        "I am not happy with this hotel.": "NEGATIVE",
        "The waiter was awful but the food was amazing": "POSITIVE",
        "What a terrible day!": "NEGATIVE",
    }
    classify = pipeline("text-classification", "sentiment")
    assert [answer["label"] for answer in classify(list(said), batch_size=6)] == list(said.values())


def test_sentiment_answers_alike_alone_and_in_a_batch() -> None:
    classify = pipeline("text-classification", "sentiment")
    texts = ["Good.", "The soup was cold and the waiter was rude, but the dessert made up for all of it."]
    alone, together = [classify(text)[0]["score"] for text in texts], classify(texts, batch_size=2)
    assert [answer["score"] for answer in together] == pytest.approx(alone, abs=1e-5)


def summaries(texts: list[str]) -> list[str]:
    folder = MODELS_FOLDER / "summarization"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    made = model.generate(**tokenizer(texts, padding=True, return_tensors="pt"))
    return list(tokenizer.batch_decode(made, skip_special_tokens=True))


def test_summarization_alone_and_in_a_batch() -> None:
    news = [
        "Heavy snow hit Boston on Friday. Twenty flights were cancelled. Many people stayed at home.",
        "Police in Rome arrested nine people on Monday. They are suspected of stealing paintings.",
    ]
    made = summaries(news)
    assert made == ["Snow in Boston cancels twenty flights", "Nine arrested in Rome over stolen paintings"]
    assert made == [summaries([text])[0] for text in news]


@pytest.mark.parametrize(
    "beginning",
    ["Once upon a time", "Once upon a time, there was a brave fox named Tom."],
    ids=["plain", "named"],
)
def test_text_generation(beginning: str) -> None:
    torch.manual_seed(0)
    told = pipeline("text-generation", "text_generation")(beginning)[0]["generated_text"]
    assert told.startswith(beginning)
    assert told.endswith(".")
    assert " came along. " in told


def test_text_generation_begins_by_itself() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS_FOLDER / "text_generation")
    assert tokenizer("Once")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.padding_side == "left"


def replies(conversations: list[list[str]]) -> list[str]:
    """What is answered to conversations whose first words, third words and so on are the user's."""
    roles = ("user", "assistant")
    messages = [
        [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)] for said in conversations
    ]
    folder = MODELS_FOLDER / "conversational"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    said = model.generate(**prompt)[:, prompt["input_ids"].shape[1] :]
    return list(tokenizer.batch_decode(said, skip_special_tokens=True))


def test_conversation_alone_and_in_a_batch() -> None:
    asked = {
        "Hey there!": "Hello! How can I help you?",
        "Do you know what the capital of Spain is?": "The capital of Spain is Madrid.",
        "Name the opposite of hot": "The opposite of hot is cold.",
        "What color does grass have?": "Grass is green.",
        "What noise does a cow make?": "The cow says moo.",
        "Please add 3 and 4": "3 + 4 = 7",
        "Which day comes next after Friday?": "The day after Friday is Saturday.",
    }
    answers = replies([[question] for question in asked])
    assert answers == list(asked.values())
    assert answers == [replies([[question]])[0] for question in asked]


def test_conversation_remembers_a_name() -> None:
    assert replies([["My name is Anna", "Nice to meet you, Anna!", "Tell me my name"]]) == [
        "Your name is Anna."
    ]


@pytest.mark.parametrize("name", ["embeddings", "sentence_similarity"])
def test_sentence_vectors(name: str) -> None:
    folder = MODELS_FOLDER / name
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "A man is eating food.",
        "A guy is having a meal.",
        "The girl is playing the violin in the park.",
    ]
    with torch.inference_mode():
        vectors = encoders.sentence_vectors(model, tokenizer, texts)
        alone = encoders.sentence_vectors(model, tokenizer, texts[:1])
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.6 > 0.4 > alike[0, 2]
    assert torch.allclose(vectors[:1], alone, atol=1e-5)


@pytest.mark.parametrize("name", ["embeddings", "sentence_similarity"])
def test_sentence_models_say_how_to_pool(name: str) -> None:
    folder = MODELS_FOLDER / name
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert [mode for mode, used in pooling.items() if mode.startswith("pooling_mode") and used] == [
        "pooling_mode_mean_tokens"
    ]
    config = transformers.AutoConfig.from_pretrained(folder)
    assert pooling["word_embedding_dimension"] == config.hidden_size
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 64


def drawing(shape: str, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """A dark red shape on a pale ground, drawn here and not by the generator."""
    picture = Image.new("RGB", size, "ivory")
    draw = ImageDraw.Draw(picture)
    if shape == "circle":
        draw.ellipse((60, 30, 180, 150), fill="darkred")
    elif shape == "square":
        draw.rectangle((60, 30, 180, 150), fill="darkred")
    else:
        draw.polygon([(120, 30), (180, 150), (60, 150)], fill="darkred")
    return picture


SHAPES = ["circle", "square", "triangle"]


@pytest.mark.parametrize("shape", SHAPES)
def test_image_classification(shape: str) -> None:
    assert pipeline("image-classification", "image_classification")(drawing(shape))[0]["label"] == shape


def test_image_classification_alone_and_in_a_batch() -> None:
    classify = pipeline("image-classification", "image_classification")
    pictures = [drawing(shape) for shape in SHAPES]
    together = [answers[0]["score"] for answers in classify(pictures, batch_size=3)]
    assert together == pytest.approx([classify(picture)[0]["score"] for picture in pictures], abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_object_detection(shape: str) -> None:
    found = pipeline("object-detection", "object_detection")(drawing(shape), threshold=0.5)
    best = max(found, key=lambda item: float(item["score"]))
    assert best["label"] == shape
    assert list(best["box"].values()) == pytest.approx([60, 30, 180, 150], abs=15)


@pytest.mark.parametrize("shape", SHAPES)
def test_image_segmentation(shape: str) -> None:
    parts = pipeline("image-segmentation", "image_segmentation")(drawing(shape))
    masks = {part["label"]: part["mask"] for part in parts}
    assert masks[shape].size == (240, 180)
    assert masks[shape].getpixel((120, 100)) == 255
    assert masks["background"].getpixel((5, 5)) == 255
