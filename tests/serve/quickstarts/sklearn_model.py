"""The scikit-learn tutorial: a gradient boosting classifier of irises, its files read in the constructor."""

import json
import os
import pickle
import tempfile
from pathlib import Path

import httpx
import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier
from starlette.requests import Request

import serve

PORT = int(os.environ["PORT"])
iris = load_iris()
order = np.random.default_rng(0).permutation(len(iris.data))
train, test = order[:100], order[100:]
model = GradientBoostingClassifier(n_estimators=10, random_state=0).fit(iris.data[train], iris.target[train])


@serve.deployment(num_replicas=1)
class BoostingModel:
    def __init__(self, model_path: str, label_path: str):
        self.model = pickle.loads(Path(model_path).read_bytes())
        self.label_list = json.loads(Path(label_path).read_text())

    async def __call__(self, starlette_request: Request) -> dict:
        payload = await starlette_request.json()
        names = ["sepal length", "sepal width", "petal length", "petal width"]
        prediction = self.model.predict([[payload[name] for name in names]])[0]
        return {"result": self.label_list[prediction]}


with tempfile.TemporaryDirectory() as folder:
    MODEL_PATH, LABEL_PATH = f"{folder}/model.pkl", f"{folder}/labels.json"
    Path(MODEL_PATH).write_bytes(pickle.dumps(model))
    Path(LABEL_PATH).write_text(json.dumps(iris.target_names.tolist()))
    serve.start(http_options={"port": PORT})
    serve.run(BoostingModel.bind(MODEL_PATH, LABEL_PATH), route_prefix="/regressor")
    right = 0
    for row, target in zip(iris.data[test], iris.target[test], strict=True):
        sample = dict(zip(("sepal length", "sepal width", "petal length", "petal width"), row.tolist(), strict=True))
        response = httpx.request("GET", f"http://localhost:{PORT}/regressor", json=sample)
        right += response.json() == {"result": iris.target_names[target]}
    assert right > 0.8 * len(test), right
    serve.shutdown()
