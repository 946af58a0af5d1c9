"""BentoML with its adaptive batching: `bentoml serve bentoml_service:Model`, settings in the environment."""

import os
from typing import Any

import bentoml
from encoder import KIND, Encoder

BATCH = int(os.environ["BATCH"])
Outputs = list[list[float]] if KIND == "embeddings" else list[list[dict[str, Any]]]


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 60})
class Model:
    def __init__(self) -> None:
        self.encoder = Encoder()

    @bentoml.api(batchable=BATCH > 1, max_batch_size=max(BATCH, 2), max_latency_ms=60_000)
    def predict(self, texts: list[str]) -> Outputs:
        return self.encoder(texts)
