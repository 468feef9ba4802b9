// SPDX-License-Identifier: Apache-2.0
// Other clients than the JavaScript SDK, where they are installed: botocore with the public model
// (smoke.py holds each answer against it), and the AWS CLI. DORMOUSE_PYTHON and DORMOUSE_AWS
// name the programs. What is not installed is skipped, and says so.

import { before, after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { baseArn, createImage, folder, imageBuilt, vms } from './lib.mjs';

const python = process.env.DORMOUSE_PYTHON || 'python3';
const aws = process.env.DORMOUSE_AWS || 'aws';
const stamp = Date.now().toString(36);
const env = { ...process.env, AWS_MAX_ATTEMPTS: '1', AWS_PAGER: '' };

function program(name, args) {
  return spawnSync(name, args, { env, encoding: 'utf8', timeout: 300_000 });
}

const hasModel =
  program(python, [
    '-c',
    'import botocore.session as b; s = b.get_session().get_available_services(); ' +
      'raise SystemExit(0 if {"lambda-microvms", "lambda-core"} <= set(s) else 1)',
  ]).status === 0;
const hasCli = program(aws, ['lambda-microvms', 'help']).status === 0;

describe('botocore', { skip: hasModel ? false : `${python} has no botocore with the model` }, () => {
  let image;

  before(async () => {
    const app = folder(new URL('./apps/counter', import.meta.url).pathname);
    const made = await createImage(`py-${stamp}`, app, { resources: [{ minimumMemoryInMiB: 512 }] });
    image = made.imageArn;
    assert.equal((await imageBuilt(image, '1.0')).state, 'CREATED');
  });

  after(async () => {
    if (image) await vms.deleteMicrovmImage({ imageIdentifier: image });
  });

  test('every answer is as the model says', () => {
    env.DORMOUSE_TEST_IMAGE = image;
    const smoke = new URL('./smoke.py', import.meta.url).pathname;
    const r = program(python, [smoke]);
    assert.equal(r.status, 0, `${r.stdout}\n${r.stderr}`);
    assert.match(r.stdout, /^ok 5 - the life of a microVM$/m);
  });
});

describe('AWS CLI', { skip: hasCli ? false : `${aws} does not know lambda-microvms` }, () => {
  const cli = (...args) => program(aws, ['--output', 'json', 'lambda-microvms', ...args]);

  test('lists, errors and exit codes', () => {
    const managed = cli('list-managed-microvm-images');
    assert.equal(managed.status, 0, managed.stderr);
    assert.ok(JSON.parse(managed.stdout).items.some((i) => i.imageArn === baseArn));
    const none = cli('get-microvm', '--microvm-identifier', 'microvm-0');
    assert.notEqual(none.status, 0);
    assert.match(none.stderr, /ResourceNotFoundException.*Unable to find microvmIdentifier microvm-0/);
    const bad = cli('run-microvm', '--image-identifier', 'box');
    assert.match(bad.stderr, /ValidationException.*Malformed ARN - doesn't start with 'arn:'/);
  });

  test('an image from creation to deletion', () => {
    const made = cli(
      'create-microvm-image', '--name', `cli-${stamp}`, '--base-image-arn', baseArn,
      '--build-role-arn', 'arn:aws:iam::000000000000:role/dormouse',
      '--code-artifact', 'uri=s3://there-is-no-such-bucket/key', '--tags', 'a=b',
    );
    assert.equal(made.status, 0, made.stderr);
    const arn = JSON.parse(made.stdout).imageArn;
    for (let state = 'CREATING'; state === 'CREATING'; ) {
      const got = cli('get-microvm-image', '--image-identifier', arn);
      assert.equal(got.status, 0, got.stderr);
      state = JSON.parse(got.stdout).state;
    }
    const listed = cli('list-microvm-images', '--name-filter', `cli-${stamp}`, '--page-size', '1');
    assert.equal(JSON.parse(listed.stdout).items.length, 1);
    const gone = cli('delete-microvm-image', '--image-identifier', arn);
    assert.equal(gone.status, 0, gone.stderr);
    assert.equal(cli('delete-microvm-image', '--image-identifier', arn).status, 0);
  });
});
