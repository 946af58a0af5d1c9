"""Mosec with its batching: `python mosec_server.py`, settings in the environment."""

import json
import os

from encoder import Encoder
from mosec import Server, Worker


class Model(Worker):
    def __init__(self) -> None:
        self.encoder = Encoder()

    def forward(self, data: list[dict] | dict) -> list:
        if isinstance(data, dict):  # with a largest batch of 1
            return self.encoder([data["inputs"]])[0]
        return self.encoder([one["inputs"] for one in data])

    def serialize(self, data: list) -> bytes:
        return json.dumps(data).encode()  # Mosec's own adds a line and two spaces to every number


if __name__ == "__main__":
    server, workers = Server(), int(os.environ["WORKERS"])
    batching = {"max_batch_size": int(os.environ["BATCH"]), "max_wait_time": int(os.environ["WAIT_MS"])}
    server.append_worker(Model, num=workers, timeout=60, **batching)
    server.run()
