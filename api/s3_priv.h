// SPDX-License-Identifier: Apache-2.0
/* Shared by s3*.c only. */
#ifndef DORMOUSE_API_S3_PRIV_H
#define DORMOUSE_API_S3_PRIV_H

#include "auth.h"
#include "s3.h"
#include "s3_chunked.h"

struct s3_call {
    const struct s3 *s;
    struct exchange *x;
    const struct http_req *req;
    struct auth auth;
    char bucket[BUCKET_CAP];
    char key[ARTIFACT_KEY_MAX + 1];
    char payload_hash[80]; /* as signed */
};

/* ---- answers (s3.c) ---- */
void s3_error(struct s3_call *c, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The S3 error for a code of the store, or of reading a body. */
void s3_fail(struct s3_call *c, int code, const struct err *e);
/* An XML body behind the declaration; status 200. */
void s3_answer_xml(struct s3_call *c, const struct buf *xml);
void s3_answer_empty(struct s3_call *c, int status);
/* ISO time with milliseconds. */
void s3_time(double seconds, char ret[32]);

/* ---- body (s3_body.c) ---- */
/* What arrives of a body, decoded and checked against every digest the client declared. */
struct s3_body {
    struct http1 *h;
    bool is_chunked, has_sha, has_md5, has_sum, sum_in_trailer, ended;
    struct s3_chunked chunked;
    struct digest sha, md5, sum;
    char want_sha[65];
    char want_md5[32]; /* base64 */
    char sum_name[16], want_sum[64];
    uint64_t length; /* decoded */
    uint64_t seen;
    char got_md5[33]; /* hex, at the end */
};
/* 0 or a code for s3_fail(). max: largest body taken. */
int s3_body_open(struct s3_body *b, const struct s3_call *c, uint64_t max, struct err *e);
/* n > 0, 0 at the verified end, or: -EACCES signature, -EILSEQ a digest differs, -EBADMSG
 * malformed, -ENODATA cut short, -ETIMEDOUT, -errno. */
ssize_t s3_body_read(struct s3_body *b, void *data, size_t cap, struct err *e);
/* The whole of a small body. */
int s3_body_all(const struct s3_call *c, size_t max, struct buf *ret, struct err *e);

/* ---- operations ---- */
void s3_list_buckets(struct s3_call *c);
void s3_list_objects(struct s3_call *c, bool v2);
void s3_put(struct s3_call *c);
void s3_get(struct s3_call *c, bool head);
void s3_copy(struct s3_call *c, const char *source);
void s3_delete(struct s3_call *c);
void s3_delete_many(struct s3_call *c);
void s3_upload_begin(struct s3_call *c);
void s3_upload_part(struct s3_call *c, const char *id);
void s3_upload_complete(struct s3_call *c, const char *id);
void s3_list_uploads(struct s3_call *c);
void s3_list_parts(struct s3_call *c, const char *id);
void s3_upload_abort(struct s3_call *c, const char *id);
/* Opens the object of an x-amz-copy-source header; answers and returns < 0 on failure. */
int s3_open_source(struct s3_call *c, const char *source, int *ret_fd,
                   struct artifact_info *ret);
/* Header lines of the request to keep with the object; malloc'd. */
char *s3_kept_headers(const struct s3_call *c);

#endif
