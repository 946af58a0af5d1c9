"""MLServer with its adaptive batching and a runtime of Roster's: `mlserver start .`, settings in peers.yml.

MLServer's Hugging Face runtime (mlserver-huggingface 1.7.1) does not import beside transformers 5.
"""

import json

from encoder import KIND, Encoder
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Model(MLModel):
    async def load(self) -> bool:
        self.encoder = Encoder()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        outputs = self.encoder(StringCodec.decode_input(payload.inputs[0]))
        if KIND == "embeddings":
            data = [x for row in outputs for x in row]
            shape = [len(outputs), len(outputs[0])]
            output = ResponseOutput(name="answers", shape=shape, datatype="FP32", data=data)
        else:
            output = StringCodec.encode_output("answers", list(map(json.dumps, outputs)))
        return InferenceResponse(model_name=self.name, outputs=[output])
