// SPDX-License-Identifier: Apache-2.0
/* Request bodies of the artifact store: decoding and digests; see s3_priv.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "s3_priv.h"

static bool is_sha256_hex(const char *s)
{
    uint8_t bytes[32];
    return hex_decode(s, bytes, sizeof bytes);
}

/* Sets the coding up from what was signed in the place of the payload hash. */
static int open_coding(struct s3_body *b, const struct s3_call *c, struct err *e)
{
    struct s3_chunked_config config = {.is_signed = false};
    const char *hash = c->payload_hash;
    if (is_sha256_hex(hash)) {
        b->has_sha = true;
        memcpy(b->want_sha, hash, sizeof b->want_sha);
        digest_begin(&b->sha, DIGEST_SHA256);
        return 0;
    }
    if (strcmp(hash, "UNSIGNED-PAYLOAD") == 0)
        return 0;
    if (strcmp(hash, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD") == 0)
        config.is_signed = true;
    else if (strcmp(hash, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER") == 0)
        config.is_signed = config.trailer = true;
    else if (strcmp(hash, "STREAMING-UNSIGNED-PAYLOAD-TRAILER") == 0)
        config.trailer = true;
    else
        return err_set(e, EINVAL,
                       "x-amz-content-sha256 must be the payload's SHA-256, "
                       "UNSIGNED-PAYLOAD, or one of the STREAMING values");
    b->is_chunked = true;
    if (config.is_signed) {
        const struct sigv4 *sig = &c->auth.sig;
        memcpy(config.key, c->auth.key, sizeof config.key);
        memcpy(config.date, sig->date, sizeof config.date);
        memcpy(config.seed_signature, sig->signature, sizeof config.seed_signature);
        snprintf(config.scope, sizeof config.scope, "%s/%s/%s/aws4_request", sig->day,
                 sig->region, sig->service);
    }
    s3_chunked_begin(&b->chunked, &config);
    return 0;
}

/* The checksum a client declares: in a header, or by name for the trailer. */
static int open_sum(struct s3_body *b, const struct s3_call *c, struct err *e)
{
    static const char prefix[] = "x-amz-checksum-";
    const char *name = NULL;
    for (size_t i = 0; i < c->req->nheaders && !name; i++) {
        const struct http_header *h = &c->req->headers[i];
        enum digest_kind kind;
        char lower[16];
        if (strncasecmp(h->name, prefix, sizeof prefix - 1) != 0)
            continue;
        snprintf(lower, sizeof lower, "%s", h->name + sizeof prefix - 1);
        for (char *p = lower; *p; p++)
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        if (!digest_by_name(lower, &kind))
            continue; /* x-amz-checksum-mode, x-amz-checksum-type, … */
        if (strlen(h->value) >= sizeof b->want_sum)
            return err_set(e, EINVAL, "the value of %s is too long", h->name);
        snprintf(b->want_sum, sizeof b->want_sum, "%s", h->value);
        name = h->name + sizeof prefix - 1;
    }
    const char *trailer = http_req_header(c->req, "x-amz-trailer");
    if (!name && trailer && b->is_chunked &&
        strncasecmp(trailer, prefix, sizeof prefix - 1) == 0) {
        name = trailer + sizeof prefix - 1;
        b->sum_in_trailer = true;
    }
    if (!name)
        return 0;
    enum digest_kind kind;
    snprintf(b->sum_name, sizeof b->sum_name, "%s", name);
    for (char *p = b->sum_name; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
    if (!digest_by_name(b->sum_name, &kind))
        return err_set(e, EINVAL, "the checksum '%s' is not known here", b->sum_name);
    b->has_sum = true;
    digest_begin(&b->sum, kind);
    return 0;
}

static int open_length(struct s3_body *b, const struct s3_call *c, uint64_t max, struct err *e)
{
    const char *decoded = http_req_header(c->req, "x-amz-decoded-content-length");
    int64_t length = http1_body_length(b->h);
    if (b->is_chunked) {
        if (!decoded || !parse_u64(decoded, 0, INT64_MAX, &b->length))
            return err_set(e, ENOMSG, "x-amz-decoded-content-length is missing or malformed");
    } else if (length < 0) {
        return err_set(e, ENOMSG, "the request needs a Content-Length");
    } else {
        b->length = (uint64_t)length;
    }
    return b->length > max ? err_set(e, EFBIG, "the body is larger than allowed") : 0;
}

int s3_body_open(struct s3_body *b, const struct s3_call *c, uint64_t max, struct err *e)
{
    memset(b, 0, sizeof *b);
    b->h = c->x->h;
    int r = open_coding(b, c, e);
    if (r == 0)
        r = open_length(b, c, max, e);
    if (r == 0)
        r = open_sum(b, c, e);
    if (r < 0)
        return r;
    const char *md5 = http_req_header(c->req, "content-md5");
    if (md5 && strlen(md5) >= sizeof b->want_md5)
        return err_set(e, EINVAL, "The Content-MD5 you specified is not valid.");
    if (md5) {
        b->has_md5 = true;
        snprintf(b->want_md5, sizeof b->want_md5, "%s", md5);
    }
    digest_begin(&b->md5, DIGEST_MD5);
    return 0;
}

static int check_sum(struct s3_body *b, struct err *e)
{
    uint8_t bytes[DIGEST_MAX];
    char text[64], name[48];
    if (!b->has_sum)
        return 0;
    base64_encode(bytes, digest_end(&b->sum, bytes), text);
    snprintf(name, sizeof name, "x-amz-checksum-%s", b->sum_name);
    if (b->sum_in_trailer &&
        !s3_chunked_trailer(&b->chunked, name, b->want_sum, sizeof b->want_sum))
        return err_set(e, EBADMSG, "the announced trailer %s did not come", name);
    if (strcmp(text, b->want_sum) != 0)
        return err_set(e, EILSEQ, "The %s you specified did not match the calculated checksum.",
                       b->sum_name);
    return 0;
}

/* All bytes are there: do they add up to what was declared? */
static int body_end(struct s3_body *b, struct err *e)
{
    uint8_t bytes[DIGEST_MAX];
    char text[65];
    b->ended = true;
    if (b->is_chunked && !s3_chunked_done(&b->chunked))
        return err_set(e, ENODATA, "the chunked body is cut short");
    if (b->seen != b->length)
        return err_set(e, ENODATA,
                       "You did not provide the number of bytes specified by the "
                       "Content-Length HTTP header");
    digest_end(&b->md5, bytes);
    hex_encode(bytes, 16, b->got_md5);
    base64_encode(bytes, 16, text);
    if (b->has_md5 && strcmp(text, b->want_md5) != 0)
        return err_set(e, EILSEQ,
                       "The Content-MD5 you specified did not match what we received.");
    if (b->has_sha) {
        digest_end(&b->sha, bytes);
        hex_encode(bytes, 32, text);
        if (strcmp(text, b->want_sha) != 0)
            return err_set(e, EKEYREJECTED,
                           "The provided 'x-amz-content-sha256' header does "
                           "not match what was computed.");
    }
    return check_sum(b, e);
}

ssize_t s3_body_read(struct s3_body *b, void *data, size_t cap, struct err *e)
{
    for (;;) {
        ssize_t n = b->ended ? 0 : http1_body(b->h, data, cap, HTTP1_STALL_MS);
        if (n < 0)
            return err_sys(e, (int)-n, "read the request's body");
        if (n == 0)
            return b->ended ? 0 : body_end(b, e);
        size_t len = (size_t)n;
        if (b->is_chunked) {
            int r = s3_chunked_feed(&b->chunked, data, len, data, &len, e);
            if (r < 0)
                return r;
        }
        b->seen += len;
        if (b->seen > b->length)
            return err_set(e, EBADMSG, "the body is longer than declared");
        digest_add(&b->md5, data, len);
        if (b->has_sha)
            digest_add(&b->sha, data, len);
        if (b->has_sum)
            digest_add(&b->sum, data, len);
        if (len > 0)
            return (ssize_t)len;
    }
}

int s3_body_all(const struct s3_call *c, size_t max, struct buf *ret, struct err *e)
{
    AUTO_FREE struct s3_body *b = malloc(sizeof *b);
    if (!b)
        return err_sys(e, ENOMEM, "read the request's body");
    int r = s3_body_open(b, c, max, e);
    if (r < 0)
        return r;
    for (;;) {
        uint8_t *p = buf_reserve(ret, 4096);
        if (!p)
            return err_sys(e, ENOMEM, "read the request's body");
        ssize_t n = s3_body_read(b, p, 4096, e);
        if (n <= 0)
            return (int)n;
        ret->len += (size_t)n;
    }
}
