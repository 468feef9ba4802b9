// SPDX-License-Identifier: Apache-2.0
/* The artifact store's front: signatures, routing, errors; see s3.h. */
#include "s3.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../hypervisor/base/mem.h"
#include "s3_priv.h"
#include "s3_xml.h"
#include "urlenc.h"

#define XML_HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

bool s3_owns(const struct http_req *r)
{
    return strcmp(r->path, "/s3") == 0 || strncmp(r->path, "/s3/", 4) == 0 ||
           sigv4_scope_is(r, "s3");
}

/* ---- answers ------------------------------------------------------------------ */

void s3_time(double seconds, char ret[32])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    gmtime_r(&t, &tm);
    size_t n = strftime(ret, 24, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret + n, 32 - n, ".%03dZ", (int)((seconds - (double)t) * 1000) % 1000);
}

static void respond(struct s3_call *c, struct http_res *res)
{
    http_res_header(res, "x-amz-request-id", c->req->id);
    exchange_respond(c->x, res);
}

void s3_answer_xml(struct s3_call *c, const struct buf *xml)
{
    AUTO(http_res_free)
    struct http_res res = {.status = 200, .content_type = "application/xml"};
    buf_str(&res.body, XML_HEAD);
    buf_add(&res.body, xml->data, xml->len);
    res.body.bad = res.body.bad || xml->bad;
    respond(c, &res);
}

void s3_answer_empty(struct s3_call *c, int status)
{
    AUTO(http_res_free) struct http_res res = {.status = status};
    respond(c, &res);
}

static void put_error(struct s3_call *c, int status, const char *code, const char *text)
{
    AUTO(http_res_free)
    struct http_res res = {.status = status, .content_type = "application/xml"};
    buf_str(&res.body, XML_HEAD "<Error>");
    xml_element(&res.body, "Code", code);
    xml_element(&res.body, "Message", text);
    if (c->bucket[0])
        xml_element(&res.body, "BucketName", c->bucket);
    if (c->key[0])
        xml_element(&res.body, "Key", c->key);
    xml_element(&res.body, "RequestId", c->req->id);
    buf_str(&res.body, "</Error>");
    respond(c, &res);
}

void s3_error(struct s3_call *c, int status, const char *code, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_error(c, status, code, text);
}

void s3_fail(struct s3_call *c, int code, const struct err *e)
{
    static const struct {
        int num, status;
        const char *name, *text; /* NULL: the error's own */
    } table[] = {
        {ENOENT, 404, "NoSuchKey", "The specified key does not exist."},
        {ENOTDIR, 404, "NoSuchBucket", "The specified bucket does not exist"},
        {ESRCH, 404, "NoSuchUpload", NULL},
        {EEXIST, 409, "BucketAlreadyOwnedByYou",
         "Your previous request to create the named bucket succeeded and you already own it."},
        {ENOTEMPTY, 409, "BucketNotEmpty", "The bucket you tried to delete is not empty"},
        {EINVAL, 400, "InvalidArgument", NULL},
        {E2BIG, 400, "MetadataTooLarge", NULL},
        {EFBIG, 400, "EntityTooLarge",
         "Your proposed upload exceeds the maximum allowed object size."},
        {EDQUOT, 403, "QuotaExceeded", NULL},
        {ENOSPC, 507, "InsufficientStorage", "The disk of the artifact store is full."},
        {ENOMSG, 411, "MissingContentLength", NULL},
        {EACCES, 403, "SignatureDoesNotMatch", NULL},
        {EILSEQ, 400, "BadDigest", NULL},
        {EKEYREJECTED, 400, "XAmzContentSHA256Mismatch", NULL},
        {EBADMSG, 400, "InvalidRequest", NULL},
        {ENODATA, 400, "IncompleteBody", NULL},
        {ETIMEDOUT, 400, "RequestTimeout",
         "Your socket connection to the server was not read from or written to within the "
         "timeout period."},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].num == -code) {
            put_error(c, table[i].status, table[i].name,
                      table[i].text ? table[i].text : e->msg);
            return;
        }
    }
    put_error(c, 500, "InternalError", e->msg[0] ? e->msg : "Something went wrong.");
}

static void refuse(struct s3_call *c, enum sigv4_fault f, const struct err *e)
{
    static const struct {
        int status;
        const char *name;
    } table[] = {
        [SIGV4_MISSING] = {403, "AccessDenied"},
        [SIGV4_INCOMPLETE] = {400, "AuthorizationHeaderMalformed"},
        [SIGV4_SERVICE] = {400, "AuthorizationHeaderMalformed"},
        [SIGV4_SKEWED] = {403, "RequestTimeTooSkewed"},
        [SIGV4_MISMATCH] = {403, "SignatureDoesNotMatch"},
        [SIGV4_UNSIGNED] = {403, "AccessDenied"},
        [SIGV4_UNKNOWN] = {403, "InvalidAccessKeyId"},
        [SIGV4_INTERNAL] = {500, "InternalError"},
    };
    put_error(c, table[f].status, table[f].name, f == SIGV4_MISSING ? "Access Denied" : e->msg);
}

/* ---- routing ------------------------------------------------------------------- */

/* Bucket and key out of the path. */
static bool split_path(struct s3_call *c)
{
    const char *p = c->req->path;
    if (strcmp(p, "/s3") == 0 || strncmp(p, "/s3/", 4) == 0)
        p += 3;
    p += *p == '/';
    size_t len = strcspn(p, "/");
    if (len > 0 &&
        (!url_decode(p, len, c->bucket, sizeof c->bucket) || strchr(c->bucket, '/') != NULL)) {
        s3_error(c, 400, "InvalidBucketName", "The specified bucket is not valid.");
        return false;
    }
    p += len;
    p += *p == '/';
    len = strlen(p);
    if (len > 0 && !url_decode(p, len, c->key, sizeof c->key)) {
        if (len > ARTIFACT_KEY_MAX)
            s3_error(c, 400, "KeyTooLongError", "Your key is too long");
        else
            s3_error(c, 400, "InvalidURI", "Couldn't parse the specified URI.");
        return false;
    }
    return true;
}

static bool allowed(struct s3_call *c)
{
    bool reads = strcmp(c->req->method, "GET") == 0 || strcmp(c->req->method, "HEAD") == 0;
    if (reads || c->auth.rights == RIGHTS_ADMIN)
        return true;
    s3_error(c, 403, "AccessDenied", "This access key may read artifacts but not change them.");
    return false;
}

/* Parts of S3 that are not here, by the query parameter that asks for them. */
static bool unsupported(struct s3_call *c)
{
    static const char *const names[] = {
        "acl",       "tagging",   "versions",   "versionId",        "retention",
        "policy",    "cors",      "lifecycle",  "legal-hold",       "replication",
        "website",   "logging",   "encryption", "notification",     "accelerate",
        "torrent",   "restore",   "select",     "object-lock",      "requestPayment",
        "analytics", "inventory", "metrics",    "publicAccessBlock"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (query_has(c->req->query, names[i])) {
            s3_error(c, 501, "NotImplemented", "The artifact store has no '%s'.", names[i]);
            return true;
        }
    }
    return false;
}

static void get_bucket(struct s3_call *c)
{
    AUTO(buf_free) struct buf xml = BUF_INIT;
    struct err e = ERR_INIT;
    const char *q = c->req->query;
    int r = artifacts_bucket_check(c->s->artifacts, c->bucket, &e);
    if (r < 0) {
        s3_fail(c, r, &e);
    } else if (query_has(q, "location")) {
        bool first = strcmp(c->s->region, "us-east-1") == 0; /* has no name there */
        xml_element(&xml, "LocationConstraint", first ? "" : c->s->region);
        s3_answer_xml(c, &xml);
    } else if (query_has(q, "versioning")) {
        buf_str(&xml, "<VersioningConfiguration/>");
        s3_answer_xml(c, &xml);
    } else if (query_has(q, "uploads")) {
        s3_list_uploads(c);
    } else {
        bool v2 = strstr(q, "list-type=2") != NULL;
        s3_list_objects(c, v2);
    }
}

static void bucket_call(struct s3_call *c)
{
    struct err e = ERR_INIT;
    const char *m = c->req->method;
    int r = 0;
    if (!strcmp(m, "GET")) {
        get_bucket(c);
        return;
    }
    if (!strcmp(m, "POST") && query_has(c->req->query, "delete")) {
        s3_delete_many(c);
        return;
    }
    if (!strcmp(m, "HEAD"))
        r = artifacts_bucket_check(c->s->artifacts, c->bucket, &e);
    else if (!strcmp(m, "DELETE"))
        r = artifacts_bucket_delete(c->s->artifacts, c->bucket, &e);
    else if (!strcmp(m, "PUT"))
        r = artifacts_bucket_create(c->s->artifacts, c->bucket, &e);
    else {
        s3_error(c, 405, "MethodNotAllowed",
                 "The specified method is not allowed against this resource.");
        return;
    }
    if (r == -EINVAL) {
        s3_error(c, 400, "InvalidBucketName", "%s", e.msg);
    } else if (r < 0) {
        s3_fail(c, r, &e);
    } else {
        AUTO(http_res_free) struct http_res res = {.status = !strcmp(m, "DELETE") ? 204 : 200};
        if (!strcmp(m, "PUT")) {
            char location[BUCKET_CAP + 1];
            snprintf(location, sizeof location, "/%s", c->bucket);
            http_res_header(&res, "Location", location);
        }
        http_res_header(&res, "x-amz-bucket-region", c->s->region);
        respond(c, &res);
    }
}

static void object_call(struct s3_call *c)
{
    const char *m = c->req->method;
    bool bad = false;
    AUTO_FREE char *upload = query_value(c->req->query, "uploadId", &bad);
    const char *source = http_req_header(c->req, "x-amz-copy-source");
    if (!strcmp(m, "PUT") && upload)
        s3_upload_part(c, upload);
    else if (!strcmp(m, "PUT") && source)
        s3_copy(c, source);
    else if (!strcmp(m, "PUT"))
        s3_put(c);
    else if (!strcmp(m, "GET") && upload)
        s3_list_parts(c, upload);
    else if (!strcmp(m, "GET") || !strcmp(m, "HEAD"))
        s3_get(c, m[0] == 'H');
    else if (!strcmp(m, "DELETE") && upload)
        s3_upload_abort(c, upload);
    else if (!strcmp(m, "DELETE"))
        s3_delete(c);
    else if (!strcmp(m, "POST") && upload)
        s3_upload_complete(c, upload);
    else if (!strcmp(m, "POST") && query_has(c->req->query, "uploads"))
        s3_upload_begin(c);
    else
        s3_error(c, 405, "MethodNotAllowed",
                 "The specified method is not allowed against this resource.");
}

void s3_handle(const struct s3 *s, struct exchange *x)
{
    struct s3_call c = {.s = s, .x = x, .req = x->req};
    struct sigv4_rules rules = {.service = "s3", .sign_all_amz = true, .now = time(NULL)};
    struct err e = ERR_INIT;
    enum sigv4_fault f = auth_open(s->store, x->req, &c.auth, &e);
    if (f == SIGV4_OK) {
        const char *hash = http_req_header(x->req, "x-amz-content-sha256");
        if (!hash && !c.auth.sig.presigned) {
            s3_error(&c, 400, "InvalidRequest",
                     "Missing required header for this request: x-amz-content-sha256");
            return;
        }
        snprintf(c.payload_hash, sizeof c.payload_hash, "%s", hash ? hash : "UNSIGNED-PAYLOAD");
        f = sigv4_check(&c.auth.sig, x->req, c.auth.key, c.payload_hash, &rules, &e);
    }
    if (f != SIGV4_OK) {
        refuse(&c, f, &e);
        return;
    }
    if (!split_path(&c) || !allowed(&c) || unsupported(&c))
        return;
    if (c.key[0])
        object_call(&c);
    else if (c.bucket[0])
        bucket_call(&c);
    else if (!strcmp(x->req->method, "GET"))
        s3_list_buckets(&c);
    else
        s3_error(&c, 405, "MethodNotAllowed",
                 "The specified method is not allowed against this resource.");
}
