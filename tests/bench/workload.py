# SPDX-License-Identifier: Apache-2.0
# The Python web application that benchmarks run: a small service with some state, from the
# standard library alone.
#   /          an answer from memory
#   /work      some computing, the result kept
#   /fill?mb=N holds N MB more of values under keys, no two alike
#   /burst?mb=N has another process use N MB and end
#   /compile   compiles the standard library to bytecode: answers after some files and goes on
import glob
import json
import os
import py_compile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from urllib.parse import parse_qs, urlsplit

store = {}
state = {"requests": 0, "compiling": False}


def work():
    sieve = bytearray([1]) * 20000
    for n in range(2, 142):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, len(sieve), n)))
    store["primes"] = [n for n in range(2, len(sieve)) if sieve[n]]
    return len(store["primes"])


def fill(megabytes):
    random = Random(1)
    for i in range(megabytes * 16):
        store[f"key-{i}"] = random.randbytes(62500)
    return len(store)


def burst(megabytes):
    pid = os.fork()
    if pid == 0:
        held = [Random(i).randbytes(62500) for i in range(megabytes * 16)]
        os._exit(0 if held else 1)
    return os.waitpid(pid, 0)[1]


def compile_all(under_way):
    where = os.path.dirname(os.__file__)
    for i, path in enumerate(sorted(glob.glob(where + "/*.py"))):
        py_compile.compile(path, cfile="/tmp/" + os.path.basename(path) + "c")
        if i == 10:
            under_way.set()
    state["compiling"] = False


def begin_to_compile():
    if not state["compiling"]:
        state["compiling"] = True
        under_way = threading.Event()
        threading.Thread(target=compile_all, args=(under_way,), daemon=True).start()
        under_way.wait()
    return True


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        at = urlsplit(self.path)
        state["requests"] += 1
        answer = dict(state)
        if at.path == "/work":
            answer["primes"] = work()
        elif at.path == "/fill":
            answer["keys"] = fill(int(parse_qs(at.query)["mb"][0]))
        elif at.path == "/burst":
            answer["status"] = burst(int(parse_qs(at.query)["mb"][0]))
        elif at.path == "/compile":
            answer["compiling"] = begin_to_compile()
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("0.0.0.0", 8080), App).serve_forever()
