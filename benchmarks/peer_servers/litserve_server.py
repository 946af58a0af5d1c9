"""LitServe with its batching: `python litserve_server.py`, settings in the environment."""

import os

import litserve
from encoder import Encoder


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.encoder = Encoder()

    def decode_request(self, request: dict) -> str:
        return request["inputs"]

    def predict(self, texts: list[str]) -> list:
        return self.encoder(texts)


if __name__ == "__main__":
    api = Api(max_batch_size=int(os.environ["BATCH"]), batch_timeout=int(os.environ["WAIT_MS"]) / 1000)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    options = {"num_api_servers": 1, "generate_client_file": False, "access_log": False}
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", **options)
