// SPDX-License-Identifier: Apache-2.0
// Multipart uploads of the artifact store with the AWS SDK: their parts, their lists, and what an
// aborted one leaves. Run by `make check-e2e`.

import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { ensureBucket, s3 } from './lib.mjs';

const stamp = Date.now().toString(36);
const Bucket = `multi-${stamp}`;
const md5 = (data) => `"${createHash('md5').update(data).digest('hex')}"`;

describe('multipart uploads', () => {
  const Key = 'a/large object';
  const bodies = [5, 5, 1].map((mib, i) => Buffer.alloc(mib * 1024 * 1024, `part ${i}`));
  let UploadId;

  before(() => ensureBucket(Bucket));
  after(async () => {
    await s3.deleteObject({ Bucket, Key });
    await s3.deleteBucket({ Bucket });
  });

  test('parts are listed, in pages', async () => {
    ({ UploadId } = await s3.createMultipartUpload({ Bucket, Key }));
    assert.equal((await s3.listParts({ Bucket, Key, UploadId })).Parts, undefined);
    for (const [i, Body] of bodies.entries())
      await s3.uploadPart({ Bucket, Key, UploadId, PartNumber: 3 * i + 1, Body });
    // Again: the later one counts.
    await s3.uploadPart({ Bucket, Key, UploadId, PartNumber: 1, Body: bodies[0] });
    const all = await s3.listParts({ Bucket, Key, UploadId });
    assert.deepEqual(
      all.Parts.map((p) => [p.PartNumber, p.Size, p.ETag]),
      bodies.map((b, i) => [3 * i + 1, b.length, md5(b)]),
    );
    assert.ok(Math.abs(all.Parts[0].LastModified - Date.now()) < 3_600_000);
    assert.deepEqual([all.IsTruncated, all.Bucket, all.Key, all.UploadId], [false, Bucket, Key, UploadId]);
    const numbers = [];
    let PartNumberMarker;
    for (let more = true; more; ) {
      const page = await s3.listParts({ Bucket, Key, UploadId, MaxParts: 1, PartNumberMarker });
      numbers.push(...page.Parts.map((p) => p.PartNumber));
      ({ IsTruncated: more, NextPartNumberMarker: PartNumberMarker } = page);
      assert.ok(numbers.length <= 3);
    }
    assert.deepEqual(numbers, [1, 4, 7]);
  });

  test('uploads are listed, in pages, by prefix', async () => {
    const others = [];
    for (const name of ['b', 'a/x', 'a/x'])
      others.push(await s3.createMultipartUpload({ Bucket, Key: name }));
    const list = await s3.listMultipartUploads({ Bucket });
    assert.deepEqual(list.Uploads.map((u) => u.Key), ['a/large object', 'a/x', 'a/x', 'b']);
    assert.equal(list.Uploads[0].UploadId, UploadId);
    const some = await s3.listMultipartUploads({ Bucket, Prefix: 'a/' });
    assert.equal(some.Uploads.length, 3);
    const groups = await s3.listMultipartUploads({ Bucket, Delimiter: '/' });
    assert.deepEqual(groups.CommonPrefixes, [{ Prefix: 'a/' }]);
    assert.deepEqual(groups.Uploads.map((u) => u.Key), ['b']);
    assert.equal(groups.Delimiter, '/');
    const first = await s3.listMultipartUploads({ Bucket, Delimiter: '/', MaxUploads: 1 });
    assert.deepEqual([first.CommonPrefixes, first.Uploads, first.IsTruncated, first.NextKeyMarker],
      [[{ Prefix: 'a/' }], undefined, true, 'a/']);
    const rest = await s3.listMultipartUploads({ Bucket, Delimiter: '/', KeyMarker: 'a/' });
    assert.deepEqual([rest.CommonPrefixes, rest.Uploads.length], [undefined, 1]);
    const deeper = await s3.listMultipartUploads({ Bucket, Delimiter: '/', Prefix: 'a/' });
    assert.deepEqual([deeper.CommonPrefixes, deeper.Uploads.length], [undefined, 3]);
    const ids = [];
    let markers = {};
    for (let more = true; more; ) {
      const page = await s3.listMultipartUploads({ Bucket, MaxUploads: 1, ...markers });
      ids.push(...page.Uploads.map((u) => u.UploadId));
      more = page.IsTruncated;
      markers = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
      assert.ok(ids.length <= 4);
    }
    assert.deepEqual(ids, list.Uploads.map((u) => u.UploadId));
    for (const o of others) {
      await s3.abortMultipartUpload({ Bucket, Key: o.Key, UploadId: o.UploadId });
      await assert.rejects(s3.listParts({ Bucket, Key: o.Key, UploadId: o.UploadId }), {
        name: 'NoSuchUpload',
      });
    }
    assert.equal((await s3.listMultipartUploads({ Bucket })).Uploads.length, 1);
  });

  test('completed, it is in no list any more', async () => {
    const { Parts } = await s3.listParts({ Bucket, Key, UploadId });
    await s3.completeMultipartUpload({
      Bucket,
      Key,
      UploadId,
      MultipartUpload: { Parts: Parts.map(({ PartNumber, ETag }) => ({ PartNumber, ETag })) },
    });
    assert.equal((await s3.listMultipartUploads({ Bucket })).Uploads, undefined);
    const got = await s3.getObject({ Bucket, Key });
    assert.equal(md5(Buffer.from(await got.Body.transformToByteArray())), md5(Buffer.concat(bodies)));
  });
});
