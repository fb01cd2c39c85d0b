"""A PyTorch model behind HTTP: requests come one by one, and the network works on them by batches.

``python examples/serve_torch.py`` trains a small network on scikit-learn's handwritten digits (two seconds) and serves
it at http://127.0.0.1:8000: ``POST /predict`` with ``{"pixels": [64 numbers from 0 to 16]}``.
"""

from __future__ import annotations

import asyncio
import io
import sys
from typing import Annotated, Any

import httpx
import torch
from fastapi import FastAPI
from pydantic import BaseModel, Field
from serving import program
from sklearn.datasets import load_digits
from torch import nn

import serve

PIXELS = 64
#: every fifth picture is kept from training, to ask about
KEPT = 5


class Picture(BaseModel):
    """A picture of a digit: 8 rows of 8 pixels."""

    pixels: list[Annotated[float, Field(ge=0, le=16)]] = Field(min_length=PIXELS, max_length=PIXELS)


class Digit(BaseModel):
    """What the network takes it for."""

    digit: int
    probability: float
    #: how many pictures the network looked at in one go
    batch: int


def network() -> nn.Sequential:
    """Return an untrained network."""
    return nn.Sequential(nn.Linear(PIXELS, 64), nn.ReLU(), nn.Linear(64, 10))


def train(epochs: int = 60) -> bytes:
    """Train the network and return its weights as ``torch.save`` writes them."""
    torch.manual_seed(0)
    digits = load_digits()
    known = torch.arange(len(digits.data)) % KEPT != 0
    inputs, targets = torch.tensor(digits.data, dtype=torch.float32)[known] / 16, torch.tensor(digits.target)[known]
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue()


api = FastAPI(title="Digits", version="1")


@serve.deployment(max_ongoing_requests=64)
@serve.ingress(api)
class Digits:
    """The network, in evaluation mode, on one thread."""

    def __init__(self, weights: bytes) -> None:
        torch.set_num_threads(1)
        self.model = network()
        self.model.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
        self.model.eval()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def look(self, pictures: list[list[float]]) -> list[Digit]:
        """Look at all pictures of a batch at once."""
        with torch.inference_mode():
            probabilities = torch.softmax(self.model(torch.tensor(pictures) / 16), dim=1)
        best, digits = probabilities.max(dim=1)
        return [
            Digit(digit=digit, probability=probability, batch=len(pictures))
            for digit, probability in zip(digits.tolist(), best.tolist(), strict=True)
        ]

    @api.post("/predict")
    async def predict(self, picture: Picture) -> Digit:
        """Say which digit a picture shows."""
        answer: Digit = await self.look(picture.pixels)
        return answer


async def ask(address: str) -> None:
    """Ask about the pictures that the network has not seen, and count how many it knows."""
    digits = load_digits()
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        pictures: list[dict[str, Any]] = [{"pixels": row.tolist()} for row in digits.data[::KEPT]]
        answers = await asyncio.gather(*(client.post("/predict", json=picture) for picture in pictures))
        refused = await client.post("/predict", json={"pixels": [1, 2, 3]})
    found = [answer.raise_for_status().json() for answer in answers]
    right = sum(each["digit"] == int(truth) for each, truth in zip(found, digits.target[::KEPT], strict=True))
    print(f"{right} of {len(found)} digits right, up to {max(each['batch'] for each in found)} looked at in one go")
    assert right > 0.9 * len(found)
    assert refused.status_code == 422


def main() -> int:
    """Train, and serve until interrupted, or answer a few requests."""
    options = program.parser(__doc__).parse_args()
    return program.run(Digits.bind(train()), options, ask)


if __name__ == "__main__":
    sys.exit(main())
