"""MLServer with its adaptive batching and a runtime of our own: `python mlserver_runtime.py`.

Its Hugging Face runtime (mlserver-huggingface 1.7.1) does not import beside transformers 5.
"""

import asyncio
import json
import os
import sys

from encoder import KIND, Encoder
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import StringCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Model(MLModel):
    async def load(self) -> bool:
        self.encoder = Encoder()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self.encoder(StringCodec.decode_input(payload.inputs[0]))
        if KIND == "embeddings":
            shape = [len(answers), len(answers[0])]
            output = ResponseOutput(
                name="answers", shape=shape, datatype="FP32", data=[x for row in answers for x in row]
            )
        else:
            output = StringCodec.encode_output("answers", list(map(json.dumps, answers)))
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve() -> None:
    port = int(os.environ["PORT"])
    server = MLServer(
        Settings(
            debug=False,
            host="127.0.0.1",
            http_port=port,
            grpc_port=port + 1,
            metrics_port=port + 2,
            parallel_workers=int(os.environ["WORKERS"]),
        )
    )
    model = ModelSettings(
        name="model",
        implementation=sys.modules["mlserver_runtime"].Model,
        max_batch_size=int(os.environ["BATCH"]),
        max_batch_time=int(os.environ["WAIT_MS"]) / 1000,
        parameters=ModelParameters(uri=os.environ["FOLDER"]),
    )
    await server.start([model])


if __name__ == "__main__":
    import mlserver_runtime  # noqa: F401 - its workers find the model's class by this name

    asyncio.run(serve())
