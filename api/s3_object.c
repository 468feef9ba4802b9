// SPDX-License-Identifier: Apache-2.0
/* Putting, getting, copying and deleting one object; see s3_priv.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "s3_priv.h"
#include "s3_xml.h"
#include "urlenc.h"

static bool is_kept(const char *name)
{
    static const char *const names[] = {"content-type",        "content-encoding",
                                        "content-disposition", "content-language",
                                        "cache-control",       "expires"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return strncasecmp(name, "x-amz-meta-", 11) == 0;
}

/* "aws-chunked" is how the body travelled, not a property of the object. */
static const char *skip_aws_chunked(const char *value)
{
    if (strncasecmp(value, "aws-chunked", 11) != 0)
        return value;
    value += 11;
    return value + strspn(value, ", ");
}

char *s3_kept_headers(const struct s3_call *c)
{
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < c->req->nheaders; i++) {
        const char *name = c->req->headers[i].name, *value = c->req->headers[i].value;
        if (!is_kept(name))
            continue;
        if (strcasecmp(name, "content-encoding") == 0)
            value = skip_aws_chunked(value);
        if (!*value)
            continue;
        for (; *name; name++) {
            char lower = (char)(*name >= 'A' && *name <= 'Z' ? *name + 32 : *name);
            buf_add(&b, &lower, 1);
        }
        buf_printf(&b, ":%s\n", value);
    }
    char *text = buf_cstr(&b);
    if (!text)
        buf_free(&b);
    return text;
}

static void quoted_etag(struct http_res *res, const char *etag)
{
    char text[64];
    snprintf(text, sizeof text, "\"%s\"", etag);
    http_res_header(res, "ETag", text);
}

static void checksum_header(struct http_res *res, const char *checksum)
{
    char name[48];
    const char *blank = strchr(checksum, ' ');
    if (!blank)
        return;
    snprintf(name, sizeof name, "x-amz-checksum-%.*s", (int)(blank - checksum), checksum);
    http_res_header(res, name, blank + 1);
}

/* ---- put ---------------------------------------------------------------------------- */

void s3_put(struct s3_call *c)
{
    AUTO_FREE struct s3_body *body = malloc(sizeof *body);
    AUTO(artifact_info_free) struct artifact_info info = {.headers = s3_kept_headers(c)};
    struct artifacts *a = c->s->artifacts;
    struct artifact_put *put = NULL;
    struct err e = ERR_INIT;
    uint8_t data[HTTP1_IN_CAP];
    ssize_t n = 0;
    if (http_req_header(c->req, "if-none-match") || http_req_header(c->req, "if-match")) {
        s3_error(c, 501, "NotImplemented", "The artifact store has no conditional writes.");
        return;
    }
    int r = body && info.headers ? artifacts_bucket_check(a, c->bucket, &e)
                                 : err_sys(&e, ENOMEM, "put an object");
    if (r == 0)
        r = s3_body_open(body, c, UINT64_MAX, &e);
    if (r == 0)
        r = artifacts_put_begin(a, &put, &e);
    while (r == 0 && (n = s3_body_read(body, data, sizeof data, &e)) > 0)
        r = artifacts_put_write(put, data, (size_t)n, &e);
    if (r == 0 && n < 0)
        r = (int)n;
    if (r < 0) {
        artifacts_put_abort(put);
        s3_fail(c, r, &e);
        return;
    }
    snprintf(info.etag, sizeof info.etag, "%s", body->got_md5);
    if (body->has_sum)
        snprintf(info.checksum, sizeof info.checksum, "%s %s", body->sum_name, body->want_sum);
    r = artifacts_put_commit(put, c->bucket, c->key, &info, &e);
    if (r < 0) {
        s3_fail(c, r, &e);
        return;
    }
    AUTO(http_res_free) struct http_res res = {.status = 200};
    quoted_etag(&res, info.etag);
    checksum_header(&res, info.checksum);
    http_res_header(&res, "x-amz-request-id", c->req->id);
    exchange_respond(c->x, &res);
}

/* ---- get ---------------------------------------------------------------------------- */

enum range { RANGE_NONE, RANGE_PART, RANGE_BAD };

/* One range of bytes; several, or another unit, count as none (RFC 9110 14.2). */
static enum range parse_range(const char *text, uint64_t size, uint64_t *ret_from,
                              uint64_t *ret_len)
{
    uint64_t from, to = UINT64_MAX;
    if (!text || strncmp(text, "bytes=", 6) != 0)
        return RANGE_NONE;
    text += 6;
    const char *dash = strchr(text, '-');
    if (!dash || strchr(text, ','))
        return RANGE_NONE;
    if (dash == text) {
        if (!parse_u64(dash + 1, 0, UINT64_MAX, &to))
            return RANGE_NONE;
        if (to == 0 || size == 0)
            return RANGE_BAD;
        *ret_len = MIN(to, size);
        *ret_from = size - *ret_len;
        return RANGE_PART;
    }
    if (!parse_u64n(text, (size_t)(dash - text), 0, UINT64_MAX, &from) ||
        (dash[1] && !parse_u64(dash + 1, 0, UINT64_MAX, &to)) || to < from)
        return RANGE_NONE;
    if (from >= size)
        return RANGE_BAD;
    *ret_from = from;
    *ret_len = MIN(to, size - 1) - from + 1;
    return RANGE_PART;
}

/* Does a list of quoted entity tags, or "*", hold this one? */
static bool etag_listed(const char *list, const char *etag)
{
    return strcmp(list, "*") == 0 || strstr(list, etag) != NULL;
}

static void object_headers(struct http_res *res, const struct s3_call *c,
                           struct artifact_info *info, bool with_checksum)
{
    char date[40];
    time_t t = (time_t)info->modified;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    res->content_type = "binary/octet-stream";
    quoted_etag(res, info->etag);
    http_res_header(res, "Last-Modified", date);
    http_res_header(res, "Accept-Ranges", "bytes");
    http_res_header(res, "x-amz-request-id", c->req->id);
    if (with_checksum)
        checksum_header(res, info->checksum);
    for (char *p = info->headers; p && *p;) {
        char *end = strchr(p, '\n'), *colon = strchr(p, ':');
        if (!end || !colon || colon > end)
            break;
        *end = *colon = '\0';
        if (strcmp(p, "content-type") == 0)
            res->content_type = colon + 1;
        else
            http_res_header(res, p, colon + 1);
        p = end + 1;
    }
}

static void send_bytes(struct s3_call *c, int fd, uint64_t from, uint64_t len)
{
    uint8_t data[HTTP1_IN_CAP];
    while (len > 0) {
        size_t part = (size_t)MIN(len, sizeof data);
        if (fd_pread_full(fd, data, part, from) < 0 ||
            conn_write(c->x->c, data, part, HTTP1_STALL_MS) < 0) {
            c->x->close = true; /* too late for an error: the length tells */
            return;
        }
        from += part;
        len -= part;
    }
}

void s3_get(struct s3_call *c, bool head)
{
    AUTO(artifact_info_free) struct artifact_info info = {.headers = NULL};
    AUTO(http_res_free) struct http_res res = {.status = 200};
    AUTO_CLOSE int fd = -1;
    struct err e = ERR_INIT;
    int r = artifacts_get(c->s->artifacts, c->bucket, c->key, &fd, &info, &e);
    if (r < 0) {
        s3_fail(c, r, &e);
        return;
    }
    const char *match = http_req_header(c->req, "if-match");
    const char *none = http_req_header(c->req, "if-none-match");
    if (match && !etag_listed(match, info.etag)) {
        s3_error(c, 412, "PreconditionFailed",
                 "At least one of the pre-conditions you specified did not hold");
        return;
    }
    if (none && etag_listed(none, info.etag)) {
        quoted_etag(&res, info.etag);
        res.status = 304;
        exchange_respond(c->x, &res);
        return;
    }
    uint64_t from = 0, len = info.size;
    enum range range = parse_range(http_req_header(c->req, "range"), info.size, &from, &len);
    if (range == RANGE_BAD) {
        s3_error(c, 416, "InvalidRange", "The requested range is not satisfiable");
        return;
    }
    if (range == RANGE_PART) {
        char text[96];
        snprintf(text, sizeof text, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, from,
                 from + len - 1, info.size);
        http_res_header(&res, "Content-Range", text);
        res.status = 206;
    }
    const char *mode = http_req_header(c->req, "x-amz-checksum-mode");
    object_headers(&res, c, &info, range == RANGE_NONE && mode && !strcasecmp(mode, "enabled"));
    if (exchange_respond_head(c->x, &res, len) == 0 && !head)
        send_bytes(c, fd, from, len);
}

/* ---- copy and delete ------------------------------------------------------------------ */

int s3_open_source(struct s3_call *c, const char *source, int *ret_fd,
                   struct artifact_info *ret)
{
    char bucket[BUCKET_CAP], key[ARTIFACT_KEY_MAX + 1];
    struct err e = ERR_INIT;
    source += *source == '/';
    size_t bucket_len = strcspn(source, "/"), key_len;
    const char *key_text = source + bucket_len + (source[bucket_len] == '/');
    key_len = strcspn(key_text, "?");
    if (key_text[key_len]) {
        s3_error(c, 501, "NotImplemented", "The artifact store has no versions.");
        return -ENOTSUP;
    }
    if (!url_decode(source, bucket_len, bucket, sizeof bucket) || key_len == 0 ||
        !url_decode(key_text, key_len, key, sizeof key)) {
        s3_error(c, 400, "InvalidArgument",
                 "Copy Source must mention the source bucket and key: sourcebucket/sourcekey");
        return -EINVAL;
    }
    int r = artifacts_get(c->s->artifacts, bucket, key, ret_fd, ret, &e);
    if (r < 0)
        s3_fail(c, r, &e);
    return r;
}

void s3_copy(struct s3_call *c, const char *source)
{
    AUTO(artifact_info_free) struct artifact_info info = {.headers = NULL};
    AUTO(buf_free) struct buf xml = BUF_INIT;
    AUTO_CLOSE int fd = -1;
    struct artifact_put *put = NULL;
    struct err e = ERR_INIT;
    if (s3_open_source(c, source, &fd, &info) < 0)
        return;
    const char *directive = http_req_header(c->req, "x-amz-metadata-directive");
    if (directive && strcasecmp(directive, "replace") == 0) {
        free(info.headers);
        info.headers = s3_kept_headers(c);
    }
    int r = artifacts_put_begin(c->s->artifacts, &put, &e);
    if (r == 0)
        r = artifacts_put_copy(put, fd, info.size, &e);
    if (r < 0) {
        artifacts_put_abort(put);
    } else {
        r = artifacts_put_commit(put, c->bucket, c->key, &info, &e);
    }
    if (r < 0) {
        s3_fail(c, r, &e);
        return;
    }
    char when[32];
    s3_time(info.modified, when);
    buf_printf(&xml,
               "<CopyObjectResult><LastModified>%s</LastModified>"
               "<ETag>&quot;%s&quot;</ETag></CopyObjectResult>",
               when, info.etag);
    s3_answer_xml(c, &xml);
}

void s3_delete(struct s3_call *c)
{
    struct err e = ERR_INIT;
    int r = artifacts_delete(c->s->artifacts, c->bucket, c->key, &e);
    if (r < 0 && r != -ENOENT)
        s3_fail(c, r, &e);
    else
        s3_answer_empty(c, 204);
}
