"""FastAPI ingress: routes of a class, validation, OpenAPI, dependencies, responses of one's own, two applications."""

import os

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

import serve

PORT = int(os.environ["PORT"])
URL = f"http://localhost:{PORT}"
app = FastAPI()


class Order(BaseModel):
    name: str
    price: float


def user(x_user: str = Header("nobody")) -> str:
    return x_user


@app.exception_handler(LookupError)
async def missing(request, error):
    return PlainTextResponse(f"missing: {error}", status_code=410)


@serve.deployment
@serve.ingress(app)
class MyFastAPIDeployment:
    def __init__(self, currency: str):
        self.currency = currency

    @app.get("/")
    def root(self):
        return "Hello, world!"

    @app.post("/{subpath}")
    def orders(self, subpath: str, order: Order, who: str = Depends(user)) -> dict:
        return {"path": subpath, "for": who, "price": f"{order.price} {self.currency}"}

    @app.get("/gone")
    def gone(self):
        raise LookupError("nothing here")

    @app.get("/denied")
    async def denied(self):
        raise HTTPException(status_code=403, detail="no")


other = FastAPI()


@other.get("/hello")
def hello(name: str = "you") -> str:
    return f"Hello {name}!"


@serve.deployment
@serve.ingress(other)
class FastAPIWrapper:
    pass


serve.start(http_options={"port": PORT})
serve.run(MyFastAPIDeployment.bind("EUR"), route_prefix="/shop", name="shop")
serve.run(FastAPIWrapper.bind(), route_prefix="/greet", name="greet")
assert httpx.get(f"{URL}/shop/").json() == "Hello, world!"
order = httpx.post(f"{URL}/shop/cart", json={"name": "tea", "price": 2.5}, headers={"x-user": "ada"})
assert order.json() == {"path": "cart", "for": "ada", "price": "2.5 EUR"}
assert httpx.post(f"{URL}/shop/cart", json={"name": "tea"}).status_code == 422
gone = httpx.get(f"{URL}/shop/gone")
assert (gone.status_code, gone.text) == (410, "missing: nothing here")
assert httpx.get(f"{URL}/shop/denied").status_code == 403
assert "/{subpath}" in httpx.get(f"{URL}/shop/openapi.json").json()["paths"]
assert httpx.get(f"{URL}/shop/docs").status_code == 200
assert httpx.get(f"{URL}/greet/hello", params={"name": "Ray"}).json() == "Hello Ray!"
serve.shutdown()
