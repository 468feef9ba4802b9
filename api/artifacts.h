// SPDX-License-Identifier: Apache-2.0
/*
 * The built-in artifact store: buckets and objects as files below one
 * directory. Called by the S3 front (s3.c) and by image builds, from any
 * thread. Bucket names and keys come from strangers; nothing of them reaches
 * a path without being encoded.
 *
 * On disk: data/<uuid> holds an object's bytes and never changes;
 * buckets/<bucket>/<encoded key> is a small text file that names it and
 * carries its metadata. Replacing that file is what publishes an object, so a
 * reader sees the old or the new one, also after a power failure.
 *
 * Codes: -ENOENT no such key, -ENOTDIR no such bucket, -ENOTEMPTY, -EEXIST,
 * -EINVAL not a valid bucket name or key, -EDQUOT over the quota, -EFBIG object
 * too large, -ESRCH no such upload.
 */
#ifndef DORMOUSE_API_ARTIFACTS_H
#define DORMOUSE_API_ARTIFACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

struct artifacts;

struct artifacts_config {
    const char *dir;
    uint64_t quota_bytes;  /* all objects and unfinished uploads together */
    uint64_t object_bytes; /* one object */
};

#define BUCKET_CAP        64
#define ARTIFACT_KEY_MAX  1024u
#define ARTIFACT_META_MAX 8192u

/* Opens or makes the store; removes what a crash left behind. */
int artifacts_open(struct artifacts **ret, const struct artifacts_config *c, struct err *e);
void artifacts_close(struct artifacts *a);

/* An object's bytes, for reading; the fd stays good when the object is replaced. */
int artifacts_open_object(struct artifacts *a, const char *bucket, const char *key, int *ret_fd,
                          uint64_t *ret_size, struct err *e);

struct artifact_info {
    uint64_t size;
    double modified;   /* epoch seconds */
    char etag[48];     /* without quotes */
    char checksum[80]; /* "crc32 <base64>", or "" */
    char *headers;     /* "name:value\n" lines to give back, malloc'd, may be NULL */
};
void artifact_info_free(struct artifact_info *i);
/* fd may be NULL: metadata only. */
int artifacts_get(struct artifacts *a, const char *bucket, const char *key, int *ret_fd,
                  struct artifact_info *ret, struct err *e);
int artifacts_delete(struct artifacts *a, const char *bucket, const char *key, struct err *e);

int artifacts_bucket_create(struct artifacts *a, const char *bucket, struct err *e);
int artifacts_bucket_check(struct artifacts *a, const char *bucket, struct err *e);
int artifacts_bucket_delete(struct artifacts *a, const char *bucket, struct err *e);
int artifacts_bucket_each(struct artifacts *a,
                          bool (*fn)(void *ctx, const char *bucket, double created), void *ctx,
                          struct err *e);
/* Keys that begin with `prefix` and sort after `after` ("": from the start), in byte order.
 * fn returns false to stop. */
int artifacts_list(struct artifacts *a, const char *bucket, const char *prefix,
                   const char *after,
                   bool (*fn)(void *ctx, const char *key, const struct artifact_info *i),
                   void *ctx, struct err *e);

/* Writing: begin, write any number of times, then commit or abort (both free it). */
struct artifact_put;
int artifacts_put_begin(struct artifacts *a, struct artifact_put **ret, struct err *e);
int artifacts_put_write(struct artifact_put *p, const void *data, size_t len, struct err *e);
/* Appends bytes of an open file. */
int artifacts_put_copy(struct artifact_put *p, int fd, uint64_t size, struct err *e);
/* Durable and visible when it returns 0. info: etag, checksum and headers of the new object;
 * size and modified are filled in. */
int artifacts_put_commit(struct artifact_put *p, const char *bucket, const char *key,
                         struct artifact_info *info, struct err *e);
void artifacts_put_abort(struct artifact_put *p);

/* Multipart uploads. `id` is what artifacts_upload_begin() returned. */
#define UPLOAD_ID_CAP 40
int artifacts_upload_begin(struct artifacts *a, const char *bucket, const char *key,
                           const char *headers, char ret_id[UPLOAD_ID_CAP], struct err *e);
/* Does this upload exist for this object? headers: those given at its begin, malloc'd. */
int artifacts_upload_check(struct artifacts *a, const char *bucket, const char *key,
                           const char *id, char **ret_headers, struct err *e);
/* Like commit, as part `number` (1..10000) with this MD5; replaces an earlier one. */
int artifacts_put_commit_part(struct artifact_put *p, const char *id, uint32_t number,
                              const char *md5, struct err *e);
int artifacts_part_open(struct artifacts *a, const char *id, uint32_t number, int *ret_fd,
                        uint64_t *ret_size, char ret_md5[33], struct err *e);
/* Uploads of a bucket that are under way, and what an upload has, both in no order. fn returns
 * false to stop. */
int artifacts_upload_each(struct artifacts *a, const char *bucket,
                          bool (*fn)(void *ctx, const char *id, const char *key, double begun),
                          void *ctx, struct err *e);
struct artifact_part {
    uint32_t number;
    uint64_t size;
    double modified;
    char md5[33];
};
int artifacts_part_each(struct artifacts *a, const char *id,
                        bool (*fn)(void *ctx, const struct artifact_part *p), void *ctx,
                        struct err *e);
int artifacts_upload_drop(struct artifacts *a, const char *id, struct err *e);

#endif
