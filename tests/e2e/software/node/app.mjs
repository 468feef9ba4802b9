// SPDX-License-Identifier: Apache-2.0
// A timer, a worker thread and a server: what most programs for Node are made of.
import http from 'node:http';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';

if (isMainThread) {
  let ticks = 0;
  setInterval(() => ticks++, 10);
  const worker = new Worker(new URL(import.meta.url));
  http
    .createServer((req, res) => {
      worker.once('message', (square) => res.end(JSON.stringify({ ticks, square, node: process.version })));
      worker.postMessage(Number(new URL(req.url, 'http://x').searchParams.get('n')));
    })
    .listen(8080);
} else {
  parentPort.on('message', (n) => parentPort.postMessage(n * n));
}
