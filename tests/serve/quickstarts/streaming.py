"""The streaming tutorial: a bot that streams its words, one that chats over a websocket, one that batches streams."""

import asyncio
import os
from queue import Empty, Queue

import httpx
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.responses import StreamingResponse
from websockets.sync.client import connect

import serve

PORT = int(os.environ["PORT"])
END = object()


class Streamer(Queue):
    """Stands in for transformers' TextIteratorStreamer: a thread puts words in, the loop takes them out."""

    def __iter__(self):
        while (word := self.get_nowait()) is not END:
            yield word


fastapi_app = FastAPI()


@serve.deployment
@serve.ingress(fastapi_app)
class Textbot:
    def __init__(self, model_id: str):
        self.loop = asyncio.get_running_loop()
        self.model_id = model_id

    @fastapi_app.post("/")
    def handle_request(self, prompt: str) -> StreamingResponse:
        streamer = Streamer()
        self.loop.run_in_executor(None, self.generate_text, prompt, streamer)
        return StreamingResponse(self.consume_streamer(streamer), media_type="text/plain")

    def generate_text(self, prompt: str, streamer: Streamer):
        for word in prompt.split():
            streamer.put(f"{word.upper()} ")
        streamer.put(END)

    async def consume_streamer(self, streamer: Streamer):
        while True:
            try:
                for token in streamer:
                    yield token
                break
            except Empty:
                # the streamer has no words for now
                await asyncio.sleep(0.001)

    @fastapi_app.websocket("/chat")
    async def handle_websocket(self, ws: WebSocket) -> None:
        await ws.accept()
        conversation = ""
        try:
            while True:
                prompt = await ws.receive_text()
                conversation += prompt
                streamer = Streamer()
                self.loop.run_in_executor(None, self.generate_text, prompt, streamer)
                async for text in self.consume_streamer(streamer):
                    await ws.send_text(text)
                await ws.send_text("<<Response Finished>>")
        except WebSocketDisconnect:
            pass


batch_app = FastAPI()


@serve.deployment(max_ongoing_requests=10)
@serve.ingress(batch_app)
class Batchbot:
    @batch_app.post("/")
    async def handle_request(self, prompt: str) -> StreamingResponse:
        return StreamingResponse(self.run_model(prompt), media_type="text/plain")

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=15)
    async def run_model(self, prompts: list[str]):
        streams = [prompt.split() for prompt in prompts]
        for i in range(max(map(len, streams))):
            yield [f"{words[i]}/{len(prompts)} " if i < len(words) else StopIteration for words in streams]


serve.start(http_options={"port": PORT})
serve.run(Textbot.bind("microsoft/DialoGPT-small"))
with httpx.stream("POST", f"http://localhost:{PORT}/", params={"prompt": "tell me a story"}) as response:
    response.raise_for_status()
    assert "".join(response.iter_text()) == "TELL ME A STORY "

with connect(f"ws://localhost:{PORT}/chat") as websocket:
    for prompt in ("space the", "final frontier"):
        websocket.send(prompt)
        received = []
        while (text := websocket.recv(timeout=30)) != "<<Response Finished>>":
            received.append(text)
        assert "".join(received) == f"{prompt.upper()} "

serve.run(Batchbot.bind(), name="batchbot", route_prefix="/batch")


async def ask() -> list[str]:
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"http://localhost:{PORT}/batch/"
        asked = (client.post(url, params={"prompt": prompt}) for prompt in ("a b c", "d"))
        return [answer.text for answer in await asyncio.gather(*asked)]


assert asyncio.run(ask()) == ["a/2 b/2 c/2 ", "d/2 "]
serve.shutdown()
