"""An episode of guess-number by verifiers 0.4, with a scripted model (needs verifiers and uv).

The scripted model is a small server on this machine, as a real one would be elsewhere: it bisects.
"""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import verifiers.v1 as vf
from bisection import guess

from resd_bench.interop._verifiers import ResdConfig, ResdEnv, ResdEnvConfig, ResdTaskset


class Model(BaseHTTPRequestHandler):
    """Streams the guess, as verifiers asks for it."""

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a chat completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        parts = [({"role": "assistant", "content": guess(body["messages"])}, None), ({}, "stop")]
        chunks = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": usage}
            for delta, reason in parts
        ]
        common = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "bisect"}
        lines = [f"data: {json.dumps({**common, **chunk})}\n\n" for chunk in chunks]
        raw = "".join([*lines, "data: [DONE]\n\n"]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


async def main() -> None:
    """Load, validate, play."""
    config = ResdConfig(id="resd-verifiers", env="guess-number", split="test")
    tasks = list(ResdTaskset(config).take(3))
    for task in tasks:
        print(task.key, "valid:", await task.validate(None))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = vf.EvalClientConfig(base_url=f"http://127.0.0.1:{server.server_address[1]}/v1")
    env = ResdEnv(ResdEnvConfig(taskset=config))
    async with env.serving():
        episode = await env.run_episode(tasks[0], vf.ModelContext(model="bisect", client=client))
    (trace,) = episode.traces
    for message in trace.messages[1:]:
        print(f"{message.role}: {message.content}")
    print("reward", trace.reward, "metrics", trace.metrics, "turns", trace.num_turns)


if __name__ == "__main__":
    asyncio.run(main())
