// SPDX-License-Identifier: Apache-2.0
// Checkpoints, ways back to them, and forks: state, identity, randomness, connections, limits,
// and what is left of them after the daemon was killed.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import tls from 'node:tls';
import { authToken, createImage, fetchVm, folder, imageBuilt, signed, until, vms, vmState } from './lib.mjs';

const app = folder(new URL('./apps/state', import.meta.url).pathname);
const stamp = Date.now().toString(36);
const EXT = '/dormouse/v1/microvms';
const policy = { maxIdleDurationSeconds: 600, suspendedDurationSeconds: 3600, autoResumeEnabled: true };
let image;

async function ext(method, path, body, status) {
  const r = await signed(`${EXT}/${path}`, { method, body: body && JSON.stringify(body) });
  if (status) assert.equal(r.status, status, `${method} ${path}: ${r.status} ${r.text}`);
  return r;
}

const checkpoint = async (vm, body = {}) => (await ext('POST', `${vm.microvmId}/checkpoints`, body, 201)).json;
const list = async (vm) => (await ext('GET', `${vm.microvmId}/checkpoints`, undefined, 200)).json.items;
const rollback = async (vm, which) =>
  (await ext('POST', `${vm.microvmId}/checkpoints/${which}/rollback`, {}, 200)).json;

async function fork(vm, body = {}) {
  const { json } = await ext('POST', `${vm.microvmId}/fork`, body, 201);
  return Promise.all(json.items.map(async (c) => ({ ...c, token: await authToken(c.microvmId) })));
}

async function get(vm, path = '/') {
  const r = await fetchVm(vm.endpoint, path, { token: vm.token });
  assert.equal(r.status, 200, `${path}: ${r.status} ${r.text}`);
  if (r.json.now) r.json.skew = Math.abs(r.json.now - Date.now() / 1000);
  return r.json;
}

const add = (vm, v) => get(vm, `/add?v=${v}`);
const values = (s) => [s.memory.join(' '), s.journal.join(' ')];

async function run(options = { idlePolicy: policy }) {
  const vm = await vms.runMicrovm({ imageIdentifier: image, ...options });
  return { ...vm, token: await authToken(vm.microvmId) };
}

async function end(...all) {
  for (const vm of all) await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
}

// A response that goes on until somebody ends it.
function stream(vm) {
  const [host, port] = vm.endpoint.split(':');
  const s = { lines: 0, ended: false };
  s.done = new Promise((resolve) => {
    const over = () => {
      s.ended = true;
      resolve();
    };
    s.req = https.request(
      {
        host: '127.0.0.1',
        port: Number(port),
        servername: host,
        path: '/stream',
        agent: new https.Agent(),
        headers: { host: vm.endpoint, 'X-aws-proxy-auth': vm.token },
        checkServerIdentity: (_, cert) => tls.checkServerIdentity(host, cert),
      },
      (res) => {
        res.on('data', (d) => {
          s.lines += d.toString().split('\n').length - 1;
        });
        res.on('close', over);
        res.on('error', over);
      },
    );
    s.req.on('error', over);
    s.req.end();
  });
  return s;
}

before(async () => {
  const created = await createImage(`state-${stamp}`, app, { resources: [{ minimumMemoryInMiB: 512 }] });
  const lines = [];
  const got = await imageBuilt(created.imageArn, '1.0', (l) => lines.push(l));
  assert.equal(got.state, 'CREATED', lines.join('\n'));
  image = created.imageArn;
});

after(async () => {
  for (const vm of (await vms.listMicrovms({ imageIdentifier: image })).items)
    if (vm.state !== 'TERMINATED') await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
  await until('the host to be quiet', async () => (await signed('/dormouse/v1/host')).json.slotsInUse === 0);
  await vms.deleteMicrovmImage({ imageIdentifier: image });
});

test('a rollback brings memory and disk back, and nothing else', async () => {
  const vm = await run();
  await add(vm, 'a');
  const before = await add(vm, 'b');
  const cp = await checkpoint(vm, { name: 'two', tags: { why: 'test' } });
  assert.match(cp.checkpointId, /^checkpoint-[0-9a-f-]{36}$/);
  assert.ok(cp.memoryBytes > 0 && cp.diskBytes > 0, JSON.stringify(cp));
  assert.deepEqual((await ext('GET', `${vm.microvmId}/checkpoints/two`, undefined, 200)).json, cp);

  // The microVM goes on as if nothing had happened.
  assert.deepEqual(values(await add(vm, 'c')), ['a b c', 'a b c']);
  const first = await get(vm, '/random');
  assert.deepEqual(values(await add(vm, 'd')), ['a b c d', 'a b c d']);

  const back = await rollback(vm, 'two');
  assert.equal(back.state, 'RUNNING');
  assert.equal(back.microvmId, vm.microvmId);
  assert.equal(back.endpoint, vm.endpoint);
  const now = await get(vm);
  assert.deepEqual(values(now), ['a b', 'a b']);
  assert.equal(now.pid, before.pid);
  assert.equal(now.hostname, before.hostname);
  assert.equal(now.machineId, before.machineId);
  assert.notEqual(now.generation, before.generation);
  assert.ok(now.skew < 5, 'the clock is right');
  // No random byte of the first passage comes again.
  const second = await get(vm, '/random');
  for (const what of Object.keys(first)) assert.notEqual(second[what], first[what], what);

  // And once more, from the same checkpoint; then suspended and woken by a request.
  assert.deepEqual(values(await add(vm, 'e')), ['a b e', 'a b e']);
  await rollback(vm, cp.checkpointId);
  assert.deepEqual(values(await get(vm)), ['a b', 'a b']);
  assert.deepEqual(values(await add(vm, 'f')), ['a b f', 'a b f']);
  await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
  assert.deepEqual(values(await add(vm, 'g')), ['a b f g', 'a b f g']);

  assert.equal((await list(vm)).length, 1);
  await ext('DELETE', `${vm.microvmId}/checkpoints/two`, undefined, 200);
  assert.equal((await list(vm)).length, 0);
  assert.deepEqual(values(await get(vm)), ['a b f g', 'a b f g']);
  await end(vm);
});

test('connections stay over a checkpoint and a fork, and end with a rollback', async () => {
  const vm = await run();
  await add(vm, 'a');
  const s = stream(vm);
  await until('the stream to flow', () => s.lines > 3);
  const cp = await checkpoint(vm);
  let seen = s.lines;
  await until('the stream to go on after a checkpoint', () => s.lines > seen + 3);
  const [child] = await fork(vm);
  seen = s.lines;
  await until('the stream to go on after a fork', () => s.lines > seen + 3);
  assert.equal(s.ended, false);
  assert.deepEqual(values(await get(child)), ['a', 'a']);
  await rollback(vm, cp.checkpointId);
  await until('the stream to end', () => s.ended, { timeout: 10_000 });
  assert.deepEqual(values(await get(vm)), ['a', 'a']);
  await end(vm, child);
});

test('five forks of a running microVM are five machines', async () => {
  const vm = await run();
  await add(vm, 'a');
  const parent = await add(vm, 'b');
  const began = performance.now();
  const children = await fork(vm, { count: 5, name: 'way', tags: { team: 'x' } });
  assert.equal(children.length, 5);
  assert.deepEqual(children.map((c) => c.name), ['way-1', 'way-2', 'way-3', 'way-4', 'way-5']);
  const states = await Promise.all(children.map((c) => get(c)));
  console.log(`# five forks and their first answers: ${(performance.now() - began).toFixed(0)} ms wall`);
  const random = await Promise.all([vm, ...children].map((c) => get(c, '/random')));
  for (const what of Object.keys(random[0]))
    assert.equal(new Set(random.map((r) => r[what])).size, 6, `${what} differs in all`);
  for (const s of states) {
    assert.deepEqual(values(s), ['a b', 'a b']);
    assert.equal(s.pid, parent.pid);
    assert.ok(s.skew < 5, 'the clock is right');
    assert.notEqual(s.generation, parent.generation);
  }
  for (const what of ['hostname', 'machineId'])
    assert.equal(new Set([parent, ...states].map((s) => s[what])).size, 6, `${what} differs in all`);
  assert.equal(new Set([vm, ...children].map((c) => c.endpoint)).size, 6);
  for (const c of children) {
    assert.equal(c.imageVersion, vm.imageVersion);
    assert.deepEqual(c.idlePolicy, vm.idlePolicy);
    assert.equal(c.maximumDurationInSeconds, vm.maximumDurationInSeconds);
    const about = (await ext('GET', c.microvmId, undefined, 200)).json;
    assert.equal(about.forkedFrom.microvmId, vm.microvmId);
    assert.deepEqual(about.tags, { team: 'x' });
  }
  // Each goes its own way, also through a suspend, and the parent its own.
  await Promise.all(children.map((c, i) => add(c, `child${i}`)));
  await add(vm, 'c');
  await Promise.all(children.slice(0, 3).map((c) => vms.suspendMicrovm({ microvmIdentifier: c.microvmId })));
  await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
  for (const [i, c] of children.entries())
    assert.deepEqual(values(await get(c)), [`a b child${i}`, `a b child${i}`]);
  assert.deepEqual(values(await get(vm)), ['a b c', 'a b c']);
  // A token is for one of them.
  const wrong = await fetchVm(children[1].endpoint, '/', { token: children[0].token });
  assert.equal(wrong.status, 403);
  // Layers that children share outlive the parent and each other.
  await end(vm, children[0]);
  for (const [i, c] of children.entries()) if (i > 0) assert.deepEqual(values(await add(c, 'x')), [`a b child${i} x`, `a b child${i} x`]);
  await end(...children.slice(1));
});

test('forks from a checkpoint, of a suspended microVM, and of forks', async () => {
  const vm = await run();
  await add(vm, 'a');
  const cp = await checkpoint(vm, { name: 'base' });
  await add(vm, 'b');
  const [old] = await fork(vm, { checkpointIdentifier: 'base', name: 'old' });
  assert.equal(old.name, 'old');
  assert.deepEqual(values(await get(old)), ['a', 'a']);
  assert.equal((await ext('GET', old.microvmId, undefined, 200)).json.forkedFrom.checkpointId, cp.checkpointId);

  await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
  const [asleep] = await fork(vm);
  assert.equal((await vms.getMicrovm({ microvmIdentifier: vm.microvmId })).state, 'SUSPENDED');
  assert.deepEqual(values(await add(asleep, 'c')), ['a b c', 'a b c']);
  const cp2 = await checkpoint(vm); // nothing was written since: no new layer
  assert.equal(cp2.diskBytes, 0);
  assert.equal((await vms.getMicrovm({ microvmIdentifier: vm.microvmId })).state, 'SUSPENDED');

  const [grandchild] = await fork(asleep);
  await add(asleep, 'd');
  await end(vm, asleep); // the checkpoints go with it
  assert.deepEqual(values(await add(grandchild, 'e')), ['a b c e', 'a b c e']);
  const cp3 = await checkpoint(grandchild);
  await add(grandchild, 'f');
  await vms.suspendMicrovm({ microvmIdentifier: grandchild.microvmId });
  // A suspended one stays suspended.
  assert.equal((await rollback(grandchild, cp3.checkpointId)).state, 'SUSPENDED');
  assert.deepEqual(values(await get(grandchild)), ['a b c e', 'a b c e']);
  assert.equal((await ext('GET', `${vm.microvmId}/checkpoints`, undefined, 200)).json.items.length, 0);
  await end(old, grandchild);
});

test('twelve checkpoints, each a way back; the chain of layers stays short', async () => {
  const vm = await run();
  const all = [];
  for (let i = 0; i < 12; i++) {
    await add(vm, `v${i}`);
    if (i === 2) await get(vm, '/bulk?mib=8');
    all.push(await checkpoint(vm, { name: `n${i}` }));
  }
  const want = (i) => Array.from({ length: i + 1 }, (_, k) => `v${k}`).join(' ');
  for (const i of [11, 0, 5, 3, 8]) {
    await rollback(vm, `n${i}`);
    assert.deepEqual(values(await get(vm)), [want(i), want(i)]);
    assert.deepEqual(values(await add(vm, 'x')), [`${want(i)} x`, `${want(i)} x`]);
  }
  for (const cp of all.slice(0, 9)) await ext('DELETE', `${vm.microvmId}/checkpoints/${cp.checkpointId}`, undefined, 200);
  await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
  assert.deepEqual(values(await get(vm)), [`${want(8)} x`, `${want(8)} x`]);
  await rollback(vm, 'n10');
  assert.deepEqual(values(await get(vm)), [want(10), want(10)]);
  const page = (await ext('GET', `${vm.microvmId}/checkpoints?maxResults=2`, undefined, 200)).json;
  assert.deepEqual(page.items.map((c) => c.name), ['n11', 'n10']);
  const rest = (await ext('GET', `${vm.microvmId}/checkpoints?maxResults=2&nextToken=${page.nextToken}`, undefined, 200)).json;
  assert.deepEqual(rest.items.map((c) => c.name), ['n9']);
  await end(vm);
});

async function metric(line) {
  const { text } = await signed('/dormouse/v1/metrics');
  const found = text.split('\n').find((l) => l.startsWith(`${line} `));
  assert.ok(found, line);
  return Number(found.split(' ')[1]);
}

const joined = () => metric('dormouse_flatten_total{outcome="done"}');

test('a chain of four layers is joined in the background, under all that have it', async () => {
  const before = await joined();
  const layers = await metric('dormouse_disk_layers');
  const vm = await run();
  const want = (n) => Array.from({ length: n }, (_, k) => `v${k}`).join(' ');
  for (let i = 0; i < 3; i++) {
    await add(vm, `v${i}`);
    await get(vm, `/bulk?mib=${i === 1 ? 24 : 8}`);
    await checkpoint(vm, { name: `n${i}` });
  }
  assert.equal(await joined(), before, 'three are left as they are');
  await add(vm, 'v3');
  await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
  await checkpoint(vm, { name: 'n3' });
  // At once: this resume goes on with the old chain, or the new one, whichever is there.
  assert.deepEqual(values(await get(vm)), [want(4), want(4)]);
  const [child] = await fork(vm);
  await until('layers are joined', async () => (await joined()) > before);
  assert.equal(await metric('dormouse_flatten_total{outcome="failed"}'), 0);
  assert.ok((await metric('dormouse_flatten_layers_total')) >= 2);
  assert.ok((await metric('dormouse_flatten_bytes_total')) > 0);
  assert.ok((await metric('dormouse_flatten_seconds_total')) > 0);
  // The machine has its old files open, which have no name any more; then it opens the new ones.
  assert.deepEqual(values(await add(vm, 'x')), [`${want(4)} x`, `${want(4)} x`]);
  assert.deepEqual(values(await add(child, 'y')), [`${want(4)} y`, `${want(4)} y`]);
  for (const m of [vm, child]) await vms.suspendMicrovm({ microvmIdentifier: m.microvmId });
  assert.deepEqual(values(await get(vm)), [`${want(4)} x`, `${want(4)} x`]);
  assert.deepEqual(values(await get(child)), [`${want(4)} y`, `${want(4)} y`]);
  for (const i of [0, 3, 1, 2]) {
    await rollback(vm, `n${i}`);
    assert.deepEqual(values(await get(vm)), [want(i + 1), want(i + 1)]);
  }
  await end(vm, child);
  await until('no layer is left', async () => (await metric('dormouse_disk_layers')) === layers);
});

test('what is refused, and how', async () => {
  const vm = await run();
  await get(vm);
  const fail = async (method, path, body, status, text) => {
    const r = await ext(method, path, body);
    assert.equal(r.status, status, `${method} ${path}: ${r.text}`);
    assert.match(r.json.message, text);
  };
  const id = vm.microvmId;
  await fail('POST', 'microvm-none/checkpoints', {}, 404, /Unable to find microvmIdentifier/);
  await fail('POST', `${id}/checkpoints`, { name: 'no spaces' }, 400, /name/);
  await fail('POST', `${id}/checkpoints`, { tags: { 'aws:x': '1' } }, 400, /reserved/);
  await fail('POST', `${id}/checkpoints/none/rollback`, {}, 404, /has no checkpoint none/);
  await fail('DELETE', `${id}/checkpoints/none`, undefined, 404, /has no checkpoint none/);
  await fail('POST', `${id}/fork`, { count: 0 }, 400, /count/);
  await fail('POST', `${id}/fork`, { count: 101 }, 400, /count/);
  await fail('POST', `${id}/fork`, { checkpointIdentifier: 'none' }, 404, /has no checkpoint none/);
  await checkpoint(vm, { name: 'one' });
  await fail('POST', `${id}/checkpoints`, { name: 'one' }, 409, /already has a checkpoint named one/);
  // The same request again makes nothing new.
  const token = `t-${stamp}`;
  const one = await checkpoint(vm, { clientToken: token });
  assert.equal((await checkpoint(vm, { clientToken: token })).checkpointId, one.checkpointId);
  await fail('POST', `${id}/checkpoints`, { clientToken: token, name: 'x' }, 409, /clientToken/);
  const f1 = await ext('POST', `${id}/fork`, { clientToken: token }, 201);
  const f2 = await ext('POST', `${id}/fork`, { clientToken: token }, 201);
  assert.equal(f2.json.items[0].microvmId, f1.json.items[0].microvmId);
  assert.equal((await list(vm)).length, 2);
  // Without a right to run there is only looking.
  await end(f1.json.items[0], vm);
  await until('the end', async () => (await vms.getMicrovm({ microvmIdentifier: id })).state === 'TERMINATED');
  await fail('POST', `${id}/checkpoints`, {}, 409, /has ended|TERMINATED/);
  await fail('POST', `${id}/fork`, {}, 409, /has ended|TERMINATED/);
});

test('more children than the host takes are refused as a whole', async () => {
  const created = await createImage(`large-${stamp}`, app, { resources: [{ minimumMemoryInMiB: 2048 }] });
  assert.equal((await imageBuilt(created.imageArn, '1.0')).state, 'CREATED');
  const vm = { ...(await vms.runMicrovm({ imageIdentifier: created.imageArn })) };
  vm.token = await authToken(vm.microvmId);
  await add(vm, 'a');
  const r = await ext('POST', `${vm.microvmId}/fork`, { count: 100 });
  assert.match(r.headers['x-amzn-errortype'], /InsufficientCapacity/, r.text);
  const { items } = await vms.listMicrovms({ imageIdentifier: created.imageArn });
  assert.equal(items.length, 1, 'none was made');
  const [child] = await fork(vm);
  assert.deepEqual(values(await get(child)), ['a', 'a']);
  await end(vm, child);
  await vms.deleteMicrovmImage({ imageIdentifier: created.imageArn });
});

function hasEnded(pid) {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'ascii').split(') ')[1].startsWith('Z');
  } catch {
    return true;
  }
}

// The power goes: the machine under the host ends without a word, and is started again.
test('after a power failure checkpoints and forks are there', { skip: !process.env.DORMOUSE_RUN }, async () => {
  const [asleep, running, gone] = [await run(), await run(), await run()];
  for (const vm of [asleep, running, gone]) await add(vm, 'a');
  await checkpoint(asleep, { name: 'one' });
  await add(asleep, 'b');
  const [child] = await fork(asleep);
  await add(child, 'c');
  await checkpoint(running, { name: 'one' });
  await add(running, 'b');
  await checkpoint(gone, { name: 'one' });
  await end(gone);
  for (const vm of [asleep, child]) {
    await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
    await vmState(vm.microvmId, 'SUSPENDED');
  }
  await rollback(child, (await checkpoint(child)).checkpointId);

  const host = new URL('../../tools/host.sh', import.meta.url).pathname;
  const pid = Number(readFileSync(`${process.env.DORMOUSE_RUN}/pid`, 'ascii').split(' ')[0]);
  process.kill(pid, 'SIGKILL');
  await until('the host to be gone', () => hasEnded(pid), { timeout: 30_000, every: 50 });
  await new Promise((resolve, reject) =>
    execFile(host, ['up'], (err, out, text) => (err ? reject(new Error(`${out}${text}`)) : resolve())),
  );

  assert.deepEqual(values(await get(asleep)), ['a b', 'a b']);
  await rollback(asleep, 'one');
  assert.deepEqual(values(await get(asleep)), ['a', 'a']);
  assert.deepEqual(values(await get(child)), ['a b c', 'a b c']);
  // What ran has ended with its host, but its checkpoint is there and can be forked.
  const ended = await vms.getMicrovm({ microvmIdentifier: running.microvmId });
  assert.equal(ended.state, 'TERMINATED');
  const refused = await ext('POST', `${running.microvmId}/fork`, {});
  assert.equal(refused.status, 409);
  assert.match(refused.json.message, /only its checkpoints can be forked/);
  const [again] = await fork(running, { checkpointIdentifier: 'one' });
  assert.deepEqual(values(await get(again)), ['a', 'a']);
  await ext('DELETE', `${running.microvmId}/checkpoints/one`, undefined, 200);
  assert.equal((await list(gone)).length, 0);
  await end(asleep, child, again);
});
