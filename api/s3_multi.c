// SPDX-License-Identifier: Apache-2.0
/* Multipart uploads; see s3_priv.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "s3_priv.h"
#include "s3_xml.h"
#include "urlenc.h"

#define PARTS_MAX      10000u
#define COMPLETE_BYTES ((size_t)4 << 20)
#define XMLNS          "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

void s3_upload_begin(struct s3_call *c)
{
    AUTO(buf_free) struct buf xml = BUF_INIT;
    AUTO_FREE char *headers = s3_kept_headers(c);
    char id[UPLOAD_ID_CAP];
    struct err e = ERR_INIT;
    int r = headers
                ? artifacts_upload_begin(c->s->artifacts, c->bucket, c->key, headers, id, &e)
                : err_sys(&e, ENOMEM, "begin an upload");
    if (r < 0) {
        s3_fail(c, r, &e);
        return;
    }
    buf_str(&xml, "<InitiateMultipartUploadResult " XMLNS ">");
    xml_element(&xml, "Bucket", c->bucket);
    xml_element(&xml, "Key", c->key);
    xml_element(&xml, "UploadId", id);
    buf_str(&xml, "</InitiateMultipartUploadResult>");
    s3_answer_xml(c, &xml);
}

/* Bytes of another object as a part. */
static int copy_part(struct s3_call *c, const char *source, struct artifact_put *put,
                     char ret_md5[33], bool *ret_answered, struct err *e)
{
    AUTO(artifact_info_free) struct artifact_info info = {.headers = NULL};
    AUTO_CLOSE int fd = -1;
    uint64_t from = 0, last;
    uint8_t data[HTTP1_IN_CAP], hash[DIGEST_MAX];
    int r = s3_open_source(c, source, &fd, &info);
    if (r < 0) {
        *ret_answered = true;
        return r;
    }
    uint64_t len = info.size;
    const char *range = http_req_header(c->req, "x-amz-copy-source-range");
    if (range) {
        const char *dash = strchr(range, '-');
        if (strncmp(range, "bytes=", 6) != 0 || !dash ||
            !parse_u64n(range + 6, (size_t)(dash - range - 6), 0, INT64_MAX, &from) ||
            !parse_u64(dash + 1, from, INT64_MAX, &last) || last >= info.size)
            return err_set(e, EINVAL,
                           "The x-amz-copy-source-range value must be of the form "
                           "bytes=first-last and lie within the source");
        len = last - from + 1;
    }
    struct digest md5;
    digest_begin(&md5, DIGEST_MD5);
    while (r == 0 && len > 0) {
        size_t part = (size_t)MIN(len, sizeof data);
        r = fd_pread_full(fd, data, part, from);
        if (r < 0)
            r = err_sys(e, -r, "read the source");
        else
            r = artifacts_put_write(put, data, part, e);
        digest_add(&md5, data, part);
        from += part;
        len -= part;
    }
    digest_end(&md5, hash);
    hex_encode(hash, 16, ret_md5);
    return r;
}

static int receive_part(struct s3_call *c, struct artifact_put *put, char ret_md5[33],
                        struct err *e)
{
    AUTO_FREE struct s3_body *body = malloc(sizeof *body);
    uint8_t data[HTTP1_IN_CAP];
    ssize_t n = 0;
    int r = body ? s3_body_open(body, c, UINT64_MAX, e) : err_sys(e, ENOMEM, "take a part");
    while (r == 0 && (n = s3_body_read(body, data, sizeof data, e)) > 0)
        r = artifacts_put_write(put, data, (size_t)n, e);
    if (r == 0 && n == 0)
        memcpy(ret_md5, body->got_md5, 33);
    return r < 0 ? r : (int)n;
}

void s3_upload_part(struct s3_call *c, const char *id)
{
    AUTO(buf_free) struct buf xml = BUF_INIT;
    struct artifacts *a = c->s->artifacts;
    struct artifact_put *put = NULL;
    struct err e = ERR_INIT;
    char md5[33], etag[40];
    bool bad = false, answered = false;
    uint64_t number;
    AUTO_FREE char *text = query_value(c->req->query, "partNumber", &bad);
    const char *source = http_req_header(c->req, "x-amz-copy-source");
    if (!text || !parse_u64(text, 1, PARTS_MAX, &number)) {
        s3_error(c, 400, "InvalidArgument",
                 "Part number must be an integer between 1 and 10000, inclusive");
        return;
    }
    int r = artifacts_upload_check(a, c->bucket, c->key, id, NULL, &e);
    if (r == 0)
        r = artifacts_put_begin(a, &put, &e);
    if (r == 0)
        r = source ? copy_part(c, source, put, md5, &answered, &e)
                   : receive_part(c, put, md5, &e);
    if (r < 0)
        artifacts_put_abort(put);
    else
        r = artifacts_put_commit_part(put, id, (uint32_t)number, md5, &e);
    if (r < 0) {
        if (!answered)
            s3_fail(c, r, &e);
        return;
    }
    snprintf(etag, sizeof etag, "\"%s\"", md5);
    if (source) {
        buf_printf(&xml, "<CopyPartResult><ETag>&quot;%s&quot;</ETag></CopyPartResult>", md5);
        s3_answer_xml(c, &xml);
        return;
    }
    AUTO(http_res_free) struct http_res res = {.status = 200};
    http_res_header(&res, "ETag", etag);
    http_res_header(&res, "x-amz-request-id", c->req->id);
    exchange_respond(c->x, &res);
}

void s3_upload_abort(struct s3_call *c, const char *id)
{
    struct err e = ERR_INIT;
    int r = artifacts_upload_check(c->s->artifacts, c->bucket, c->key, id, NULL, &e);
    if (r == 0)
        r = artifacts_upload_drop(c->s->artifacts, id, &e);
    if (r < 0)
        s3_fail(c, r, &e);
    else
        s3_answer_empty(c, 204);
}

/* ---- complete ------------------------------------------------------------------------ */

struct part {
    uint32_t number;
    char etag[33];
};

struct completing {
    struct part *parts;
    size_t n, cap;
    struct part at; /* the one being read */
    const char *fault;
};

static bool on_part(void *ctx, const char *path, const char *value)
{
    static const char root[] = "CompleteMultipartUpload/Part";
    struct completing *m = ctx;
    if (strncmp(path, root, sizeof root - 1) != 0)
        return true;
    const char *name = path + sizeof root - 1;
    if (strcmp(name, "/PartNumber") == 0) {
        uint64_t number;
        if (!parse_u64(value, 1, PARTS_MAX, &number))
            return false;
        m->at.number = (uint32_t)number;
    } else if (strcmp(name, "/ETag") == 0) {
        size_t skip = value[0] == '"';
        snprintf(m->at.etag, sizeof m->at.etag, "%s", value + skip);
    } else if (*name == '\0') {
        if (m->n == PARTS_MAX || m->at.number == 0)
            return false;
        if (m->n > 0 && m->parts[m->n - 1].number >= m->at.number)
            m->fault = "InvalidPartOrder";
        if (m->n == m->cap) {
            size_t cap = m->cap ? 2 * m->cap : 64;
            void *parts = realloc(m->parts, cap * sizeof *m->parts);
            if (!parts)
                return false;
            m->parts = parts;
            m->cap = cap;
        }
        m->parts[m->n++] = m->at;
        memset(&m->at, 0, sizeof m->at);
    }
    return true;
}

/* Appends all parts to put and makes the ETag: MD5 of the parts' MD5s, and their number. */
static int join_parts(struct artifacts *a, const char *id, const struct completing *m,
                      struct artifact_put *put, char *ret_etag, size_t cap, struct err *e)
{
    struct digest all;
    uint8_t hash[DIGEST_MAX];
    char hex[33];
    digest_begin(&all, DIGEST_MD5);
    int r = 0;
    for (size_t i = 0; i < m->n && r == 0; i++) {
        AUTO_CLOSE int fd = -1;
        uint64_t size = 0;
        r = artifacts_part_open(a, id, m->parts[i].number, &fd, &size, hex, e);
        if (r == 0 && strcmp(hex, m->parts[i].etag) != 0)
            r = -ENOENT;
        if (r == 0) {
            hex_decode(hex, hash, 16);
            digest_add(&all, hash, 16);
            r = artifacts_put_copy(put, fd, size, e);
        }
    }
    digest_end(&all, hash);
    hex_encode(hash, 16, hex);
    snprintf(ret_etag, cap, "%s-%zu", hex, m->n);
    return r;
}

static void complete(struct s3_call *c, const char *id, const struct completing *m,
                     char *headers)
{
    AUTO(buf_free) struct buf xml = BUF_INIT;
    AUTO(artifact_info_free) struct artifact_info info = {.headers = headers};
    struct artifacts *a = c->s->artifacts;
    struct artifact_put *put = NULL;
    struct err e = ERR_INIT;
    char location[BUCKET_CAP + ARTIFACT_KEY_MAX + 3];
    int r = artifacts_put_begin(a, &put, &e);
    if (r == 0)
        r = join_parts(a, id, m, put, info.etag, sizeof info.etag, &e);
    if (r < 0) {
        artifacts_put_abort(put);
        if (r == -ENOENT)
            s3_error(c, 400, "InvalidPart",
                     "One or more of the specified parts could not be found. The part may not "
                     "have been uploaded, or the specified entity tag may not match.");
        else
            s3_fail(c, r, &e);
        return;
    }
    r = artifacts_put_commit(put, c->bucket, c->key, &info, &e);
    if (r < 0) {
        s3_fail(c, r, &e);
        return;
    }
    /* The object is published; parts that stay behind are dropped at the next start. */
    artifacts_upload_drop(a, id, NULL);
    snprintf(location, sizeof location, "/%s/%s", c->bucket, c->key);
    buf_str(&xml, "<CompleteMultipartUploadResult " XMLNS ">");
    xml_element(&xml, "Location", location);
    xml_element(&xml, "Bucket", c->bucket);
    xml_element(&xml, "Key", c->key);
    buf_printf(&xml, "<ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>", info.etag);
    s3_answer_xml(c, &xml);
}

void s3_upload_complete(struct s3_call *c, const char *id)
{
    AUTO(buf_free) struct buf body = BUF_INIT;
    struct completing m = {.parts = NULL};
    char *headers = NULL;
    struct err e = ERR_INIT;
    int r = artifacts_upload_check(c->s->artifacts, c->bucket, c->key, id, &headers, &e);
    if (r == 0)
        r = s3_body_all(c, COMPLETE_BYTES, &body, &e);
    if (r < 0) {
        s3_fail(c, r, &e);
    } else if (!xml_read(body.data ? (char *)body.data : "", body.len, on_part, &m) ||
               m.n == 0) {
        s3_error(c, 400, "MalformedXML",
                 "The XML you provided was not well-formed or did not validate against our "
                 "published schema");
    } else if (m.fault) {
        s3_error(c, 400, m.fault, "The list of parts was not in ascending order.");
    } else {
        complete(c, id, &m, TAKE_PTR(headers));
    }
    free(headers);
    free(m.parts);
}
