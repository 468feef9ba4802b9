// SPDX-License-Identifier: Apache-2.0
/*
 * The canonical request of Signature Version 4: method, path, sorted query,
 * signed headers and payload hash in one text. See sigv4.h.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../hypervisor/base/mem.h"
#include "sigv4.h"
#include "urlenc.h"

#define QUERY_PARAMS_MAX 200u

/* Signers drop empty and dot segments before they encode (all services but S3). */
static void canon_path_twice(struct buf *b, const char *path)
{
    const char *segment[512];
    size_t size[512], n = 0, len;
    for (const char *p = path; *p; p += len) {
        p += *p == '/';
        len = strcspn(p, "/");
        if (len == 0 || (len == 1 && p[0] == '.'))
            continue;
        if (len == 2 && p[0] == '.' && p[1] == '.') {
            n -= n > 0;
            continue;
        }
        if (n == ARRAY_LEN(segment)) {
            b->bad = true;
            return;
        }
        segment[n] = p;
        size[n++] = len;
    }
    for (size_t i = 0; i < n; i++) {
        buf_str(b, "/");
        url_encode(b, segment[i], size[i], false);
    }
    if (n == 0 || path[strlen(path) - 1] == '/')
        buf_str(b, "/");
}

struct param {
    size_t at, name_len, len; /* "name=value" inside the text */
};

static int param_compare(const void *pa, const void *pb, void *ctx)
{
    const struct param *a = pa, *b = pb;
    const uint8_t *text = ctx;
    size_t na = a->name_len, nb = b->name_len;
    int c = memcmp(text + a->at, text + b->at, MIN(na, nb));
    if (c != 0 || na != nb)
        return c != 0 ? c : na < nb ? -1 : 1;
    c = memcmp(text + a->at, text + b->at, MIN(a->len, b->len));
    return c != 0 ? c : a->len < b->len ? -1 : a->len > b->len;
}

static void canon_query(struct buf *b, const char *query, bool presigned)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct param params[QUERY_PARAMS_MAX];
    size_t n = 0;
    struct query_iter it = {.rest = query};
    while (query_next(&it)) {
        if (presigned && it.name_len == 15 && !memcmp(it.name, "X-Amz-Signature", 15))
            continue;
        if (n == ARRAY_LEN(params)) {
            b->bad = true;
            return;
        }
        params[n].at = text.len;
        url_recode(&text, it.name, it.name_len, false);
        params[n].name_len = text.len - params[n].at;
        buf_str(&text, "=");
        url_recode(&text, it.value, it.value_len, false);
        params[n].len = text.len - params[n].at;
        n++;
    }
    if (text.bad) {
        b->bad = true;
        return;
    }
    if (n > 1)
        qsort_r(params, n, sizeof params[0], param_compare, text.data);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_str(b, "&");
        buf_add(b, text.data + params[i].at, params[i].len);
    }
}

/* Blanks at both ends go, runs of them become one. */
static void canon_value(struct buf *b, const char *v)
{
    bool blank = false, any = false;
    for (; *v; v++) {
        if (*v == ' ' || *v == '\t') {
            blank = any;
            continue;
        }
        if (blank)
            buf_str(b, " ");
        buf_add(b, v, 1);
        blank = false;
        any = true;
    }
}

static void canon_headers(struct buf *b, const struct sigv4 *s, const struct http_req *r)
{
    for (const char *p = s->signed_headers; *p;) {
        size_t len = strcspn(p, ";");
        bool first = true;
        buf_add(b, p, len);
        buf_str(b, ":");
        for (size_t i = 0; i < r->nheaders; i++) {
            const char *name = r->headers[i].name;
            if (strlen(name) != len || strncasecmp(name, p, len) != 0)
                continue;
            if (!first)
                buf_str(b, ",");
            canon_value(b, r->headers[i].value);
            first = false;
        }
        buf_str(b, "\n");
        p += len + (p[len] == ';');
    }
}

void sigv4_canonical(const struct sigv4 *s, const struct http_req *r, bool encode_twice,
                     bool raw_path, const char *payload_hash, struct buf *b)
{
    buf_str(b, r->method);
    buf_str(b, "\n");
    if (encode_twice)
        canon_path_twice(b, r->path);
    else if (raw_path)
        buf_str(b, r->path);
    else
        url_recode(b, r->path, strlen(r->path), true);
    buf_str(b, "\n");
    canon_query(b, r->query, s->presigned);
    buf_str(b, "\n");
    canon_headers(b, s, r);
    buf_str(b, "\n");
    buf_str(b, s->signed_headers);
    buf_str(b, "\n");
    buf_str(b, payload_hash);
}
