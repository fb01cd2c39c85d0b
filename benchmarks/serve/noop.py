"""The least application, for starts: ``serve run benchmarks.serve.noop:app``."""

from __future__ import annotations

from fastapi import FastAPI

import serve

api = FastAPI()


@serve.deployment
@serve.ingress(api)
class App:
    @api.get("/")
    async def root(self) -> str:
        return "ok"


app = App.bind()
