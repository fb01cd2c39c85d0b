"""What is measured, bare and served: a route that does nothing, a stream of 100 chunks, a model (in batches, served).

``python -m benchmarks.serve.apps PORT PROXIES`` serves them until it is terminated; uvicorn serves `bare`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import serve

#: the chunks of the stream
CHUNKS = [f"chunk {number:03}".encode() for number in range(100)]
#: what the model is asked
FEATURES = 20

bare = FastAPI()
served = FastAPI()


class Row(BaseModel):
    """A request to the model."""

    features: list[float]


def train() -> Any:
    """Return a forest of 50 trees."""
    from sklearn.ensemble import RandomForestClassifier  # takes a second, which only processes that are asked spend

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, FEATURES))
    return RandomForestClassifier(50, random_state=0, n_jobs=1).fit(rows, rows.sum(axis=1) > 0)


async def chunks() -> AsyncIterator[bytes]:
    """Yield the stream."""
    for chunk in CHUNKS:
        yield chunk


class BareModel:
    """The model, made when it is first asked."""

    model: Any = None


@bare.get("/")
async def root() -> str:
    return "ok"


@bare.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(chunks())


@bare.post("/predict")
async def predict(row: Row) -> int:
    if BareModel.model is None:
        BareModel.model = train()
    return int(BareModel.model.predict(np.asarray([row.features]))[0])


@serve.deployment
@serve.ingress(served)
class App:
    def __init__(self) -> None:
        self.model: Any = None

    @served.get("/")
    async def root(self) -> str:
        return "ok"

    @served.get("/stream")
    async def stream(self) -> StreamingResponse:
        return StreamingResponse(chunks())

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def classify(self, rows: list[list[float]]) -> list[int]:
        if self.model is None:
            self.model = train()
        return [int(label) for label in self.model.predict(np.asarray(rows))]

    @served.post("/predict")
    async def predict(self, row: Row) -> int:
        label: int = await self.classify(row.features)
        return label


#: for ``serve run``
app = App.bind()


def main() -> None:
    """Serve until terminated."""
    serve.start(http_options={"port": int(sys.argv[1]), "num_proxies": int(sys.argv[2])})
    serve.run(app)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
