// SPDX-License-Identifier: Apache-2.0
// What the demo and the end-to-end tests share: clients made from the environment
// that `make up` writes, a zip writer, an endpoint client, and waiting with a deadline.

import https from 'node:https';
import tls from 'node:tls';
import zlib from 'node:zlib';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LambdaMicrovms } from '@aws-sdk/client-lambda-microvms';
import { S3 } from '@aws-sdk/client-s3';
import { SignatureV4 } from '@smithy/signature-v4';
import { Sha256 } from '@aws-crypto/sha256-js';

export function need(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`error: ${name} is not set. Run: make up && . build/run/env`);
    process.exit(2);
  }
  return value;
}

export const url = new URL(need('DORMOUSE_URL'));
export const region = need('AWS_REGION');
export const account = '000000000000';
export const port = Number(url.port || 443);
export const roleArn = `arn:aws:iam::${account}:role/dormouse`;
export const baseArn = `arn:aws:lambda:${region}:aws:microvm-image:al2023-1`;

export const vms = new LambdaMicrovms({ maxAttempts: 1 });
export const s3 = new S3({ forcePathStyle: true });

// A zip with deflated entries; entries is {name: string|Buffer}.
export function makeZip(entries) {
  const parts = [];
  const central = [];
  let offset = 0;
  for (const [name, content] of Object.entries(entries)) {
    const data = Buffer.from(content);
    const packed = zlib.deflateRawSync(data);
    const crc = zlib.crc32 ? zlib.crc32(data) : crc32(data);
    const head = Buffer.alloc(30);
    head.writeUInt32LE(0x04034b50, 0);
    head.writeUInt16LE(20, 4);
    head.writeUInt16LE(8, 8);
    head.writeUInt32LE(crc, 14);
    head.writeUInt32LE(packed.length, 18);
    head.writeUInt32LE(data.length, 22);
    head.writeUInt16LE(Buffer.byteLength(name), 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(0x0314, 4);
    head.copy(entry, 6, 4, 30);
    entry.writeUInt32LE((0o100644 << 16) >>> 0, 38);
    entry.writeUInt32LE(offset, 42);
    parts.push(head, Buffer.from(name), packed);
    central.push(entry, Buffer.from(name));
    offset += head.length + Buffer.byteLength(name) + packed.length;
  }
  const dir = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(central.length / 2, 8);
  end.writeUInt16LE(central.length / 2, 10);
  end.writeUInt32LE(dir.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, dir, end]);
}

function crc32(data) {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

// Every file below a folder, as makeZip wants it.
export function folder(path, prefix = '') {
  const entries = {};
  for (const name of readdirSync(path).sort()) {
    const full = join(path, name);
    if (statSync(full).isDirectory()) Object.assign(entries, folder(full, `${prefix}${name}/`));
    else entries[prefix + name] = readFileSync(full);
  }
  return entries;
}

// Polls `probe` until it returns something truthy; the only place where tests wait by the clock.
export async function until(what, probe, { timeout = 120_000, every = 200 } = {}) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`gave up after ${timeout / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

const agents = new Map();

// One request to a microVM's endpoint. Names below localhost are dialled on loopback, so
// that no resolver is needed; Host and SNI carry the real name.
export function fetchVm(endpoint, path, { token, method = 'GET', headers = {}, body, fresh } = {}) {
  const [host, endpointPort] = endpoint.split(':');
  let agent = agents.get(host);
  if (!agent || fresh) {
    agent = new https.Agent({ keepAlive: !fresh });
    if (!fresh) agents.set(host, agent);
  }
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const req = https.request(
      {
        host: '127.0.0.1',
        port: Number(endpointPort || 443),
        servername: host,
        path,
        method,
        agent,
        headers: {
          host: endpoint,
          ...(token ? { 'X-aws-proxy-auth': token } : {}),
          ...(body ? { 'content-length': Buffer.byteLength(body) } : {}),
          ...headers,
        },
        checkServerIdentity: (_, cert) => tls.checkServerIdentity(host, cert),
      },
      (res) => {
        const chunks = [];
        const firstByte = performance.now() - started;
        res.on('data', (c) => chunks.push(c));
        res.on('error', reject);
        res.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          let json;
          try {
            json = JSON.parse(text);
          } catch {
            json = undefined;
          }
          resolve({ status: res.statusCode, headers: res.headers, text, json, ms: firstByte });
        });
      },
    );
    req.on('error', reject);
    if (body) req.write(body);
    req.end();
  });
}

// A signed request to the API itself: the /dormouse/v1 extensions, and bad requests in tests.
export async function signed(path, { method = 'GET', body, service = 'lambda', keys, headers = {} } = {}) {
  const [pathname, search] = path.split('?');
  const query = Object.fromEntries(new URLSearchParams(search || ''));
  const signer = new SignatureV4({
    service,
    region,
    sha256: Sha256,
    credentials: keys || {
      accessKeyId: need('AWS_ACCESS_KEY_ID'),
      secretAccessKey: need('AWS_SECRET_ACCESS_KEY'),
    },
  });
  const request = await signer.sign({
    method,
    protocol: 'https:',
    hostname: url.hostname,
    port,
    path: pathname,
    query,
    headers: { host: url.host, ...(body ? { 'content-type': 'application/json' } : {}), ...headers },
    body,
  });
  return raw(path, { method, headers: request.headers, body });
}

const frame = (op, data) => {
  const body = Buffer.from(data);
  const mask = Buffer.from([1, 2, 3, 4]);
  const head = body.length < 126
    ? Buffer.from([0x80 | op, 0x80 | body.length])
    : Buffer.from([0x80 | op, 0xfe, body.length >> 8, body.length & 255]);
  return Buffer.concat([head, mask, body.map((byte, i) => byte ^ mask[i % 4])]);
};

// A terminal in a microVM, as a WebSocket of the API. Resolves with {status} when it is refused,
// else with what came so far, how it ended, and ways to send.
export async function terminal(id, start, more = {}) {
  const path = `/dormouse/v1/microvms/${id}/terminal`;
  const signer = new SignatureV4({
    service: 'lambda',
    region,
    sha256: Sha256,
    credentials: more.keys || {
      accessKeyId: need('AWS_ACCESS_KEY_ID'),
      secretAccessKey: need('AWS_SECRET_ACCESS_KEY'),
    },
  });
  const request = await signer.sign({
    method: 'GET', protocol: 'https:', hostname: url.hostname, port, path, query: {},
    headers: { host: url.host },
  });
  const t = await socket(path, { ...request.headers, ...more.headers });
  t.order?.(start);
  return t;
}

// A shell as AWS has it: through the microVM's endpoint.
export function endpointShell(endpoint, headers, path = '/shell') {
  return socket(path, { host: endpoint, ...headers });
}

function socket(path, more) {
  const headers = {
    connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', ...more,
  };
  return new Promise((resolve, reject) => {
    const req = https.request({
      host: url.hostname, port, path, headers, servername: more.host?.split(':')[0], agent: new https.Agent(),
    });
    req.on('error', reject);
    req.on('response', (res) => {
      res.resume();
      resolve({ status: res.statusCode, headers: res.headers });
    });
    req.on('upgrade', (res, socket, head) => {
      const t = { status: 101, headers: res.headers, shown: '', texts: [], closed: null, socket };
      let rest = head;
      const take = (data) => {
        rest = Buffer.concat([rest, data]);
        while (rest.length >= 2) {
          const long = rest[1] === 126 ? 2 : 0;
          if (rest.length < 2 + long) break;
          const size = long ? rest.readUInt16BE(2) : rest[1];
          if (rest.length < 2 + long + size) break;
          const body = rest.subarray(2 + long, 2 + long + size);
          if (rest[0] === 0x82) t.shown += body.toString();
          if (rest[0] === 0x81) t.texts.push(JSON.parse(body.toString()));
          if (rest[0] === 0x88) t.closed = [body.readUInt16BE(0), body.subarray(2).toString()];
          rest = rest.subarray(2 + long + size);
        }
      };
      take(Buffer.alloc(0));
      socket.on('data', take);
      socket.on('error', () => {});
      t.type = (text) => socket.write(frame(2, text));
      t.order = (order) => socket.write(frame(1, JSON.stringify(order)));
      t.ended = () => until('the terminal closes', () => t.closed);
      resolve(t);
    });
    req.end();
  });
}

export function raw(path, { method = 'GET', headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const req = https.request(
      { host: url.hostname, port, path, method, headers, agent: new https.Agent() },
      (res) => {
        const chunks = [];
        res.on('data', (c) => chunks.push(c));
        res.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          let json;
          try {
            json = JSON.parse(text);
          } catch {
            json = undefined;
          }
          resolve({ status: res.statusCode, headers: res.headers, text, json });
        });
      },
    );
    req.on('error', reject);
    if (body) req.write(body);
    req.end();
  });
}

export async function ensureBucket(name) {
  try {
    await s3.headBucket({ Bucket: name });
  } catch {
    await s3.createBucket({ Bucket: name });
  }
}

// Uploads the entries as a zip and starts the image; resolves once it is asked for.
export async function createImage(name, entries, options = {}) {
  await ensureBucket('artifacts');
  await s3.putObject({ Bucket: 'artifacts', Key: `${name}.zip`, Body: makeZip(entries) });
  return vms.createMicrovmImage({
    name,
    baseImageArn: baseArn,
    buildRoleArn: roleArn,
    codeArtifact: { uri: `s3://artifacts/${name}.zip` },
    ...options,
  });
}

const imageBusy = new Set(['CREATING', 'UPDATING', 'DELETING']);

// Follows the build log while waiting; onLine gets each new line. Looking costs the host a
// handshake each time: for a long build look less often.
export async function imageBuilt(arn, version, onLine = () => {}, { timeout = 600_000, every = 300 } = {}) {
  const name = arn.split(':').pop();
  let offset = 0;
  let rest = '';
  const drain = async () => {
    const log = await signed(
      `/dormouse/v1/images/${name}/versions/${version}/log?offset=${offset}`,
    );
    if (log.status !== 200) return;
    offset = Number(log.headers['x-dormouse-next-offset'] || offset);
    rest += log.text;
    const lines = rest.split('\n');
    rest = lines.pop();
    lines.forEach(onLine);
  };
  const image = await until(
    `image ${name} to be built`,
    async () => {
      await drain();
      const got = await vms.getMicrovmImage({ imageIdentifier: arn });
      return imageBusy.has(got.state) ? undefined : got;
    },
    { timeout, every },
  );
  await drain();
  if (rest) onLine(rest);
  return image;
}

export async function vmState(id, wanted, timeout = 120_000) {
  return until(
    `microVM ${id} to be ${wanted}`,
    async () => {
      const vm = await vms.getMicrovm({ microvmIdentifier: id });
      if (vm.state === wanted) return vm;
      if (vm.state === 'TERMINATED') throw new Error(`it is TERMINATED: ${vm.stateReason}`);
      return undefined;
    },
    { timeout, every: 50 },
  );
}

export async function authToken(id, allowedPorts = [{ port: 8080 }]) {
  const answer = await vms.createMicrovmAuthToken({
    microvmIdentifier: id,
    expirationInMinutes: 30,
    allowedPorts,
  });
  return answer.authToken['X-aws-proxy-auth'];
}
