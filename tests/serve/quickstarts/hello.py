"""The first application of the docs: a class with a message, asked over HTTP."""

import os

import httpx
from starlette.requests import Request

import serve

PORT = int(os.environ["PORT"])


@serve.deployment
class MyModelDeployment:
    def __init__(self, msg: str):
        self._msg = msg

    def __call__(self, request: Request) -> dict:
        return {"result": self._msg}


serve.start(http_options={"port": PORT})
app = MyModelDeployment.bind(msg="Hello world!")
serve.run(app, route_prefix="/")
assert httpx.get(f"http://localhost:{PORT}/").json() == {"result": "Hello world!"}
assert serve.status().applications["default"].status == "RUNNING"
