"""Ray Serve's side: ``python -P ray_app.py PORT MAX_ONGOING_REQUESTS`` serves a route that does nothing, and a stream.

Runs in an environment that has Ray, and imports nothing of ours.
"""

import sys
import time

import ray
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from ray import serve

CHUNKS = [f"chunk {number:03}".encode() for number in range(100)]
api = FastAPI()


async def chunks():
    for chunk in CHUNKS:
        yield chunk


@serve.ingress(api)
class App:
    @api.get("/")
    async def root(self) -> str:
        return "ok"

    @api.get("/stream")
    async def stream(self) -> StreamingResponse:
        return StreamingResponse(chunks())


if __name__ == "__main__":
    ray.init(num_cpus=2, log_to_driver=False)
    serve.start(http_options={"port": int(sys.argv[1])})
    limit = {"max_ongoing_requests": int(sys.argv[2])} if sys.argv[2] != "0" else {}
    serve.run(serve.deployment(**limit)(App).bind())
    while True:
        time.sleep(3600)
