// SPDX-License-Identifier: Apache-2.0
// The control API with the unmodified AWS SDK: every operation's success, its documented errors
// with their names, statuses and texts, and pagination. Run by `make check-e2e`.
//
// First what needs no image, then images whose build fails at once (their archive does not
// exist), then one image that is really built, and microVMs of it.

import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import {
  LambdaMicrovms,
  LambdaMicrovmsClient,
  paginateListManagedMicrovmImages,
  paginateListMicrovmImages,
  paginateListMicrovmImageVersions,
  paginateListMicrovms,
} from '@aws-sdk/client-lambda-microvms';
import {
  account,
  baseArn,
  createImage,
  ensureBucket,
  folder,
  imageBuilt,
  raw,
  region,
  roleArn,
  signed,
  until,
  vms,
  vmState,
} from './lib.mjs';

const stamp = Date.now().toString(36);
const client = new LambdaMicrovmsClient({ maxAttempts: 1 });
const imageArn = (name) => `arn:aws:lambda:${region}:${account}:microvm-image:${name}`;
const connector = (name) =>
  `arn:aws:lambda:${region}:aws:network-connector:aws-network-connector:${name}`;
const nowhere = imageArn(`nowhere-${stamp}`);
const missing = { uri: 's3://artifacts/there-is-no-such-key.zip' };

// The call fails with this error: name, HTTP status and text as a client sees them.
async function fails(call, name, status, message, more = {}) {
  let error;
  try {
    await call;
  } catch (e) {
    error = e;
  }
  assert.ok(error, `no ${name}: the call succeeded`);
  assert.equal(error.name, name, error.message);
  assert.equal(error.$metadata.httpStatusCode, status);
  assert.match(error.$metadata.requestId ?? '', /^[0-9a-f-]{36}$/);
  if (message instanceof RegExp) assert.match(error.message, message);
  else if (message) assert.equal(error.message, message);
  for (const [key, value] of Object.entries(more)) assert.equal(error[key], value, key);
}

const invalid = (call, message) => fails(call, 'ValidationException', 400, message);
const conflict = (call, message, more) => fails(call, 'ConflictException', 409, message, more);
const notFound = (call, message, more) =>
  fails(call, 'ResourceNotFoundException', 404, message, more);
const constraint = (member, text) =>
  `1 validation error detected: Value at '${member}' failed to satisfy constraint: ${text}`;

async function collect(pages) {
  const items = [];
  let count = 0;
  for await (const page of pages) {
    count++;
    items.push(...page.items);
    assert.ok(count < 1000, 'the pages have no end');
  }
  return { items, pages: count };
}

function sameMembers(object, wanted) {
  assert.deepEqual(
    Object.keys(object).filter((k) => k !== '$metadata' && object[k] !== undefined).sort(),
    [...wanted].sort(),
  );
}

const create = (name, more = {}) =>
  vms.createMicrovmImage({
    name,
    baseImageArn: baseArn,
    buildRoleArn: roleArn,
    codeArtifact: missing,
    ...more,
  });
const settled = (arn) =>
  until(`${arn} to settle`, async () => {
    const i = await vms.getMicrovmImage({ imageIdentifier: arn });
    return i.state.endsWith('ING') ? undefined : i;
  });

describe('requests that are wrong by themselves', () => {
  test('RunMicrovm members', async () => {
    const run = (more) => vms.runMicrovm({ imageIdentifier: nowhere, ...more });
    await invalid(
      run({ runHookPayload: 'x'.repeat(16385) }),
      constraint('runHookPayload', 'Member must have length less than or equal to 16384'),
    );
    await invalid(
      run({ idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 0 } }),
      "1 validation error detected: Value null at 'idlePolicy.autoResumeEnabled' failed to " +
        'satisfy constraint: Member must not be null',
    );
    await invalid(
      run({
        idlePolicy: { maxIdleDurationSeconds: 59, suspendedDurationSeconds: -1, autoResumeEnabled: true },
      }),
      /^2 validation errors detected: .*'idlePolicy.maxIdleDurationSeconds'.*greater than or equal to 60; .*'idlePolicy.suspendedDurationSeconds'.*greater than or equal to 0$/,
    );
    await invalid(
      run({ maximumDurationInSeconds: 0 }),
      constraint('maximumDurationInSeconds', 'Member must have value greater than or equal to 1'),
    );
    await invalid(
      run({ maximumDurationInSeconds: 28801 }),
      constraint('maximumDurationInSeconds', 'Member must have value less than or equal to 28800'),
    );
    await invalid(
      run({ executionRoleArn: 'arn:aws:iam::1:role/too-short-an-account' }),
      /'executionRoleArn' .* regular expression pattern: arn:aws/,
    );
    await invalid(
      run({ ingressNetworkConnectors: Array(11).fill(connector('HTTP_INGRESS')) }),
      constraint('ingressNetworkConnectors', 'Member must have length less than or equal to 10'),
    );
    await invalid(
      run({ clientToken: 'x'.repeat(129) }),
      constraint('clientToken', 'Member must have length less than or equal to 128'),
    );
    await invalid(
      vms.runMicrovm({}),
      "1 validation error detected: Value null at 'imageIdentifier' failed to satisfy " +
        'constraint: Member must not be null',
    );
  });

  test('constraints come before ARNs, ARNs before the state', async () => {
    await invalid(
      vms.runMicrovm({ imageIdentifier: 'box', maximumDurationInSeconds: 0 }),
      /maximumDurationInSeconds/,
    );
    await invalid(
      vms.runMicrovm({ imageIdentifier: 'box' }),
      "Malformed ARN - doesn't start with 'arn:'",
    );
    await invalid(
      vms.runMicrovm({ imageIdentifier: nowhere, ingressNetworkConnectors: ['HTTP_INGRESS'] }),
      'Malformed network connector ARN',
    );
    await invalid(
      vms.runMicrovm({ imageIdentifier: nowhere, logging: { cloudWatch: {} } }),
      'Logging cannot be enabled without providing executionRoleArn',
    );
    await notFound(
      vms.runMicrovm({
        imageIdentifier: nowhere,
        egressNetworkConnectors: [
          `arn:aws:lambda:${region}:${account}:network-connector:nc-00000000-0000-4000-8000-000000000000`,
        ],
      }),
      /Network connector not found/,
    );
  });

  test('CreateMicrovmImage members', async () => {
    const name = `wrong-${stamp}`;
    await invalid(create('a/b'), /'name' .* regular expression pattern: \[a-zA-Z0-9-_\]\+$/);
    await invalid(create('x'.repeat(65)), /'name' .* less than or equal to 64$/);
    await invalid(create(name, { baseImageArn: 'al2023-1' }), "Malformed ARN - doesn't start with 'arn:'");
    await invalid(
      create(name, { baseImageVersion: '999' }),
      `No managed MicroVM Image with arn ${baseArn} and version 999 is available`,
    );
    await invalid(
      create(name, { resources: [{ minimumMemoryInMiB: 300 }] }),
      /Supported memory sizes in MiB are: \[512, 1024, 2048, 4096, 8192\]/,
    );
    await invalid(
      create(name, { resources: [{ minimumMemoryInMiB: 512 }, { minimumMemoryInMiB: 512 }] }),
      constraint('resources', 'Member must have length less than or equal to 1'),
    );
    await invalid(
      create(name, { environmentVariables: { AWS_REGION: 'x' } }),
      "Environment variable key 'AWS_REGION' is reserved",
    );
    await invalid(
      create(name, { hooks: { microvmHooks: { run: 'ENABLED' } } }),
      'The ready image hook must be enabled when any lifecycle hook is enabled',
    );
    await invalid(
      create(name, { hooks: { port: 65536, microvmHooks: { runTimeoutInSeconds: 61 } } }),
      /^2 validation errors detected: /,
    );
    await invalid(
      create(name, { cpuConfigurations: [{ architecture: 'X86_64' }] }),
      /'cpuConfigurations.1.member.architecture' .* enum value set: \[ARM_64\]$/,
    );
    await invalid(create(name, { tags: { 'no!': 'x' } }), /Map keys must satisfy constraint/);
    await invalid(create(name, { codeArtifact: { uri: 'https://example.com/a.zip' } }), /s3:\/\/bucket\/key/);
    await notFound(vms.getMicrovmImage({ imageIdentifier: imageArn(name) }));
  });

  test('an error never repeats a value', async () => {
    await fails(
      create('x!', { environmentVariables: { SECRET: 'hunter2'.repeat(1000) } }),
      'ValidationException',
      400,
      /^(?!.*hunter2)/s,
    );
  });

  test('bodies that are no JSON, paths that name nothing', async () => {
    for (const body of ['{', '[]', '{"a":1,"a":2}', '['.repeat(5000), '{"imageIdentifier":"\\u0000"}']) {
      const r = await signed('/2025-09-09/microvms', { method: 'POST', body });
      assert.equal(r.status, 400, r.text);
      assert.equal(r.headers['x-amzn-errortype'], 'ValidationException');
      assert.match(r.json.message, /^Could not parse request body into json: |nested/);
    }
    const unknown = await signed('/2025-09-09/no-such-thing');
    assert.equal(unknown.status, 404);
    assert.ok(unknown.headers['x-amzn-requestid']);
  });
});

describe('who is asking', () => {
  const with_ = (credentials) => new LambdaMicrovms({ maxAttempts: 1, credentials });

  test('unsigned, unknown key, wrong secret', async () => {
    const r = await raw('/2025-09-09/microvms');
    assert.equal(r.status, 403, r.text);
    await assert.rejects(
      with_({ accessKeyId: 'AKIANOSUCHKEY0000000', secretAccessKey: 'x' }).listMicrovms({}),
      (e) => e.$metadata.httpStatusCode === 403,
    );
    await assert.rejects(
      with_({ accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: 'x' }).listMicrovms({}),
      (e) => e.$metadata.httpStatusCode === 403,
    );
  });
});

describe('things that do not exist', () => {
  const lost = 'microvm-00000000-0000-4000-8000-000000000000';

  test('images', async () => {
    const text = `MicroVMImage not found for MicroVMImageID: ${nowhere}`;
    const about = { resourceType: 'microvm-image', resourceId: nowhere };
    const id = { imageIdentifier: nowhere };
    await notFound(vms.getMicrovmImage(id), text, about);
    await notFound(vms.deleteMicrovmImage(id), text, about);
    await notFound(vms.listMicrovmImageVersions(id), text, about);
    await notFound(vms.getMicrovmImageVersion({ ...id, imageVersion: '1.0' }), text, about);
    await notFound(vms.deleteMicrovmImageVersion({ ...id, imageVersion: '1.0' }), text, about);
    await notFound(vms.updateMicrovmImageVersion({ ...id, imageVersion: '1.0', status: 'ACTIVE' }), text, about);
    await notFound(vms.listMicrovmImageBuilds({ ...id, imageVersion: '1.0' }), text, about);
    await notFound(vms.getMicrovmImageBuild({ ...id, imageVersion: '1.0', buildId: 'x' }), text, about);
    await notFound(
      vms.updateMicrovmImage({ ...id, baseImageArn: baseArn, buildRoleArn: roleArn, codeArtifact: missing }),
      text,
      about,
    );
    await notFound(vms.runMicrovm(id), text, about);
    await notFound(vms.listMicrovms(id), text, about);
  });

  test('identifiers that are no ARN of ours', async () => {
    await invalid(vms.getMicrovmImage({ imageIdentifier: 'box' }), 'Invalid ARN format: box');
    await invalid(
      vms.listMicrovmImageBuilds({ imageIdentifier: 'box', imageVersion: '1.0' }),
      'Invalid ARN format: box',
    );
    const slash = `arn:aws:lambda:${region}:${account}:microvm-image/box`;
    await fails(vms.getMicrovmImage({ imageIdentifier: slash }), 'AccessDeniedException', 403);
    const foreign = `arn:aws:lambda:${region}:999999999999:microvm-image:box`;
    await fails(vms.getMicrovmImage({ imageIdentifier: foreign }), 'AccessDeniedException', 403);
  });

  test('microVMs', async () => {
    const text = `Unable to find microvmIdentifier ${lost}`;
    const id = { microvmIdentifier: lost };
    const about = { resourceType: 'microvm', resourceId: lost };
    await notFound(vms.getMicrovm(id), text, about);
    await notFound(vms.suspendMicrovm(id), text, about);
    await notFound(vms.resumeMicrovm(id), text, about);
    await notFound(vms.terminateMicrovm(id), text, about);
    await notFound(
      vms.createMicrovmAuthToken({ ...id, expirationInMinutes: 1, allowedPorts: [{ port: 1 }] }),
      text,
      about,
    );
    await notFound(vms.createMicrovmShellAuthToken({ ...id, expirationInMinutes: 1 }), text, about);
  });

  test('tags', async () => {
    await notFound(vms.listTags({ Resource: nowhere }));
    await notFound(vms.tagResource({ Resource: nowhere, Tags: { a: 'b' } }));
    await notFound(vms.untagResource({ Resource: nowhere, TagKeys: ['a'] }));
    await fails(vms.listTags({ Resource: 'box' }), 'InvalidParameterValueException', 400);
    await fails(
      vms.listTags({ Resource: `arn:aws:lambda:${region}:${account}:function:f` }),
      'InvalidParameterValueException',
      400,
      /cannot have tags/,
      { Type: 'User' },
    );
  });
});

describe('what is always there', () => {
  test('managed images and their versions', async () => {
    const all = await collect(paginateListManagedMicrovmImages({ client, pageSize: 1 }, {}));
    assert.equal(all.pages, all.items.length);
    const al = all.items.find((i) => i.imageArn === baseArn);
    assert.ok(al?.createdAt instanceof Date);
    const versions = await vms.listManagedMicrovmImageVersions({ imageIdentifier: baseArn });
    assert.equal(versions.items[0].imageVersion, '1');
    assert.equal(versions.items[0].status, 'AVAILABLE');
    assert.equal(versions.items[0].imageArn, baseArn);
    await notFound(vms.listManagedMicrovmImageVersions({ imageIdentifier: `${baseArn}x` }));
  });

  test('managed network connectors, and no others', async () => {
    const list = await signed('/2026-04-04/network-connectors');
    assert.equal(list.status, 200, list.text);
    const names = list.json.NetworkConnectors.map((c) => c.Name).sort();
    assert.deepEqual(names, ['ALL_INGRESS', 'HTTP_INGRESS', 'INTERNET_EGRESS', 'NO_INGRESS', 'SHELL_INGRESS']);
    const one = await signed('/2026-04-04/network-connectors/HTTP_INGRESS');
    assert.equal(one.json.Arn, connector('HTTP_INGRESS'));
    assert.ok(!Number.isNaN(Date.parse(one.json.LastModified)));
    const made = await signed('/2026-04-04/network-connectors', { method: 'POST', body: '{"Name":"x"}' });
    assert.equal(made.status, 400);
    assert.equal(made.headers['x-amzn-errortype'], 'InvalidParameterValueException');
    assert.match(made.json.message, /not offered/);
  });

  test('page sizes and page tokens are checked', async () => {
    await invalid(
      vms.listMicrovms({ maxResults: 51 }),
      constraint('maxResults', 'Member must have value less than or equal to 50'),
    );
    await invalid(
      vms.listMicrovmImages({ maxResults: 0 }),
      constraint('maxResults', 'Member must have value greater than or equal to 1'),
    );
    await invalid(vms.listMicrovms({ nextToken: 'bm90LW91cnM' }), /nextToken/);
    await invalid(vms.listManagedMicrovmImages({ nextToken: '=' }), /nextToken/);
  });
});

describe('images whose build fails', () => {
  const names = [0, 1, 2, 3, 4].map((n) => `f${n}-${stamp}`);

  before(() => ensureBucket('artifacts'));

  after(async () => {
    for (const name of names) {
      await settled(imageArn(name)).catch(() => {});
      await vms.deleteMicrovmImage({ imageIdentifier: imageArn(name) }).catch(() => {});
    }
  });

  test('create answers at once and says later why it failed', async () => {
    const made = await create(names[0], {
      description: 'never to be',
      tags: { team: 'blue', 'a b': '' },
      environmentVariables: { A: '1' },
      hooks: { port: 9001, microvmImageHooks: { ready: 'ENABLED', readyTimeoutInSeconds: 3 } },
      additionalOsCapabilities: ['ALL'],
      cpuConfigurations: [{ architecture: 'ARM_64' }],
      resources: [{ minimumMemoryInMiB: 1024 }],
      logging: { cloudWatch: { logGroup: '/x/y' } },
      egressNetworkConnectors: [connector('INTERNET_EGRESS')],
    });
    assert.equal(made.$metadata.httpStatusCode, 201);
    assert.equal(made.imageArn, imageArn(names[0]));
    assert.equal(made.imageVersion, '1.0');
    assert.equal(made.baseImageVersion, '1.0');
    assert.ok(made.createdAt instanceof Date && Math.abs(made.createdAt - Date.now()) < 3600_000);
    assert.deepEqual(made.tags, { team: 'blue', 'a b': '' });
    assert.deepEqual(made.hooks, {
      port: 9001,
      microvmImageHooks: { ready: 'ENABLED', readyTimeoutInSeconds: 3 },
    });
    assert.deepEqual(made.resources, [{ minimumMemoryInMiB: 1024 }]);
    assert.deepEqual(made.logging, { cloudWatch: { logGroup: '/x/y' } });

    const image = await settled(made.imageArn);
    assert.equal(image.state, 'CREATE_FAILED');
    assert.equal(image.latestFailedImageVersion, '1.0');
    assert.equal(image.latestActiveImageVersion, undefined);
    assert.deepEqual(image.tags, { team: 'blue', 'a b': '' });
    const version = await vms.getMicrovmImageVersion({ imageIdentifier: made.imageArn, imageVersion: '1' });
    assert.equal(version.imageVersion, '1.0');
    assert.equal(version.state, 'FAILED');
    assert.match(version.stateReason, /S3_NO_SUCH_KEY/);
    assert.equal(version.description, 'never to be');
    assert.deepEqual(version.environmentVariables, { A: '1' });
    const builds = await vms.listMicrovmImageBuilds({ imageIdentifier: made.imageArn, imageVersion: '1.0' });
    assert.equal(builds.items[0].buildState, 'FAILED');
    assert.match(builds.items[0].stateReason, /S3_NO_SUCH_KEY/);
    const build = await vms.getMicrovmImageBuild({
      imageIdentifier: made.imageArn,
      imageVersion: '1.0',
      buildId: builds.items[0].buildId,
    });
    assert.equal(build.snapshotBuild, undefined);
    await notFound(
      vms.runMicrovm({ imageIdentifier: made.imageArn }),
      `No active version found for MicroVM image ${made.imageArn}`,
    );
    await conflict(
      vms.updateMicrovmImageVersion({ imageIdentifier: made.imageArn, imageVersion: '1.0', status: 'ACTIVE' }),
      'MicroVM Image version 1.0 is in state: FAILED',
    );
  });

  test('a name is given once', async () => {
    await invalid(create(names[0]), /already exists/);
  });

  test('tags of an image', async () => {
    const Resource = imageArn(names[0]);
    const tagged = await vms.tagResource({ Resource, Tags: { team: 'red', more: 'x' } });
    assert.equal(tagged.$metadata.httpStatusCode, 204);
    assert.deepEqual((await vms.listTags({ Resource })).Tags, { team: 'red', 'a b': '', more: 'x' });
    const untagged = await vms.untagResource({ Resource, TagKeys: ['a b', 'none'] });
    assert.equal(untagged.$metadata.httpStatusCode, 204);
    assert.deepEqual((await vms.listTags({ Resource })).Tags, { team: 'red', more: 'x' });
    await fails(
      vms.tagResource({ Resource, Tags: { 'aws:x': '1' } }),
      'InvalidParameterValueException',
      400,
      /aws:/,
    );
    const many = Object.fromEntries([...Array(50).keys()].map((n) => [`k${n}`, '']));
    await fails(vms.tagResource({ Resource, Tags: many }), 'InvalidParameterValueException', 400, /50/);
  });

  test('client tokens', async () => {
    const clientToken = `token-${stamp}`;
    const first = await create(names[1], { clientToken });
    const again = await create(names[1], { clientToken });
    assert.equal(again.imageArn, first.imageArn);
    assert.equal(again.$metadata.httpStatusCode, 201);
    await conflict(create(names[1], { clientToken, description: 'other' }), /clientToken/);
    await settled(first.imageArn);
    await vms.deleteMicrovmImage({ imageIdentifier: first.imageArn });
    const fresh = await create(names[1], { clientToken }); // forgotten with its image
    assert.equal(fresh.imageVersion, '1.0');
    assert.ok(fresh.createdAt > first.createdAt);
  });

  test('an update is a full replacement, and each has its number', async () => {
    const imageIdentifier = imageArn(names[0]);
    const update = (more = {}) =>
      vms.updateMicrovmImage({
        imageIdentifier,
        baseImageArn: baseArn,
        buildRoleArn: roleArn,
        codeArtifact: missing,
        ...more,
      });
    const second = await update({ description: 'two' });
    assert.equal(second.imageVersion, '2.0');
    assert.equal(second.environmentVariables, undefined);
    assert.equal(second.hooks, undefined);
    assert.equal((await settled(imageIdentifier)).state, 'UPDATE_FAILED');
    await update();
    await settled(imageIdentifier);
    const { items, pages } = await collect(
      paginateListMicrovmImageVersions({ client, pageSize: 2 }, { imageIdentifier }),
    );
    assert.deepEqual(items.map((v) => v.imageVersion), ['3.0', '2.0', '1.0']);
    assert.equal(pages, 2);
    const gone = await vms.deleteMicrovmImageVersion({ imageIdentifier, imageVersion: '2.0' });
    sameMembers(gone, ['imageIdentifier', 'imageVersion', 'state']);
    await vms.deleteMicrovmImageVersion({ imageIdentifier, imageVersion: '2.0' }); // twice is no error
    await notFound(vms.getMicrovmImageVersion({ imageIdentifier, imageVersion: '2.0' }));
    await vms.deleteMicrovmImageVersion({ imageIdentifier, imageVersion: '1.0' });
    await invalid(
      vms.deleteMicrovmImageVersion({ imageIdentifier, imageVersion: '3.0' }),
      'This is the last version. Please delete the entire image',
    );
  });

  test('lists of images: filter, pages, stable under change', async () => {
    for (const name of names.slice(2)) await create(name);
    for (const name of names) await settled(imageArn(name));
    const mine = { nameFilter: stamp };
    // The paginator writes into its input.
    const { items, pages } = await collect(paginateListMicrovmImages({ client, pageSize: 2 }, { ...mine }));
    assert.deepEqual(items.map((i) => i.name).sort(), names);
    assert.equal(pages, 3);
    sameMembers(items[0], ['imageArn', 'name', 'state', 'createdAt', 'latestFailedImageVersion']);
    const page = await vms.listMicrovmImages({ ...mine, maxResults: 2 });
    await vms.deleteMicrovmImage({ imageIdentifier: page.items[0].imageArn });
    const next = await vms.listMicrovmImages({ ...mine, maxResults: 2, nextToken: page.nextToken });
    assert.deepEqual(next.items.map((i) => i.name), names.slice(2, 4));
    assert.match(page.nextToken, /^[A-Za-z0-9_-]+$/);
    await invalid(vms.listMicrovmImages({ nameFilter: 'other', nextToken: page.nextToken }), /nextToken/);
    await invalid(vms.listMicrovms({ nextToken: page.nextToken }), /nextToken/);
    assert.deepEqual((await vms.listMicrovmImages({ nameFilter: `zz${stamp}` })).items, []);
  });

  test('deleting twice is no error', async () => {
    const imageIdentifier = imageArn(names[4]);
    const gone = await vms.deleteMicrovmImage({ imageIdentifier });
    sameMembers(gone, ['imageIdentifier', 'state']);
    assert.equal(gone.imageIdentifier, imageIdentifier);
    await vms.deleteMicrovmImage({ imageIdentifier });
    await notFound(vms.getMicrovmImage({ imageIdentifier }));
  });
});

describe('an image and its microVMs', () => {
  const name = `api-${stamp}`;
  const imageIdentifier = imageArn(name);
  const app = folder(new URL('./apps/counter', import.meta.url).pathname);
  const started = [];
  const run = async (more = {}) => {
    const vm = await vms.runMicrovm({ imageIdentifier, ...more });
    started.push(vm.microvmId);
    return vm;
  };
  const end = (id) => vms.terminateMicrovm({ microvmIdentifier: id });

  before(async () => {
    await createImage(name, app, { resources: [{ minimumMemoryInMiB: 512 }] });
    await invalid(
      vms.deleteMicrovmImage({ imageIdentifier }),
      'Cannot delete MicroVM image in its current state',
    );
    await conflict(
      vms.updateMicrovmImage({
        imageIdentifier,
        baseImageArn: baseArn,
        buildRoleArn: roleArn,
        codeArtifact: missing,
      }),
      'MicroVM Image is already in state: CREATING',
    );
    const image = await imageBuilt(imageIdentifier, '1.0');
    assert.equal(image.state, 'CREATED');
    assert.equal(image.latestActiveImageVersion, '1.0');
  });

  after(async () => {
    for (const id of started) await end(id).catch(() => {});
    await settled(imageIdentifier);
    for (const id of started)
      await until(`${id} to end`, async () =>
        (await vms.getMicrovm({ microvmIdentifier: id })).state === 'TERMINATED');
    await vms.deleteMicrovmImage({ imageIdentifier });
  });

  test('its version and its build', async () => {
    const v = await vms.getMicrovmImageVersion({ imageIdentifier, imageVersion: '1.0' });
    assert.equal(v.state, 'SUCCESSFUL');
    assert.equal(v.status, 'ACTIVE');
    assert.equal(v.stateReason, undefined);
    const { items } = await vms.listMicrovmImageBuilds({ imageIdentifier, imageVersion: '1.0' });
    assert.equal(items.length, 1);
    sameMembers(items[0], [
      'imageArn', 'imageVersion', 'buildId', 'buildState', 'architecture', 'chipset',
      'chipsetGeneration', 'createdAt',
    ]);
    assert.equal(items[0].architecture, 'ARM_64');
    assert.equal(items[0].chipset, 'GRAVITON');
    const build = await vms.getMicrovmImageBuild({
      imageIdentifier,
      imageVersion: '1.0',
      buildId: items[0].buildId,
    });
    assert.equal(build.buildState, 'SUCCESSFUL');
    assert.ok(build.snapshotBuild.memorySnapshotSizeInBytes > 0);
    const other = { imageIdentifier, imageVersion: '1.0', chipsetGeneration: 'none' };
    assert.deepEqual((await vms.listMicrovmImageBuilds(other)).items, []);
    await notFound(vms.getMicrovmImageBuild({ imageIdentifier, imageVersion: '1.0', buildId: 'none' }));
    await notFound(vms.getMicrovmImageVersion({ imageIdentifier, imageVersion: '7.0' }));
  });

  test('RunMicrovm answers at once, with the defaults', async () => {
    const vm = await run();
    assert.equal(vm.$metadata.httpStatusCode, 200);
    sameMembers(vm, [
      'microvmId', 'state', 'endpoint', 'imageArn', 'imageVersion', 'maximumDurationInSeconds',
      'startedAt', 'ingressNetworkConnectors', 'egressNetworkConnectors',
    ]);
    assert.match(vm.microvmId, /^microvm-[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
    assert.equal(vm.state, 'PENDING');
    assert.match(vm.endpoint, new RegExp(`^[0-9a-f-]{36}\\.lambda-microvm\\.${region}\\.`));
    assert.equal(vm.imageArn, imageIdentifier);
    assert.equal(vm.imageVersion, '1.0');
    assert.equal(vm.maximumDurationInSeconds, 28800);
    assert.deepEqual(vm.ingressNetworkConnectors, [connector('HTTP_INGRESS')]);
    assert.deepEqual(vm.egressNetworkConnectors, [connector('INTERNET_EGRESS')]);
    const now = await vmState(vm.microvmId, 'RUNNING');
    assert.equal(now.endpoint, vm.endpoint);
    assert.equal(now.startedAt.getTime(), vm.startedAt.getTime());
    assert.equal(now.stateReason, undefined);
    await end(vm.microvmId);
  });

  test('RunMicrovm echoes what was asked, but no secret', async () => {
    const idlePolicy = { maxIdleDurationSeconds: 600, suspendedDurationSeconds: 60, autoResumeEnabled: false };
    const vm = await run({
      imageVersion: '1',
      executionRoleArn: roleArn,
      idlePolicy,
      maximumDurationInSeconds: 1200,
      logging: { disabled: {} },
      ingressNetworkConnectors: [connector('SHELL_INGRESS'), connector('HTTP_INGRESS')],
    });
    assert.equal(vm.imageVersion, '1.0');
    assert.equal(vm.executionRoleArn, roleArn);
    assert.deepEqual(vm.idlePolicy, idlePolicy);
    assert.equal(vm.maximumDurationInSeconds, 1200);
    assert.equal(vm.ingressNetworkConnectors.length, 2);
    assert.equal(vm.logging, undefined);
    assert.equal(vm.clientToken, undefined);
    await end(vm.microvmId);
    await invalid(
      run({ runHookPayload: 'p' }),
      'The run hook must be enabled in the MicroVM image to pass the run hook payload',
    );
  });

  test('the same client token is the same microVM', async () => {
    const clientToken = `run-${stamp}`;
    const a = await run({ clientToken });
    const b = await vms.runMicrovm({ imageIdentifier, clientToken });
    assert.equal(b.microvmId, a.microvmId);
    await conflict(
      vms.runMicrovm({ imageIdentifier, clientToken, maximumDurationInSeconds: 60 }),
      /clientToken/,
      { resourceId: a.microvmId, resourceType: 'microvm' },
    );
    await vmState(a.microvmId, 'RUNNING');
    await end(a.microvmId);
    assert.match((await vms.runMicrovm({ imageIdentifier, clientToken })).state, /^TERMINAT/);
  });

  test('suspend, resume, terminate, and what each refuses', async () => {
    const vm = await run();
    const id = { microvmIdentifier: vm.microvmId };
    const about = { resourceType: 'microvm', resourceId: vm.microvmId };
    await vmState(vm.microvmId, 'RUNNING');
    await conflict(vms.resumeMicrovm(id), /RUNNING/, about);
    assert.equal((await vms.suspendMicrovm(id)).$metadata.httpStatusCode, 200);
    await vmState(vm.microvmId, 'SUSPENDED');
    await conflict(vms.suspendMicrovm(id), /SUSPENDED/, about);
    assert.ok(
      (await vms.createMicrovmAuthToken({ ...id, expirationInMinutes: 1, allowedPorts: [{ port: 80 }] }))
        .authToken['X-aws-proxy-auth'],
    );
    assert.equal((await vms.resumeMicrovm(id)).$metadata.httpStatusCode, 200);
    await vmState(vm.microvmId, 'RUNNING');
    assert.equal((await end(vm.microvmId)).$metadata.httpStatusCode, 200);
    const gone = await until('it to end', async () => {
      const got = await vms.getMicrovm(id);
      return got.state === 'TERMINATED' ? got : undefined;
    });
    assert.ok(gone.terminatedAt >= gone.startedAt);
    await end(vm.microvmId); // twice is no error
    await conflict(vms.suspendMicrovm(id), /TERMINATED/, about);
    await conflict(vms.resumeMicrovm(id), /TERMINATED/, about);
    await conflict(
      vms.createMicrovmAuthToken({ ...id, expirationInMinutes: 1, allowedPorts: [{ port: 80 }] }),
      /TERMINATED/,
      about,
    );
  });

  test('endpoint tokens', async () => {
    const vm = await run();
    const ask = (allowedPorts, expirationInMinutes = 60) =>
      vms.createMicrovmAuthToken({ microvmIdentifier: vm.microvmId, expirationInMinutes, allowedPorts });
    const { authToken } = await ask([{ port: 8080 }, { range: { startPort: 9000, endPort: 9010 } }]);
    assert.deepEqual(Object.keys(authToken), ['X-aws-proxy-auth']);
    assert.match(authToken['X-aws-proxy-auth'], /^[A-Za-z0-9_.-]+$/);
    assert.ok((await ask([{ allPorts: {} }])).authToken['X-aws-proxy-auth'].length <= 8000);
    await invalid(ask([{ port: 80 }], 61), constraint('expirationInMinutes', 'Member must have value less than or equal to 60'));
    await invalid(ask([{ port: 80 }], 0), /'expirationInMinutes'/);
    await invalid(ask([]), constraint('allowedPorts', 'Member must have length greater than or equal to 1'));
    await invalid(ask([{ port: 0 }]), /'allowedPorts.1.member.port'/);
    await invalid(ask([{ range: { startPort: 9, endPort: 8 } }]), /startPort/);
    await invalid(
      vms.createMicrovmShellAuthToken({ microvmIdentifier: vm.microvmId, expirationInMinutes: 1 }),
      'Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.',
    );
    await end(vm.microvmId);
  });

  test('connectors decide which tokens there are', async () => {
    const shell = (id) => vms.createMicrovmShellAuthToken({ microvmIdentifier: id, expirationInMinutes: 1 });
    const both = await run({ ingressNetworkConnectors: [connector('ALL_INGRESS')] });
    assert.ok((await shell(both.microvmId)).authToken['X-aws-proxy-auth']);
    await end(both.microvmId);
    const mixed = await run({
      ingressNetworkConnectors: [connector('ALL_INGRESS'), connector('HTTP_INGRESS')],
    });
    await invalid(shell(mixed.microvmId), /ALL_INGRESS cannot be combined/);
    await end(mixed.microvmId);
    await invalid(
      run({ ingressNetworkConnectors: [connector('INTERNET_EGRESS')] }),
      /cannot be used for ingress/,
    );
  });

  test('lists of microVMs', async () => {
    const mine = [];
    for (let i = 0; i < 3; i++) mine.unshift((await run()).microvmId);
    const all = await collect(paginateListMicrovms({ client, pageSize: 2 }, { imageIdentifier }));
    assert.deepEqual(all.items.slice(0, 3).map((i) => i.microvmId), mine); // newest first
    assert.equal(new Set(all.items.map((i) => i.microvmId)).size, all.items.length);
    sameMembers(all.items[0], ['microvmId', 'state', 'imageArn', 'imageVersion', 'startedAt']);
    assert.equal((await vms.listMicrovms({ imageIdentifier, imageVersion: '9.0' })).items.length, 0);
    const page = await vms.listMicrovms({ imageIdentifier, imageVersion: '1.0', maxResults: 1 });
    assert.equal(page.items.length, 1);
    assert.match(page.nextToken, /^[A-Za-z0-9_-]+$/);
    for (const id of mine) await end(id);
  });

  test('INACTIVE versions run no more, and what is in use is not deleted', async () => {
    const version = { imageIdentifier, imageVersion: '1.0' };
    const vm = await run();
    await vmState(vm.microvmId, 'RUNNING');
    const set = await vms.updateMicrovmImageVersion({ ...version, status: 'INACTIVE' });
    assert.equal(set.status, 'INACTIVE');
    assert.equal(set.state, 'SUCCESSFUL');
    const image = await vms.getMicrovmImage({ imageIdentifier });
    assert.equal(image.latestActiveImageVersion, undefined);
    await notFound(run(), `No active version found for MicroVM image ${imageIdentifier}`);
    await notFound(
      run({ imageVersion: '1.0' }),
      `No active version found for MicroVM image ${imageIdentifier} and version 1.0`,
    );
    assert.equal((await vms.getMicrovm({ microvmIdentifier: vm.microvmId })).state, 'RUNNING');
    await conflict(vms.deleteMicrovmImage({ imageIdentifier }), /not terminated/);
    await vms.updateMicrovmImageVersion({ ...version, status: 'ACTIVE' });
    assert.equal((await vms.getMicrovmImage({ imageIdentifier })).latestActiveImageVersion, '1.0');
    await invalid(
      vms.updateMicrovmImageVersion({ ...version, status: 'SOMEHOW' }),
      constraint('status', 'Member must satisfy enum value set: [ACTIVE, INACTIVE]'),
    );
    await end(vm.microvmId);
  });

  test('a failed update leaves the old version to run', async () => {
    await vms.updateMicrovmImage({
      imageIdentifier,
      baseImageArn: baseArn,
      buildRoleArn: roleArn,
      codeArtifact: missing,
    });
    const image = await settled(imageIdentifier);
    assert.equal(image.state, 'UPDATE_FAILED');
    assert.equal(image.latestActiveImageVersion, '1.0');
    assert.equal(image.latestFailedImageVersion, '2.0');
    const vm = await run();
    assert.equal(vm.imageVersion, '1.0');
    await notFound(
      run({ imageVersion: '2.0' }),
      `No active version found for MicroVM image ${imageIdentifier} and version 2.0`,
    );
    await end(vm.microvmId);
  });
});
