"""A repository of models for clients of KServe and Triton: trained here, loaded and unloaded while it serves.

``python examples/serve_oip.py`` trains two classifiers of scikit-learn on its handwritten digits and serves them by the
Open Inference Protocol at http://127.0.0.1:8000/v2: ``POST /v2/repository/models/forest/load``, then
``POST /v2/models/forest/infer``.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import httpx
import joblib
import numpy as np
from serving import program
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

import serve

PIXELS = 64
#: every fifth picture is kept from training, to ask about
KEPT = 5
KINDS = {"forest": RandomForestClassifier(30, random_state=0), "neighbours": KNeighborsClassifier(3)}


def train(store: Path) -> None:
    """Train the classifiers and put each into a file."""
    digits = load_digits()
    known = np.arange(len(digits.data)) % KEPT != 0
    for name, classifier in KINDS.items():
        joblib.dump(classifier.fit(digits.data[known], digits.target[known]), store / f"{name}.joblib")


class Classifier(serve.oip.Model):
    """One of the classifiers."""

    platform = "sklearn"
    inputs: ClassVar = [serve.oip.TensorSpec("pixels", "FP64", [-1, PIXELS])]
    outputs: ClassVar = [
        serve.oip.TensorSpec("digit", "INT64", [-1]),
        serve.oip.TensorSpec("probability", "FP64", [-1]),
    ]

    def __init__(self, file: Path) -> None:
        self._model = joblib.load(file)

    def predict(self, pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Say which digits pictures show."""
        probabilities = self._model.predict_proba(pixels)
        return {"digit": probabilities.argmax(axis=1), "probability": probabilities.max(axis=1)}


@serve.deployment
class Digits(serve.oip.Repository):
    """The classifiers of a directory."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def available(self) -> list[str]:
        """Return the names of all classifiers."""
        return sorted(file.stem for file in self._store.glob("*.joblib"))

    @serve.multiplexed(max_num_models_per_replica=4)
    async def get_model(self, name: str) -> serve.oip.Model:
        """Load a classifier, in a thread: the others go on."""
        if name not in self.available():
            raise serve.oip.InferenceError(f"there is no classifier {name!r}", 404)
        return await asyncio.to_thread(Classifier, self._store / f"{name}.joblib")


async def ask(address: str) -> None:
    """Load each classifier, and count how many of the pictures that it has not seen it knows."""
    digits = load_digits()
    pictures, truth = digits.data[::KEPT], digits.target[::KEPT]
    tensor = {"name": "pixels", "datatype": "FP64", "shape": list(pictures.shape), "data": pictures.tolist()}
    async with httpx.AsyncClient(base_url=f"{address}/v2", timeout=60) as client:
        for name in KINDS:
            (await client.post(f"/repository/models/{name}/load")).raise_for_status()
            answer = (await client.post(f"/models/{name}/infer", json={"inputs": [tensor]})).raise_for_status().json()
            found = next(output["data"] for output in answer["outputs"] if output["name"] == "digit")
            right = int((np.array(found) == truth).sum())
            print(f"{name}: {right} of {len(truth)} digits right")
            assert right > 0.9 * len(truth)
            (await client.post(f"/repository/models/{name}/unload")).raise_for_status()
        refused = await client.post("/models/forest/infer", json={"inputs": [tensor]})
    assert refused.status_code == 404


def main() -> int:
    """Train, and serve until interrupted, or answer a few requests."""
    options = program.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as store:
        train(Path(store))
        return program.run(Digits.bind(Path(store)), options, ask)


if __name__ == "__main__":
    sys.exit(main())
