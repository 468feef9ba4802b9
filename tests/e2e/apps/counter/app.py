"""The demo application: a counter in memory, a journal on disk, the kernel's random uuid."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JOURNAL = "/var/lib/counter.journal"
count = 0


def journal_lines():
    try:
        with open(JOURNAL, encoding="ascii") as f:
            return len(f.readlines())
    except FileNotFoundError:
        return 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global count
        if self.path == "/uuid":
            with open("/proc/sys/kernel/random/uuid", encoding="ascii") as f:
                return self.answer({"uuid": f.read().strip()})
        if self.path == "/peek":
            return self.answer({"count": count, "journal": journal_lines()})
        count += 1
        with open(JOURNAL, "a", encoding="ascii") as f:
            f.write(f"{count}\n")
        print(f"request {count}", flush=True)
        self.answer(
            {
                "greeting": os.environ.get("GREETING", ""),
                "count": count,
                "journal": journal_lines(),
                "pid": os.getpid(),
            }
        )

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    print("counter listens on 8080", flush=True)
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
