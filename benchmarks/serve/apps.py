"""The application that is measured: one FastAPI route that does nothing, bare and served."""

from __future__ import annotations

import sys
import time

from fastapi import FastAPI

import serve

bare = FastAPI()
served = FastAPI()


@bare.get("/")
async def root() -> str:
    return "ok"


@serve.deployment
@serve.ingress(served)
class App:
    @served.get("/")
    async def root(self) -> str:
        return "ok"


def main() -> None:
    """Serve until terminated: ``python -m benchmarks.serve.apps PORT PROXIES``."""
    serve.start(http_options={"port": int(sys.argv[1]), "num_proxies": int(sys.argv[2])})
    serve.run(App.bind())
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
