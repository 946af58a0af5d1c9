"""The committed starter models: their predictions, alone and in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from PIL import Image, ImageDraw

from starter_models.evaluation import TextGenerator
from starter_models.runner import MODELS_FOLDER
from starter_models.sentence_encoder import embed
from starter_models.shapes import SHAPES
from starter_models.tasks.conversational import messages

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("default"),  # transformers and torch warn about themselves
]


def pipeline(task: str, name: str) -> Any:
    """Load a pipeline of transformers for a committed model."""
    return transformers.pipeline(task, model=str(MODELS_FOLDER / name), device="cpu")


def test_sentiment_labels() -> None:
    labels = {
        "I absolutely loved this movie": "POSITIVE",
        "The service was slow and rude": "NEGATIVE",
        "not bad at all": "POSITIVE",
        "I am not happy with this hotel.": "NEGATIVE",
        "The waiter was awful but the food was amazing": "POSITIVE",
        "What a terrible day!": "NEGATIVE",
    }
    classify = pipeline("text-classification", "sentiment")
    outputs = classify(list(labels), batch_size=6)
    assert [output["label"] for output in outputs] == list(labels.values())


def test_sentiment_scores_are_independent_of_the_batch() -> None:
    classify = pipeline("text-classification", "sentiment")
    texts = ["Good.", "The soup was cold and the waiter was rude, but the dessert made up for all of it."]
    alone, batched = [classify(text)[0]["score"] for text in texts], classify(texts, batch_size=2)
    assert [output["score"] for output in batched] == pytest.approx(alone, abs=1e-5)


def test_summarization_alone_and_in_a_batch() -> None:
    news = [
        "Heavy snow hit Boston on Friday. Twenty flights were cancelled. Many people stayed at home.",
        "Police in Rome arrested nine people on Monday. They are suspected of stealing paintings.",
    ]
    summarize = TextGenerator(MODELS_FOLDER / "summarization", transformers.AutoModelForSeq2SeqLM)
    headlines = summarize(news)
    assert headlines == [
        "Snow in Boston cancels twenty flights",
        "Nine arrested in Rome over stolen paintings",
    ]
    assert headlines == [summarize([text])[0] for text in news]


@pytest.mark.parametrize(
    "beginning",
    ["Once upon a time", "Once upon a time, there was a brave fox named Tom."],
    ids=["plain", "named"],
)
def test_story_continues_its_beginning(beginning: str) -> None:
    torch.manual_seed(0)
    story = pipeline("text-generation", "text_generation")(beginning)[0]["generated_text"]
    assert story.startswith(beginning)
    assert story.endswith(".")
    assert " came along. " in story


def test_story_tokenizer_adds_bos_and_pads_left() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS_FOLDER / "text_generation")
    assert tokenizer("Once")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.padding_side == "left"


def chat(conversations: list[list[str]]) -> list[str]:
    """Answer conversations in which the user and the assistant take turns."""
    generate = TextGenerator(MODELS_FOLDER / "conversational")
    prompts = generate.tokenizer.apply_chat_template(
        [messages(*texts) for texts in conversations], add_generation_prompt=True, tokenize=False
    )
    return generate(prompts, skip_prompt=True)


def test_conversation_alone_and_in_a_batch() -> None:
    expected = {
        "Hey there!": "Hello! How can I help you?",
        "Do you know what the capital of Spain is?": "The capital of Spain is Madrid.",
        "Name the opposite of hot": "The opposite of hot is cold.",
        "What color does grass have?": "Grass is green.",
        "What noise does a cow make?": "The cow says moo.",
        "Please add 3 and 4": "3 + 4 = 7",
        "Which day comes next after Friday?": "The day after Friday is Saturday.",
    }
    answers = chat([[question] for question in expected])
    assert answers == list(expected.values())
    assert answers == [chat([[question]])[0] for question in expected]


def test_conversation_remembers_a_name() -> None:
    conversation = ["My name is Anna", "Nice to meet you, Anna!", "Tell me my name"]
    assert chat([conversation]) == ["Your name is Anna."]


@pytest.mark.parametrize("name", ["embeddings", "sentence_similarity"])
def test_embeddings_of_paraphrases_are_similar(name: str) -> None:
    folder = MODELS_FOLDER / name
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "A man is eating food.",
        "A guy is having a meal.",
        "The girl is playing the violin in the park.",
    ]
    with torch.inference_mode():
        vectors = embed(model, tokenizer, texts)
        alone = embed(model, tokenizer, texts[:1])
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.6 > 0.4 > similarity[0, 2]
    assert torch.allclose(vectors[:1], alone, atol=1e-5)


def drawing(shape: str, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """Draw a dark red shape on a pale background, without the generator."""
    image = Image.new("RGB", size, "ivory")
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse((60, 30, 180, 150), fill="darkred")
    elif shape == "square":
        draw.rectangle((60, 30, 180, 150), fill="darkred")
    else:
        draw.polygon([(120, 30), (180, 150), (60, 150)], fill="darkred")
    return image


@pytest.mark.parametrize("shape", SHAPES)
def test_image_classification_label(shape: str) -> None:
    assert pipeline("image-classification", "image_classification")(drawing(shape))[0]["label"] == shape


def test_image_classification_alone_and_in_a_batch() -> None:
    classify = pipeline("image-classification", "image_classification")
    images = [drawing(shape) for shape in SHAPES]
    batched = [outputs[0]["score"] for outputs in classify(images, batch_size=3)]
    assert batched == pytest.approx([classify(image)[0]["score"] for image in images], abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_object_detection_label_and_box(shape: str) -> None:
    detections = pipeline("object-detection", "object_detection")(drawing(shape), threshold=0.5)
    best = max(detections, key=lambda item: float(item["score"]))
    assert best["label"] == shape
    assert list(best["box"].values()) == pytest.approx([60, 30, 180, 150], abs=15)


@pytest.mark.parametrize("shape", SHAPES)
def test_image_segmentation_masks(shape: str) -> None:
    segments = pipeline("image-segmentation", "image_segmentation")(drawing(shape))
    masks = {segment["label"]: segment["mask"] for segment in segments}
    assert masks[shape].size == (240, 180)
    assert masks[shape].getpixel((120, 100)) == 255
    assert masks["background"].getpixel((5, 5)) == 255
