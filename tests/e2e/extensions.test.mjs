// SPDX-License-Identifier: Apache-2.0
// Dormouse's own operations against a real host: access keys and what each may do with the
// unmodified SDK, commands and files in a microVM, names, tags and environment, updates, events,
// metrics. Run by `make check-e2e`.

import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import https from 'node:https';
import { readFileSync } from 'node:fs';
import { LambdaMicrovms } from '@aws-sdk/client-lambda-microvms';
import { S3 } from '@aws-sdk/client-s3';
import { SignatureV4 } from '@smithy/signature-v4';
import { Sha256 } from '@aws-crypto/sha256-js';
import {
  account,
  authToken,
  createImage,
  endpointShell,
  fetchVm,
  folder,
  imageBuilt,
  need,
  port,
  raw,
  region,
  signed,
  terminal,
  until,
  url,
  vms,
  vmState,
} from './lib.mjs';

const stamp = Date.now().toString(36);
const ext = '/dormouse/v1';
const post = (path, body, more = {}) =>
  signed(path, { method: 'POST', body: JSON.stringify(body), ...more });

async function makeKey(rights) {
  const made = await post(`${ext}/keys`, { name: `e2e-${rights}`, rights });
  assert.equal(made.status, 201, made.text);
  return { accessKeyId: made.json.accessKeyId, secretAccessKey: made.json.secretAccessKey };
}

const revoke = (key) => signed(`${ext}/keys/${key.accessKeyId}`, { method: 'DELETE' });
const client = (credentials) => new LambdaMicrovms({ maxAttempts: 1, credentials });

async function denied(call) {
  await assert.rejects(call, (e) => {
    assert.equal(e.name, 'AccessDeniedException', e.message);
    assert.equal(e.$metadata.httpStatusCode, 403);
    return true;
  });
}

// Fails, but not for want of rights.
async function allowed(call) {
  try {
    await call;
  } catch (e) {
    assert.notEqual(e.$metadata?.httpStatusCode, 403, e.message);
    assert.ok(e.$metadata, e.message);
  }
}

describe('access keys', () => {
  const nowhere = `arn:aws:lambda:${region}:${account}:microvm-image:nowhere-${stamp}`;
  const change = (c) => [() => c.deleteMicrovmImage({ imageIdentifier: nowhere })];
  const operate = (c) => [
    () => c.runMicrovm({ imageIdentifier: nowhere }),
    () => c.suspendMicrovm({ microvmIdentifier: 'microvm-none' }),
    () => c.resumeMicrovm({ microvmIdentifier: 'microvm-none' }),
    () => c.terminateMicrovm({ microvmIdentifier: 'microvm-none' }),
    () => c.createMicrovmAuthToken({
      microvmIdentifier: 'microvm-none',
      expirationInMinutes: 5,
      allowedPorts: [{ port: 80 }],
    }),
  ];
  const look = (c) => [
    () => c.listMicrovms({}),
    () => c.listMicrovmImages({}),
    () => c.getMicrovm({ microvmIdentifier: 'microvm-none' }),
  ];

  for (const [rights, may] of [
    ['read', [look]],
    ['run', [look, operate]],
    ['admin', [look, operate, change]],
  ]) {
    test(`${rights}: what it may do and what it may not`, async () => {
      const key = await makeKey(rights);
      const c = client(key);
      for (const calls of [look, operate, change]) {
        const check = may.includes(calls) ? allowed : denied;
        for (const call of calls(c)) await check(call());
      }
      const s3 = new S3({ forcePathStyle: true, credentials: key, maxAttempts: 1 });
      const bucket = s3.createBucket({ Bucket: `keys-${rights}-${stamp}` });
      if (rights === 'admin') await bucket;
      else await assert.rejects(bucket, (e) => e.$metadata.httpStatusCode === 403);
      // Keys are for administrators.
      const keys = await signed(`${ext}/keys`, { keys: key });
      assert.equal(keys.status, rights === 'admin' ? 200 : 403);
      const exec = await post(`${ext}/microvms/microvm-none/exec`, { command: ['id'] }, { keys: key });
      assert.equal(exec.status, rights === 'read' ? 403 : 404);
      // Revoked: from the next request on, on the same connection.
      assert.equal((await revoke(key)).status, 200);
      await assert.rejects(c.listMicrovms({}), (e) => {
        assert.equal(e.name, 'UnrecognizedClientException', e.message);
        return true;
      });
      assert.equal((await revoke(key)).status, 404);
    });
  }

  test('a list shows no secrets; the last administrator stays', async () => {
    const key = await makeKey('read');
    const list = await signed(`${ext}/keys`);
    const mine = list.json.items.find((k) => k.accessKeyId === key.accessKeyId);
    assert.deepEqual(
      [mine.name, mine.rights, typeof mine.createdAt],
      ['e2e-read', 'read', 'number'],
    );
    assert.ok(!list.text.includes(key.secretAccessKey));
    await revoke(key);
    const own = { accessKeyId: need('AWS_ACCESS_KEY_ID') };
    const others = list.json.items.filter(
      (k) => k.rights === 'admin' && k.accessKeyId !== own.accessKeyId,
    );
    assert.deepEqual(others, [], 'an earlier test left an administrator');
    const last = await revoke(own);
    assert.equal(last.status, 409, last.text);
    assert.equal(last.headers['x-amzn-errortype'], 'ConflictException');
  });
});

// Server-sent events as an array that grows, until stop().
async function listen(lastId) {
  const signer = new SignatureV4({
    service: 'lambda',
    region,
    sha256: Sha256,
    credentials: {
      accessKeyId: need('AWS_ACCESS_KEY_ID'),
      secretAccessKey: need('AWS_SECRET_ACCESS_KEY'),
    },
  });
  const request = await signer.sign({
    method: 'GET',
    protocol: 'https:',
    hostname: url.hostname,
    port,
    path: `${ext}/events`,
    query: {},
    headers: { host: url.host, ...(lastId ? { 'last-event-id': lastId } : {}) },
  });
  const events = [];
  return new Promise((resolve, reject) => {
    const req = https.request(
      { host: url.hostname, port, path: `${ext}/events`, headers: request.headers, agent: false },
      (res) => {
        let text = '';
        let begun = false;
        res.on('error', () => {});
        res.on('data', (chunk) => {
          text += chunk;
          const blocks = text.split('\n\n');
          text = blocks.pop();
          for (const block of blocks) {
            const fields = Object.fromEntries(
              block.split('\n').map((l) => [l.split(':')[0], l.slice(l.indexOf(':') + 2)]),
            );
            if (fields.data)
              events.push({ id: fields.id, name: fields.event, ...JSON.parse(fields.data) });
          }
          if (!begun) resolve({ status: res.statusCode, headers: res.headers, events, stop: () => req.destroy() });
          begun = true;
        });
      },
    );
    req.on('error', reject);
    req.end();
  });
}

describe('microVMs', () => {
  const name = `ext-${stamp}`;
  let arn;
  let id;
  let first;

  const exec = (body, more) => post(`${ext}/microvms/${id}/exec`, body, more);
  const filesPath = (path, more = '') =>
    `${ext}/microvms/${id}/files?path=${encodeURIComponent(path)}${more}`;

  before(async () => {
    first = await listen();
    const image = await createImage(
      name,
      folder(new URL('apps/counter', import.meta.url).pathname),
      { resources: [{ minimumMemoryInMiB: 512 }] },
    );
    arn = image.imageArn;
    const built = await imageBuilt(arn, '1.0');
    assert.equal(built.state, 'CREATED');
  });

  after(async () => {
    first?.stop();
    if (id) await vms.terminateMicrovm({ microvmIdentifier: id }).catch(() => {});
    await vms.deleteMicrovmImage({ imageIdentifier: arn }).catch(() => {});
  });

  test('run with name, tags and environment', async () => {
    const run = await post(`${ext}/run`, {
      imageIdentifier: arn,
      name: 'web',
      tags: { team: 'a' },
      environmentVariables: { GREETING: "it's", EMPTY: '' },
    });
    assert.equal(run.status, 200, run.text);
    assert.equal(run.json.name, 'web');
    id = run.json.microvmId;
    await vmState(id, 'RUNNING');
    const got = await exec({ command: ['sh', '-c', '. /run/environment; echo "$GREETING"; cat /run/environment'] });
    assert.equal(got.json.stdout, "it's\nEMPTY=''\nGREETING='it'\\''s'\n");
    const details = await signed(`${ext}/microvms/${id}`);
    assert.deepEqual([details.json.name, details.json.tags], ['web', { team: 'a' }]);
    assert.ok(!details.text.includes('GREETING'));
    const plain = await vms.getMicrovm({ microvmIdentifier: id });
    assert.equal(plain.name, undefined);
  });

  test('commands', async () => {
    const both = await exec({
      command: ['sh', '-c', 'tr a-z A-Z; echo oh >&2; pwd; exit 3'],
      stdin: 'typed\n',
      workingDirectory: '/tmp',
    });
    assert.equal(both.status, 200, both.text);
    assert.deepEqual(
      [both.json.stdout, both.json.stderr, both.json.exitCode, both.json.timedOut],
      ['TYPED\n/tmp\n', 'oh\n', 3, false],
    );
    const bytes = await exec({ command: ['cat'], stdinBase64: '/wD+' });
    assert.equal(bytes.json.stdoutBase64, '/wD+');
    const long = await exec({ command: ['sleep', '100'], timeoutInSeconds: 1 });
    assert.deepEqual([long.json.signal, long.json.timedOut], [9, true]);
    const much = await exec({ command: ['yes'], timeoutInSeconds: 1, maxOutputBytes: 1000 });
    assert.deepEqual([much.json.stdout.length, much.json.stdoutTruncated], [1000, true]);
    const env = await exec({ command: ['/usr/bin/env'], environmentVariables: { A: '1' } });
    assert.match(env.json.stdout, /^A=1$/m);
    const user = await exec({ command: ['id', '-u'], user: '1234:1234' });
    assert.equal(user.json.stdout, '1234\n');
    const none = await exec({ command: ['/no/such/program'] });
    assert.equal(none.status, 404, none.text);
    assert.equal((await exec({ command: [] })).status, 400);
    assert.equal((await exec({ command: ['id'], workingDirectory: 'here' })).status, 400);
  });

  test('terminals', async () => {
    const t = await terminal(id, {
      command: ['sh', '-c', 'tty; stty size; read x; echo "got $x"; exit 7'],
      rows: 30,
      cols: 100,
    });
    assert.equal(t.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    await until('it shows its size', () => t.shown.includes('30 100'));
    assert.match(t.shown, /\/dev\/pts\/\d+/);
    assert.equal(t.texts[0].type, 'session_init');
    t.type('a ');
    t.order({ type: 'other' }); // typed, as it is no order
    t.type('\n');
    assert.deepEqual(await t.ended(), [1000, 'shell exited']);
    assert.match(t.shown, /got a {"type":"other"}/);
    assert.deepEqual(t.texts.at(-1), { type: 'exit', exitCode: 7 });

    const shell = await terminal(id, {});
    shell.order({ type: 'resize', rows: 40, cols: 120 });
    shell.type('stty size; echo $TERM; kill -9 $$\n');
    await shell.ended();
    assert.match(shell.shown, /40 120\s+xterm/);
    assert.deepEqual(shell.texts.at(-1), { type: 'exit', signal: 9 });

    const long = await terminal(id, { command: ['sh', '-c', 'stty raw -echo; echo ready; wc -c'] });
    await until('it reads', () => long.shown.includes('ready'));
    for (let i = 0; i < 50; i++) long.type('x'.repeat(1000));
    await new Promise((resolve) => long.socket.write('', resolve));
    long.socket.destroy(); // nobody is there any more: it is killed
    const gone = await terminal(id, { command: ['sh', '-c', 'echo pid $$; exec sleep 1000'] });
    await until('its number', () => /pid \d+/.test(gone.shown));
    gone.socket.destroy();
    const pid = /pid (\d+)/.exec(gone.shown)[1];
    await until('the command ends with its terminal', async () =>
      (await exec({ command: ['sh', '-c', `kill -0 ${pid}`] })).json.exitCode !== 0);

    const none = await terminal(id, { command: ['/no/such/program'] });
    assert.equal((await none.ended())[0], 1011);
    assert.equal(none.texts[0].type, 'error');
    const wrong = await terminal(id, { command: [], rows: 0 });
    await wrong.ended();
    assert.match(wrong.texts[0].message, /2 validation errors/);
    assert.equal((await terminal('microvm-none', {})).status, 404);
    const plain = await signed(`${ext}/microvms/${id}/terminal`);
    assert.equal(plain.status, 400, plain.text);
    assert.equal((await terminal(id, {}, { headers: { 'sec-websocket-version': '12' } })).status, 400);
    const reader = await makeKey('read');
    assert.equal((await terminal(id, {}, { keys: reader })).status, 403);
    await revoke(reader);
  });

  test("a shell through the microVM's endpoint", async () => {
    const connectors = ['SHELL_INGRESS', 'HTTP_INGRESS'].map((c) =>
      `arn:aws:lambda:${region}:aws:network-connector:aws-network-connector:${c}`);
    const vm = await vms.runMicrovm({
      imageIdentifier: arn,
      ingressNetworkConnectors: connectors,
      idlePolicy: { maxIdleDurationSeconds: 600, suspendedDurationSeconds: 600, autoResumeEnabled: true },
    });
    const answer = await vms.createMicrovmShellAuthToken({
      microvmIdentifier: vm.microvmId, expirationInMinutes: 5,
    });
    const token = answer.authToken['X-aws-proxy-auth'];
    const offered = ['lambda-microvms', `lambda-microvms.authentication.${token}`, 'lambda-microvms.port.8022'];
    await vmState(vm.microvmId, 'RUNNING');
    await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
    await vmState(vm.microvmId, 'SUSPENDED'); // a shell wakes it as a request does
    const t = await endpointShell(vm.endpoint, { 'sec-websocket-protocol': offered.join(', ') });
    assert.equal(t.status, 101);
    assert.equal(t.headers['sec-websocket-protocol'], 'lambda-microvms');
    await until('the greeting', () => t.texts.length > 0);
    assert.equal(t.texts[0].type, 'session_init');
    assert.match(t.texts[0].session_id, /^[0-9a-f-]{36}$/);
    t.order({ type: 'resize', cols: 132, rows: 43 });
    t.type('echo "as $(id -u) on $TERM"; stty size; exit 3\n');
    assert.deepEqual(await t.ended(), [1000, 'shell exited']);
    assert.match(t.shown, /as 0 on xterm\s+43 132/);
    assert.equal(t.texts.length, 1); // how it ended is not AWS's to say

    const other = await endpointShell(vm.endpoint, { 'x-aws-proxy-auth': token }, '/');
    assert.equal(other.status, 101);
    assert.equal(other.headers['sec-websocket-protocol'], undefined);
    await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
    assert.equal((await other.ended())[0], 1001);
    // Neither for plain requests, nor with a token for ports, nor for other microVMs.
    const plain = await fetchVm(vm.endpoint, '/shell', { token });
    assert.deepEqual([plain.status, plain.json.code], [502, 'SHELL_NEEDS_WEBSOCKET']);
    const ports = await authToken(vm.microvmId);
    assert.notEqual((await endpointShell(vm.endpoint, { 'x-aws-proxy-auth': ports })).status, 101);
    const there = (await vms.getMicrovm({ microvmIdentifier: id })).endpoint;
    assert.equal((await endpointShell(there, { 'x-aws-proxy-auth': token })).status, 403);
    await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
  });

  test('files', async () => {
    const piece = 'x'.repeat(100_000);
    const put = await signed(filesPath('/srv/new/file', '&mode=750'), { method: 'PUT', body: piece });
    assert.equal(put.status, 200, put.text);
    assert.equal(put.json.nextOffset, 100_000);
    const more = await signed(filesPath('/srv/new/file', '&offset=100000'), { method: 'PUT', body: 'end' });
    assert.equal(more.json.nextOffset, 100_003);
    const tail = await signed(filesPath('/srv/new/file', '&offset=99998&limit=4'));
    assert.equal(tail.text, 'xxen');
    assert.equal(tail.headers['x-dormouse-next-offset'], '100002');
    assert.equal(tail.headers['x-dormouse-file-size'], '100003');
    assert.equal(tail.headers['x-dormouse-end-of-file'], 'false');
    const whole = await signed(filesPath('/srv/new/file'));
    assert.equal(whole.text, `${piece}end`);
    assert.equal(whole.headers['x-dormouse-end-of-file'], 'true');
    const list = await signed(`${ext}/microvms/${id}/directory?path=/srv/new`);
    assert.deepEqual(
      list.json.items.map(({ name: n, type, mode, size }) => [n, type, mode, size]),
      [['file', 'file', '0750', 100_003]],
    );
    assert.equal((await signed(filesPath('/srv/none'))).status, 404);
    assert.equal((await signed(filesPath('/srv/new'))).status, 400);
    assert.equal((await signed(filesPath('relative'))).status, 400);
    assert.equal((await signed(`${ext}/microvms/${id}/files`)).status, 400);
    const large = await signed(filesPath('/srv/large'), { method: 'PUT', body: 'y'.repeat(4 * 1024 * 1024 + 1) });
    assert.equal(large.status, 400);
  });

  test('update, and a suspended one wakes for a command', async () => {
    const update = (body) =>
      signed(`${ext}/microvms/${id}`, { method: 'PATCH', body: JSON.stringify(body) });
    const idlePolicy = {
      maxIdleDurationSeconds: 600,
      suspendedDurationSeconds: 1000,
      autoResumeEnabled: true,
    };
    const done = await update({ idlePolicy, maximumDurationInSeconds: 7200, name: 'other', tags: {} });
    assert.equal(done.status, 200, done.text);
    const got = await vms.getMicrovm({ microvmIdentifier: id });
    assert.deepEqual([got.idlePolicy, got.maximumDurationInSeconds], [idlePolicy, 7200]);
    const open = await terminal(id, { command: ['cat'] });
    await until('it runs', () => open.texts.length > 0);
    await vms.suspendMicrovm({ microvmIdentifier: id });
    assert.deepEqual(await open.ended(), [1001, 'the microVM ended or was suspended']);
    const woken = await exec({ command: ['cat', '/srv/new/file'], maxOutputBytes: 3 });
    assert.equal(woken.json?.stdout, 'xxx', woken.text);
    assert.equal((await vms.getMicrovm({ microvmIdentifier: id })).state, 'RUNNING');
    // Without an idle policy nothing wakes it but ResumeMicrovm.
    assert.equal((await update({ removeIdlePolicy: true })).json.idlePolicy, undefined);
    await vms.suspendMicrovm({ microvmIdentifier: id });
    const asleep = await exec({ command: ['id'] });
    assert.equal(asleep.status, 409, asleep.text);
    await vms.resumeMicrovm({ microvmIdentifier: id });
    assert.equal((await update({ maximumDurationInSeconds: 28_801 })).status, 400);
    assert.equal((await update({ name: 'a b' })).status, 400);
  });

  test('events, and what was missed', async () => {
    assert.equal(first.status, 200);
    assert.equal(first.headers['content-type'], 'text/event-stream');
    const mine = () => first.events.filter((e) => e.microvmId === id).map((e) => e.state);
    await until('the events to come', () => mine().length >= 8);
    assert.deepEqual(mine(), [
      'PENDING', 'RUNNING', 'SUSPENDING', 'SUSPENDED', 'RUNNING', 'SUSPENDING', 'SUSPENDED', 'RUNNING',
    ]);
    const image = first.events.find((e) => e.type === 'image' && e.image === name);
    assert.deepEqual([image.imageVersion, image.state], ['1.0', 'SUCCESSFUL']);
    const third = first.events.filter((e) => e.microvmId === id)[2];
    const again = await listen(third.id);
    await until('the rest', () => again.events.filter((e) => e.microvmId === id).length >= 5);
    assert.equal(again.events[0].state, 'SUSPENDED');
    assert.ok(again.events.every((e) => e.name === undefined));
    again.stop();
    const stranger = await listen('00000000-1');
    await until('the reset', () => stranger.events.length);
    assert.equal(stranger.events[0].name, 'reset');
    stranger.stop();
  });

  test('metrics', async () => {
    const basic = (user, password) => ({
      headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` },
    });
    const good = await raw('/metrics', basic(need('AWS_ACCESS_KEY_ID'), need('AWS_SECRET_ACCESS_KEY')));
    assert.equal(good.status, 200);
    assert.match(good.headers['content-type'], /^text\/plain; version=0\.0\.4/);
    const value = (line) => Number(good.text.split('\n').find((l) => l.startsWith(`${line} `))?.split(' ')[1]);
    for (const phase of ['embryo', 'load', 'guest', 'hook', 'end', 'total']) {
      assert.ok(value(`dormouse_run_seconds_count{phase="${phase}"}`) >= 1, phase);
      assert.ok(value(`dormouse_resume_seconds_count{phase="${phase}"}`) >= 2, phase);
    }
    for (const phase of ['hook', 'freeze', 'save', 'paused', 'total'])
      assert.ok(value(`dormouse_suspend_seconds_count{phase="${phase}"}`) >= 2, phase);
    assert.ok(value('dormouse_run_seconds_sum{phase="total"}') > 0);
    assert.ok(value('dormouse_microvms{state="RUNNING"}') >= 1);
    assert.ok(value('dormouse_operations_total{operation="ExecuteCommand",outcome="ok"}') >= 5);
    assert.ok(value('dormouse_requests_total{door="api",outcome="client_error"}') >= 1);
    // One line for each name and labels.
    const names = good.text.split('\n').filter((l) => l && l[0] !== '#').map((l) => l.split(' ')[0]);
    assert.equal(new Set(names).size, names.length);
    const same = await signed(`${ext}/metrics`);
    assert.equal(same.status, 200);
    for (const wrong of [{}, basic('x', 'y'), basic(need('AWS_ACCESS_KEY_ID'), 'wrong')])
      assert.equal((await raw('/metrics', wrong)).status, 401);
  });
});

test('secrets are in no log', () => {
  const log = readFileSync(`${need('DORMOUSE_RUN')}/dormoused.log`, 'utf8');
  assert.ok(log.length > 0);
  assert.ok(!log.includes(need('AWS_SECRET_ACCESS_KEY')));
  assert.ok(!log.includes("it's"));
});
