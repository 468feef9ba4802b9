"""A list in memory, a journal on disk, and who, where and when the machine thinks it is."""

import http.server
import json
import os
import socket
import threading
import time
import urllib.parse
import uuid

JOURNAL = "/var/lib/state.journal"
BULK = "/var/lib/state.bulk"
memory = []
lock = threading.Lock()


def read(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return None


def journal():
    return (read(JOURNAL) or "").split()


def whoami():
    return {
        "hostname": socket.gethostname(),
        "machineId": read("/etc/machine-id"),
        "generation": read("/run/dormouse/generation"),
        "pid": os.getpid(),
        "uptime": time.monotonic(),
        "now": time.time(),
    }


def randomness():
    return {
        "urandom": os.urandom(16).hex(),
        "getrandom": os.getrandom(16).hex(),
        "uuid4": str(uuid.uuid4()),
        "kernel": read("/proc/sys/kernel/random/uuid"),
    }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/add":
            with lock:
                memory.append(query["v"])
                with open(JOURNAL, "a", encoding="ascii") as f:
                    f.write(query["v"] + "\n")
                    f.flush()
                    if "sync" in query:
                        os.fsync(f.fileno())
        elif url.path == "/bulk":
            with open(BULK, "wb") as f:
                f.write(os.urandom(1 << 20) * int(query["mib"]))
        elif url.path == "/random":
            return self.answer(randomness())
        elif url.path == "/stream":
            return self.stream()
        self.answer({"memory": memory, "journal": journal(), **whoami()})

    def stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        n = 0
        try:
            while True:
                n += 1
                line = f"{n}\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            self.close_connection = True

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
    http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
