"""The first server that one writes: transformers' pipeline behind FastAPI. `uvicorn naive_fastapi:app`."""

import os

import torch
from fastapi import Body, FastAPI
from transformers import pipeline

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
options = {"model": os.environ["FOLDER"], "device": "cpu"}
app = FastAPI()

if os.environ["KIND"] == "embeddings":
    pipe = pipeline("feature-extraction", return_tensors=True, **options)

    @app.post("/predict")
    def embed(inputs: str = Body(embed=True)) -> list[float]:
        return torch.nn.functional.normalize(pipe(inputs)[0].mean(0), dim=-1).tolist()

else:
    pipe = pipeline("text-classification", top_k=None, **options)

    @app.post("/predict")
    def classify(inputs: str = Body(embed=True)) -> list:
        return pipe(inputs, truncation=True)
