// SPDX-License-Identifier: Apache-2.0
// The story of a microVM, told with the unmodified AWS SDK. Run by `make demo`.

import {
  authToken,
  createImage,
  fetchVm,
  folder,
  imageBuilt,
  signed,
  until,
  vms,
  vmState,
} from './lib.mjs';

const start = performance.now();
const bold = process.stdout.isTTY ? (s) => `\x1b[1m${s}\x1b[0m` : (s) => s;
const dim = process.stdout.isTTY ? (s) => `\x1b[2m${s}\x1b[0m` : (s) => s;
const at = () => `${((performance.now() - start) / 1000).toFixed(1).padStart(6)} s`;
const tell = (what, detail = '') => console.log(`${at()}  ${bold(what.padEnd(11))} ${detail}`);
const size = (n) => (n >= 1 << 20 ? `${(n / (1 << 20)).toFixed(1)} MiB` : `${Math.ceil(n / 1024)} KiB`);

function insist(cond, what) {
  if (!cond) throw new Error(what);
}

async function dropImage(name) {
  const list = await vms.listMicrovmImages({ nameFilter: name });
  const old = list.items.find((i) => i.name === name);
  if (!old) return;
  const running = await vms.listMicrovms({ imageIdentifier: old.imageArn });
  for (const vm of running.items) {
    if (vm.state !== 'TERMINATED') {
      await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
      await vmState(vm.microvmId, 'TERMINATED').catch(() => {});
    }
  }
  await vms.deleteMicrovmImage({ imageIdentifier: old.imageArn });
  await until('the old image to be gone', async () => {
    const now = await vms.listMicrovmImages({ nameFilter: name });
    return !now.items.some((i) => i.name === name);
  });
}

async function main() {
  const app = new URL('./apps/counter', import.meta.url).pathname;
  await dropImage('counter');

  const files = folder(app);
  tell('pack', `${Object.keys(files).join(' + ')} -> zip -> PutObject s3://artifacts/counter.zip`);
  const created = await createImage('counter', files, { resources: [{ minimumMemoryInMiB: 512 }] });
  tell('build', `CreateMicrovmImage -> ${created.imageArn}`);
  const image = await imageBuilt(created.imageArn, created.imageVersion, (line) =>
    console.log(dim(`          | ${line}`)),
  );
  const builds = await vms.listMicrovmImageBuilds({
    imageIdentifier: created.imageArn,
    imageVersion: created.imageVersion,
  });
  if (image.state !== 'CREATED')
    throw new Error(`the image is ${image.state}: ${builds.items[0]?.stateReason || 'no reason given'}`);
  const build = await vms.getMicrovmImageBuild({
    imageIdentifier: created.imageArn,
    imageVersion: created.imageVersion,
    buildId: builds.items[0].buildId,
  });
  const sizes = build.snapshotBuild;
  tell('snapshot', `${size(sizes.memorySnapshotSizeInBytes)} of memory, ` +
    `${size(sizes.diskSnapshotSizeInBytes)} of disk: every run continues from here`);

  const idlePolicy = { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 3600, autoResumeEnabled: true };
  const run = async () => {
    const asked = performance.now();
    const vm = await vms.runMicrovm({ imageIdentifier: created.imageArn, idlePolicy });
    const token = await authToken(vm.microvmId);
    const first = await fetchVm(vm.endpoint, '/peek', { token });
    insist(first.status === 200, `the endpoint answered ${first.status}: ${first.text}`);
    return { ...vm, token, ms: performance.now() - asked };
  };
  const a = await run();
  tell('run', `${a.microvmId} answers after ${a.ms.toFixed(0)} ms at https://${a.endpoint}/`);
  for (let i = 1; i <= 3; i++) {
    const r = await fetchVm(a.endpoint, '/', { token: a.token });
    insist(r.json?.count === i && r.json.journal === i, `unexpected answer: ${r.text}`);
  }
  const before = await fetchVm(a.endpoint, '/peek', { token: a.token });
  const quietSince = performance.now();
  tell('use', `three requests: counter in memory ${before.json.count}, lines on disk ${before.json.journal}`);

  const b = await run();
  const [ua, ub] = [await fetchVm(a.endpoint, '/uuid', { token: a.token }),
    await fetchVm(b.endpoint, '/uuid', { token: b.token })];
  insist(ua.json.uuid !== ub.json.uuid, 'two clones produced the same random uuid');
  const other = await fetchVm(b.endpoint, '/peek', { token: b.token });
  insist(other.json.count === 0 && other.json.journal === 0, 'the second microVM shares state');
  tell('clone', `a second one, ${b.ms.toFixed(0)} ms: own counter (${other.json.count}), own randomness:`);
  console.log(`            ${ua.json.uuid}\n            ${ub.json.uuid}`);
  const stranger = await fetchVm(b.endpoint, '/peek', { token: a.token });
  insist(stranger.status === 403, `a foreign token was answered with ${stranger.status}`);
  const asked = performance.now();
  await vms.suspendMicrovm({ microvmIdentifier: b.microvmId });
  await vmState(b.microvmId, 'SUSPENDED');
  const slept = performance.now() - asked;
  const woken = await fetchVm(b.endpoint, '/peek', { token: b.token });
  insist(woken.status === 200 && woken.json.count === 0, `after resume: ${woken.status} ${woken.text}`);
  tell('suspend', `SuspendMicrovm: ${slept.toFixed(0)} ms; the next request wakes it: ${woken.ms.toFixed(0)} ms`);
  await vms.terminateMicrovm({ microvmIdentifier: b.microvmId });

  tell('idle', 'nobody asks; the idle policy (60 s) suspends the first one …');
  await vmState(a.microvmId, 'SUSPENDED', 120_000);
  const detail = await signed(`/dormouse/v1/microvms/${a.microvmId}`);
  tell('asleep', `SUSPENDED ${((performance.now() - quietSince) / 1000).toFixed(0)} s after its last use; ` +
    `${detail.json?.suspendedBytes ? size(detail.json.suspendedBytes) : 'an unknown amount'} on disk, no process`);
  const again = await fetchVm(a.endpoint, '/', { token: a.token });
  insist(again.status === 200, `after the idle suspend: ${again.status} ${again.text}`);
  insist(again.json.count === 4 && again.json.journal === 4, `state was lost: ${again.text}`);
  tell('awake', `same request, ${again.ms.toFixed(0)} ms: counter ${again.json.count}, lines on disk ` +
    `${again.json.journal}, same pid ${again.json.pid}`);

  await vms.terminateMicrovm({ microvmIdentifier: a.microvmId });
  await vmState(a.microvmId, 'TERMINATED').catch(() => {});
  await vmState(b.microvmId, 'TERMINATED').catch(() => {});
  tell('terminate', 'both are gone; the image stays');

  console.log(`
The system is up. Next:
  . build/run/env                       # endpoint, keys and CA for any AWS SDK or CLI
  node tests/e2e/demo.mjs               # this story again
  make down                             # stop it; state stays for the next \`make up\`
  make help`);
}

try {
  await main();
} catch (e) {
  console.error(`\nerror: the story ended early: ${e.message}`);
  console.error('  try:  the host\'s console log is build/run/console.log');
  process.exit(1);
}
