// SPDX-License-Identifier: Apache-2.0
/* Signing; see sigv4_sign.h. */
#include "sigv4_sign.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "../hypervisor/base/mem.h"

void sigv4_date(int64_t epoch, char ret[17])
{
    time_t t = (time_t)epoch;
    struct tm tm = {.tm_mday = 1};
    gmtime_r(&t, &tm);
    if (strftime(ret, 17, "%Y%m%dT%H%M%SZ", &tm) == 0)
        ret[0] = '\0';
}

static int by_name(const void *a, const void *b)
{
    const char *const *na = a, *const *nb = b;
    return strcasecmp(*na, *nb);
}

/* "content-type;host;x-amz-date": lower case, sorted, each once. */
static int list_headers(const struct http_req *r, struct sigv4 *s, struct err *e)
{
    const char *names[HTTP_HEADERS_MAX];
    size_t len = 0;
    for (size_t i = 0; i < r->nheaders; i++)
        names[i] = r->headers[i].name;
    qsort(names, r->nheaders, sizeof names[0], by_name);
    for (size_t i = 0; i < r->nheaders; i++) {
        if (i > 0 && strcasecmp(names[i - 1], names[i]) == 0)
            continue;
        size_t n = strlen(names[i]);
        if (len + n + 2 > sizeof s->signed_headers)
            return err_set(e, E2BIG, "too many headers to sign");
        if (len > 0)
            s->signed_headers[len++] = ';';
        for (size_t k = 0; k < n; k++) {
            char c = names[i][k];
            s->signed_headers[len++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
    }
    s->signed_headers[len] = '\0';
    return 0;
}

int sigv4_sign(const struct sigv4_signer *k, const struct http_req *r, const char *payload_hash,
               struct buf *ret, struct err *e)
{
    struct sigv4 s = {.presigned = false};
    uint8_t key[32], signature[32];
    const char *date = http_req_header(r, "x-amz-date");
    if (!date || !sigv4_time(date, &s.time) || !http_req_header(r, "host"))
        return err_set(e, EINVAL, "a request to be signed needs host and x-amz-date");
    if (strlen(k->region) >= sizeof s.region || strlen(k->service) >= sizeof s.service ||
        strlen(k->key_id) >= sizeof s.key_id || strpbrk(k->key_id, "/, \t\r\n"))
        return err_set(e, EINVAL, "the access key id or the region is not usable");
    snprintf(s.key_id, sizeof s.key_id, "%s", k->key_id);
    snprintf(s.region, sizeof s.region, "%s", k->region);
    snprintf(s.service, sizeof s.service, "%s", k->service);
    snprintf(s.date, sizeof s.date, "%s", date);
    snprintf(s.day, sizeof s.day, "%.8s", date);
    int n = list_headers(r, &s, e);
    if (n < 0)
        return n;
    sigv4_signing_key(k->secret, &s, key);
    bool ok = sigv4_compute(&s, r, key, payload_hash, k->encode_twice, false, signature);
    explicit_bzero(key, sizeof key);
    if (!ok)
        return err_set(e, E2BIG, "the request cannot be signed: too large");
    hex_encode(signature, sizeof signature, s.signature);
    buf_printf(ret,
               "AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, SignedHeaders=%s, "
               "Signature=%s",
               s.key_id, s.day, s.region, s.service, s.signed_headers, s.signature);
    return ret->bad ? err_sys(e, ENOMEM, "sign a request") : 0;
}
