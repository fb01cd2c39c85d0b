"""Getting started: a translator, then a summarizer that calls it; the language is its user_config."""

import os

import httpx
from starlette.requests import Request

import serve
from serve.handle import DeploymentHandle

PORT = int(os.environ["PORT"])
URL = f"http://127.0.0.1:{PORT}/"
WORDS = {
    "french": {"it": "c'était", "was": "", "best": "le meilleur", "worst": "le pire"},
    "german": {"it": "es", "was": "war", "best": "die beste", "worst": "die schlimmste"},
}


def pipeline(task: str):
    """Stands in for transformers' function of this name."""
    if task == "summarization":
        return lambda text, min_length, max_length: [{"summary_text": " ".join(text.split()[:max_length])}]
    words = WORDS[task]
    return lambda text: [{"translation_text": " ".join(words.get(word, word) for word in text.split())}]


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.2, "num_gpus": 0})
class Translator:
    def __init__(self):
        self.language = "french"
        self.model = pipeline("french")

    def translate(self, text: str) -> str:
        model_output = self.model(text)
        return model_output[0]["translation_text"]

    def reconfigure(self, config: dict):
        self.language = config.get("language", "french")
        self.model = pipeline(self.language)

    async def __call__(self, http_request: Request) -> str:
        return self.translate(await http_request.json())


@serve.deployment
class Summarizer:
    def __init__(self, translator: DeploymentHandle):
        self.translator = translator
        self.model = pipeline("summarization")

    def summarize(self, text: str) -> str:
        return self.model(text, min_length=2, max_length=2)[0]["summary_text"]

    async def __call__(self, http_request: Request) -> str:
        summary = self.summarize(await http_request.json())
        return await self.translator.translate.remote(summary)


serve.start(http_options={"port": PORT})
serve.run(Translator.bind())
assert httpx.post(URL, json="it was").text == "c'était "

serve.run(Summarizer.bind(Translator.options(user_config={"language": "german"}).bind()))
assert httpx.post(URL, json="it was the best of times").text == "es war"
handle = serve.get_deployment_handle("Translator", "default")
assert handle.translate.remote("best").result() == "die beste"
serve.shutdown()
