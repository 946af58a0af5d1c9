"""The first thing one writes: transformers' own pipeline behind FastAPI. `uvicorn naive_fastapi:app`."""

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

FOLDER = os.environ["FOLDER"]
KIND = os.environ["KIND"]

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
app = FastAPI()


class Question(BaseModel):
    inputs: str


if KIND == "embeddings":
    pipe = pipeline("feature-extraction", model=FOLDER, device="cpu", return_tensors=True)

    @app.post("/predict")
    def embed(question: Question) -> list[float]:
        return torch.nn.functional.normalize(pipe(question.inputs)[0].mean(0), dim=-1).tolist()

else:
    pipe = pipeline("text-classification", model=FOLDER, device="cpu", top_k=None)

    @app.post("/predict")
    def classify(question: Question) -> list:
        return pipe(question.inputs, truncation=True)
