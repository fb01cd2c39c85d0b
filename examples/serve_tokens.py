"""Streaming tokens: a tiny language model whose words reach the client as they are made (Server-Sent Events).

``python examples/serve_tokens.py`` learns which word follows which two from this repository's own guides, and serves it
at http://127.0.0.1:8000: ``curl -N 'http://127.0.0.1:8000/generate?prompt=a+task&tokens=40'``. Clients that ask at the
same time are worked on together, a word for each at a time; a client that goes away costs nothing more.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse
from serving import program

import serve

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
#: seconds that a word takes, as if there were something to compute
WORD_S = 0.005


def words(text: str) -> list[str]:
    """Split a text into words and marks, without its programs."""
    prose = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    return re.findall(r"[\w'-]+|[.,:;?!]", prose)


@serve.deployment(max_ongoing_requests=500)
class LanguageModel:
    """Knows which words came after which two."""

    def __init__(self, text: str, word_s: float) -> None:
        self.word_s = word_s
        self.followers: dict[tuple[str, str], list[str]] = defaultdict(list)
        tokens = words(text)
        for first, second, third in zip(tokens, tokens[1:], tokens[2:], strict=False):
            self.followers[first.lower(), second.lower()].append(third)
        self.starts = list(self.followers)

    async def generate(self, prompt: str, tokens: int, seed: int) -> AsyncIterator[str]:
        """Yield so many words, one by one."""
        rng = random.Random(seed)
        last = tuple(word.lower() for word in words(prompt)[-2:])
        for _ in range(tokens):
            await asyncio.sleep(self.word_s)
            known = self.followers.get(last) if len(last) == 2 else None
            word = rng.choice(known or self.followers[rng.choice(self.starts)])
            last = (*last, word.lower())[-2:]
            yield word


api = FastAPI(title="Tokens", version="1")


@serve.deployment(max_ongoing_requests=500)
@serve.ingress(api)
class Chat:
    """Turns words into events."""

    def __init__(self, model: serve.DeploymentHandle[LanguageModel]) -> None:
        self.model = model.options(stream=True)

    @api.get("/generate", response_class=StreamingResponse)
    async def generate(
        self,
        prompt: str = Query("a task", max_length=1000),
        tokens: int = Query(40, ge=1, le=1000),
        seed: int = Query(0, ge=0, le=2**31),
    ) -> StreamingResponse:
        """Stream the words that follow a prompt, an event each; the last event is ``[DONE]``."""
        return StreamingResponse(self.events(prompt, tokens, seed), media_type="text/event-stream")

    async def events(self, prompt: str, tokens: int, seed: int) -> AsyncIterator[str]:
        """Yield the events of one answer."""
        async for word in self.model.generate.remote(prompt, tokens, seed):
            yield f"data: {json.dumps({'token': word})}\n\n"
        yield "data: [DONE]\n\n"


def build(word_s: float = WORD_S) -> serve.Application[Chat]:
    """Return the application, taught by the guides."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted(GUIDES.glob("*.md")))
    return Chat.bind(LanguageModel.bind(text, word_s))


async def listen(client: httpx.AsyncClient, prompt: str, tokens: int) -> list[str]:
    """Return the words of one answer."""
    found = []
    async with client.stream("GET", "/generate", params={"prompt": prompt, "tokens": tokens}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                found.append(str(json.loads(line.removeprefix("data: "))["token"]))
    return found


async def ask(address: str) -> None:
    """Listen to several answers at a time, and go away in the middle of another."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        async with client.stream("GET", "/generate", params={"tokens": 1000}) as response:
            async for line in response.aiter_lines():
                assert line.startswith("data: {")
                break  # and go away: nobody makes the other 999 words
        answers = await asyncio.gather(*(listen(client, "the worker", 30) for _ in range(10)))
        refused = await client.get("/generate", params={"tokens": 0})
    print("the worker", *answers[0])
    assert all(len(answer) == 30 for answer in answers)
    assert all(answer == answers[0] for answer in answers)  # the same seed
    assert refused.status_code == 422


def main() -> int:
    """Serve until interrupted, or answer a few requests."""
    options = program.parser(__doc__).parse_args()
    return program.run(build(), options, ask)


if __name__ == "__main__":
    sys.exit(main())
