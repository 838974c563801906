"""`eval` over a chat endpoint: a small server on this machine, with a scripted model."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bisection import guess

from resd_bench.cli import main


class Model(BaseHTTPRequestHandler):
    """Answers chat completions, as a hosted model does."""

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """The guess, and how many tokens it took."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"role": "assistant", "content": guess(body["messages"])}
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        choice = {"index": 0, "message": answer, "finish_reason": "stop"}
        raw = json.dumps({"model": body["model"], "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()
asked = (
    "eval --env guess-number --samples 1 --tasks 3 --max-new-tokens 16 --out runs-out/chat.jsonl"
)
asked += " --model bisect --set engine=chat --set engine.keep=false"
main([*asked.split(), "--server", f"http://127.0.0.1:{server.server_address[1]}/v1"])
server.shutdown()
row = json.loads(Path("runs-out/chat.jsonl").read_text().splitlines()[0])
print(f"{row['task']}: success {row['success']}")
for turn in row["turns"][1:]:
    print("user:", turn["messages"][0]["content"])
    print("assistant:", turn["response"])
