# SPDX-License-Identifier: Apache-2.0
# Counts in a database, answers with what it holds.
import http.server
import sqlite3
import threading

db = sqlite3.connect("/app/count.db", check_same_thread=False)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS hits (id INTEGER PRIMARY KEY, path TEXT)")
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with lock, db:
            db.execute("INSERT INTO hits (path) VALUES (?)", (self.path,))
            n = db.execute("SELECT count(*) FROM hits WHERE path = ?", (self.path,)).fetchone()[0]
        body = f"python {n}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
