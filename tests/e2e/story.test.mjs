// SPDX-License-Identifier: Apache-2.0
// The life of a microVM end to end, and what must be refused on the way. Run by `make check-e2e`.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import {
  authToken,
  baseArn,
  createImage,
  fetchVm,
  folder,
  imageBuilt,
  makeZip,
  raw,
  region,
  roleArn,
  s3,
  signed,
  until,
  vms,
  vmState,
} from './lib.mjs';

const app = folder(new URL('./apps/counter', import.meta.url).pathname);
const stamp = Date.now().toString(36);
let image;

async function host() {
  const answer = await signed('/dormouse/v1/host');
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}

// Waits until nothing but prepared machines is left: no VMM, tap or slot of ours.
async function quiet() {
  await until('the host to be quiet', async () => (await host()).slotsInUse === 0, { timeout: 30_000 });
}

before(async () => {
  const created = await createImage(`story-${stamp}`, app, { resources: [{ minimumMemoryInMiB: 512 }] });
  assert.equal(created.state, 'CREATING');
  assert.equal(created.imageVersion, '1.0');
  const lines = [];
  const got = await imageBuilt(created.imageArn, '1.0', (l) => lines.push(l));
  assert.equal(got.state, 'CREATED', lines.join('\n'));
  assert.equal(got.latestActiveImageVersion, '1.0');
  assert.ok(lines.some((l) => l.includes('RUN python3 -m py_compile')), lines.join('\n'));
  image = created.imageArn;
});

after(async () => {
  for (const vm of (await vms.listMicrovms({ imageIdentifier: image })).items)
    if (vm.state !== 'TERMINATED') await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
  await quiet();
  await vms.deleteMicrovmImage({ imageIdentifier: image });
});

async function run(options = {}) {
  const vm = await vms.runMicrovm({ imageIdentifier: image, ...options });
  assert.equal(vm.state, 'PENDING');
  return { ...vm, token: await authToken(vm.microvmId) };
}

test('memory and disk go on after SuspendMicrovm and ResumeMicrovm', async () => {
  const vm = await run();
  for (let i = 1; i <= 3; i++) {
    const r = await fetchVm(vm.endpoint, '/', { token: vm.token });
    assert.equal(r.status, 200, r.text);
    assert.equal(r.json.count, i);
    assert.equal(r.json.journal, i);
    assert.equal(r.json.greeting, 'hello from a microVM');
  }
  for (let round = 0; round < 2; round++) {
    await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
    await vmState(vm.microvmId, 'SUSPENDED');
    await vms.resumeMicrovm({ microvmIdentifier: vm.microvmId });
    await vmState(vm.microvmId, 'RUNNING');
    const r = await fetchVm(vm.endpoint, '/', { token: vm.token });
    assert.equal(r.json?.count, 4 + round, r.text);
    assert.equal(r.json.journal, 4 + round);
  }
  await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
  const gone = await until('TERMINATED', async () => {
    const got = await vms.getMicrovm({ microvmIdentifier: vm.microvmId });
    return got.state === 'TERMINATED' ? got : undefined;
  });
  assert.ok(gone.terminatedAt instanceof Date);
});

test('the next request wakes a suspended microVM', async () => {
  const vm = await run({
    idlePolicy: { maxIdleDurationSeconds: 600, suspendedDurationSeconds: 600, autoResumeEnabled: true },
  });
  assert.equal((await fetchVm(vm.endpoint, '/', { token: vm.token })).json?.count, 1);
  await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
  await vmState(vm.microvmId, 'SUSPENDED');
  const r = await fetchVm(vm.endpoint, '/', { token: vm.token });
  assert.equal(r.json?.count, 2, r.text);
  assert.ok(Number(r.headers['x-dormouse-resumed']) > 0, 'the answer says that it was woken');
  await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
});

test('without auto-resume a suspended microVM answers 502', async () => {
  const vm = await run({
    idlePolicy: { maxIdleDurationSeconds: 600, suspendedDurationSeconds: 600, autoResumeEnabled: false },
  });
  assert.equal((await fetchVm(vm.endpoint, '/', { token: vm.token })).status, 200);
  await vms.suspendMicrovm({ microvmIdentifier: vm.microvmId });
  await vmState(vm.microvmId, 'SUSPENDED');
  const r = await fetchVm(vm.endpoint, '/', { token: vm.token });
  assert.equal(r.status, 502);
  await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
});

test('the idle policy suspends', async () => {
  const vm = await run({
    idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 600, autoResumeEnabled: true },
  });
  assert.equal((await fetchVm(vm.endpoint, '/', { token: vm.token })).json?.count, 1);
  const quietSince = Date.now();
  await vmState(vm.microvmId, 'SUSPENDED', 90_000);
  const idle = (Date.now() - quietSince) / 1000;
  assert.ok(idle >= 59, `suspended after only ${idle} s`);
  assert.equal((await fetchVm(vm.endpoint, '/', { token: vm.token })).json?.count, 2);
  await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
});

test('clones differ in randomness and do not share state', async () => {
  const all = await Promise.all([1, 2, 3, 4].map(() => run()));
  const uuids = await Promise.all(
    all.map(async (vm) => (await fetchVm(vm.endpoint, '/uuid', { token: vm.token })).json?.uuid),
  );
  assert.equal(new Set(uuids).size, all.length, uuids.join(' '));
  for (const [i, vm] of all.entries())
    for (let n = 0; n <= i; n++)
      assert.equal((await fetchVm(vm.endpoint, '/', { token: vm.token })).json?.count, n + 1);
  await Promise.all(all.map((vm) => vms.terminateMicrovm({ microvmIdentifier: vm.microvmId })));
});

test('the endpoint refuses missing, wrong and foreign tokens, and other ports', async () => {
  const [a, b] = [await run(), await run()];
  const ok = await fetchVm(a.endpoint, '/peek', { token: a.token });
  assert.equal(ok.status, 200, ok.text);
  const refused = {
    missing: await fetchVm(a.endpoint, '/peek'),
    wrong: await fetchVm(a.endpoint, '/peek', { token: 'nonsense' }),
    foreign: await fetchVm(b.endpoint, '/peek', { token: a.token }),
    damaged: await fetchVm(a.endpoint, '/peek', { token: `${a.token.slice(0, -6)}AAAAAA` }),
    port: await fetchVm(a.endpoint, '/peek', { token: a.token, headers: { 'X-aws-proxy-port': '22' } }),
  };
  for (const [what, r] of Object.entries(refused)) {
    assert.equal(r.status, 403, `${what}: ${r.status}`);
    assert.equal(r.headers['x-aws-proxy-error'], 'UNAUTHORIZED', what);
  }
  const all = await authToken(a.microvmId, [{ allPorts: {} }]);
  const closed = await fetchVm(a.endpoint, '/', { token: all, headers: { 'X-aws-proxy-port': '81' } });
  assert.equal(closed.status, 502);
  assert.equal(closed.headers['x-aws-proxy-error'], 'APP_CONNECT_FAILED');
  for (const vm of [a, b]) await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
});

test('exit of the main process ends the microVM with a reason', async () => {
  const name = `exits-${stamp}`;
  const program = [
    'import os, http.server as h',
    'class H(h.BaseHTTPRequestHandler):',
    '    def do_GET(self):',
    '        os._exit(3)',
    "h.HTTPServer(('', 8080), H).serve_forever()",
  ].join('\n');
  const created = await createImage(
    name,
    { Dockerfile: 'FROM dormouse/python\nCOPY x.py /x.py\nEXPOSE 8080\nCMD ["python3", "/x.py"]\n', 'x.py': program },
    { resources: [{ minimumMemoryInMiB: 512 }] },
  );
  const built = await imageBuilt(created.imageArn, '1.0');
  assert.equal(built.state, 'CREATED');
  const vm = await vms.runMicrovm({ imageIdentifier: created.imageArn });
  const broken = await fetchVm(vm.endpoint, '/', { token: await authToken(vm.microvmId) });
  assert.equal(broken.status, 502);
  const gone = await until('TERMINATED', async () => {
    const got = await vms.getMicrovm({ microvmIdentifier: vm.microvmId });
    return got.state === 'TERMINATED' ? got : undefined;
  });
  assert.match(gone.stateReason, /3/);
  await vms.deleteMicrovmImage({ imageIdentifier: created.imageArn });
});

test('an application that ends before its snapshot fails the build', async () => {
  const name = `early-${stamp}`;
  const created = await createImage(
    name,
    { Dockerfile: 'FROM dormouse/debian\nCMD ["/bin/sh", "-c", "exit 3"]\n' },
    { resources: [{ minimumMemoryInMiB: 512 }] },
  );
  assert.equal((await imageBuilt(created.imageArn, '1.0')).state, 'CREATE_FAILED');
  const builds = await vms.listMicrovmImageBuilds({ imageIdentifier: created.imageArn, imageVersion: '1.0' });
  assert.match(builds.items[0].stateReason, /3/);
  await vms.deleteMicrovmImage({ imageIdentifier: created.imageArn });
});

const badImages = {
  'zip without Dockerfile': [{ 'app.py': 'print(1)' }, /ARCHIVE_DOCKERFILE_NOT_FOUND/],
  'failing RUN': [{ Dockerfile: 'FROM dormouse/debian\nRUN echo before; exit 7\nCMD ["/bin/true"]\n' }, /CONTAINER_BUILD_FAILED.*7/s],
  'missing CMD': [{ Dockerfile: 'FROM dormouse/debian\nRUN true\n' }, /CMD/],
  'unknown instruction': [{ Dockerfile: 'FROM dormouse/debian\nFROBNICATE x\nCMD ["/bin/true"]\n' }, /2.*FROBNICATE|FROBNICATE.*2/s],
  'unknown base': [{ Dockerfile: 'FROM dormouse/nothing\nCMD ["/bin/true"]\n' }, /dormouse\/nothing/],
  'CMD that is not there': [{ Dockerfile: 'FROM dormouse/debian\nCMD ["/no/such/program"]\n' }, /no such|not found/i],
};

for (const [what, [entries, reason]] of Object.entries(badImages)) {
  test(`image with ${what} fails with its reason and leaves nothing`, async () => {
    const name = `bad-${what.replace(/[^a-z]+/gi, '-')}-${stamp}`;
    const created = await createImage(name, entries, { resources: [{ minimumMemoryInMiB: 512 }] });
    const got = await imageBuilt(created.imageArn, '1.0');
    assert.equal(got.state, 'CREATE_FAILED');
    assert.equal(got.latestFailedImageVersion, '1.0');
    const builds = await vms.listMicrovmImageBuilds({ imageIdentifier: created.imageArn, imageVersion: '1.0' });
    assert.equal(builds.items[0].buildState, 'FAILED');
    assert.match(builds.items[0].stateReason, reason);
    await assert.rejects(vms.runMicrovm({ imageIdentifier: created.imageArn }), { name: 'ResourceNotFoundException' });
    await vms.deleteMicrovmImage({ imageIdentifier: created.imageArn });
  });
}

test('builds that need half of the memory each come one after the other', async () => {
  const entries = { Dockerfile: 'FROM dormouse/debian\nRUN exit 7\nCMD ["/bin/true"]\n' };
  const made = await Promise.all(['one', 'two'].map((n) =>
    createImage(`large-${n}-${stamp}`, entries, { resources: [{ minimumMemoryInMiB: 8192 }] })));
  const logs = await Promise.all(made.map(async ({ imageArn }) => {
    const lines = [];
    await imageBuilt(imageArn, '1.0', (l) => lines.push(l));
    const builds = await vms.listMicrovmImageBuilds({ imageIdentifier: imageArn, imageVersion: '1.0' });
    assert.match(builds.items[0].stateReason, /CONTAINER_BUILD_FAILED.*7/s);
    await vms.deleteMicrovmImage({ imageIdentifier: imageArn });
    return lines.join('\n');
  }));
  assert.equal(logs.filter((l) => l.includes('waiting for memory')).length, 1, logs.join('\n'));
});

test('a zip that is not one, and one that is not there', async () => {
  await s3.putObject({ Bucket: 'artifacts', Key: `junk-${stamp}.zip`, Body: Buffer.alloc(5000, 'x') });
  for (const [key, reason] of [[`junk-${stamp}.zip`, /ARCHIVE_INVALID/], ['absent.zip', /S3_NO_SUCH_KEY/]]) {
    const created = await vms.createMicrovmImage({
      name: `junk-${key.slice(0, 4)}-${stamp}`,
      baseImageArn: baseArn,
      buildRoleArn: roleArn,
      codeArtifact: { uri: `s3://artifacts/${key}` },
    });
    const got = await imageBuilt(created.imageArn, '1.0');
    assert.equal(got.state, 'CREATE_FAILED');
    const builds = await vms.listMicrovmImageBuilds({ imageIdentifier: created.imageArn, imageVersion: '1.0' });
    assert.match(builds.items[0].stateReason, reason);
    await vms.deleteMicrovmImage({ imageIdentifier: created.imageArn });
  }
});

test('unknown route, bad signature and malformed JSON get the errors AWS gives', async () => {
  const unknown = await signed('/2025-09-09/no-such-thing');
  assert.equal(unknown.status, 404);
  assert.ok(unknown.headers['x-amzn-errortype']);
  assert.ok(unknown.headers['x-amzn-requestid']);
  const unsigned = await raw('/2025-09-09/microvms');
  assert.equal(unsigned.status, 403);
  assert.match(unsigned.headers['x-amzn-errortype'], /MissingAuthenticationToken/);
  const wrong = await signed('/2025-09-09/microvms', {
    keys: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: 'wrong' },
  });
  assert.equal(wrong.status, 403);
  assert.match(wrong.headers['x-amzn-errortype'], /InvalidSignature/);
  const stranger = await signed('/2025-09-09/microvms', {
    keys: { accessKeyId: 'AKIANOBODY', secretAccessKey: 'wrong' },
  });
  assert.equal(stranger.status, 403);
  assert.match(stranger.headers['x-amzn-errortype'], /UnrecognizedClient/);
  const malformed = await signed('/2025-09-09/microvms', { method: 'POST', body: '{"imageIdentifier": ' });
  assert.equal(malformed.status, 400);
  await assert.rejects(vms.getMicrovm({ microvmIdentifier: 'microvm-nope' }), { name: 'ResourceNotFoundException' });
  await assert.rejects(
    vms.runMicrovm({ imageIdentifier: `arn:aws:lambda:${region}:000000000000:microvm-image:none` }),
    { name: 'ResourceNotFoundException' },
  );
});

test('an upload is what it was', async () => {
  const body = makeZip({ a: Buffer.alloc(3_000_000, 'dormouse') });
  await s3.putObject({ Bucket: 'artifacts', Key: 'folder/ä b+c.zip', Body: body });
  const got = await s3.getObject({ Bucket: 'artifacts', Key: 'folder/ä b+c.zip' });
  assert.ok(body.equals(Buffer.from(await got.Body.transformToByteArray())));
  await s3.deleteObject({ Bucket: 'artifacts', Key: 'folder/ä b+c.zip' });
});
