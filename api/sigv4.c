// SPDX-License-Identifier: Apache-2.0
/* Parsing and checking of signatures; the canonical form is in sigv4_canon.c. See sigv4.h. */
#include "sigv4.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "urlenc.h"

#define ALGORITHM "AWS4-HMAC-SHA256"

bool sigv4_time(const char *t, int64_t *ret)
{
    uint64_t v[6];
    if (strlen(t) != 16 || t[8] != 'T' || t[15] != 'Z')
        return false;
    if (!parse_u64n(t, 4, 1970, 9999, &v[0]) || !parse_u64n(t + 4, 2, 1, 12, &v[1]) ||
        !parse_u64n(t + 6, 2, 1, 31, &v[2]) || !parse_u64n(t + 9, 2, 0, 23, &v[3]) ||
        !parse_u64n(t + 11, 2, 0, 59, &v[4]) || !parse_u64n(t + 13, 2, 0, 60, &v[5]))
        return false;
    struct tm tm = {
        .tm_year = (int)v[0] - 1900,
        .tm_mon = (int)v[1] - 1,
        .tm_mday = (int)v[2],
        .tm_hour = (int)v[3],
        .tm_min = (int)v[4],
        .tm_sec = (int)v[5],
    };
    *ret = timegm(&tm);
    return true;
}

static bool copy_text(char *ret, size_t cap, const char *text, size_t len)
{
    if (len == 0 || len >= cap)
        return false;
    memcpy(ret, text, len);
    ret[len] = '\0';
    return true;
}

/* <key id>/<day>/<region>/<service>/aws4_request; the key id may hold no slash. */
static bool parse_credential(struct sigv4 *s, const char *text, size_t len)
{
    const char *part[5];
    size_t size[5], n = 0, begin = 0;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && text[i] != '/')
            continue;
        if (n == ARRAY_LEN(part))
            return false;
        part[n] = text + begin;
        size[n++] = i - begin;
        begin = i + 1;
    }
    if (n != ARRAY_LEN(part) || size[4] != 12 || memcmp(part[4], "aws4_request", 12) != 0)
        return false;
    uint64_t day;
    return parse_u64n(part[1], size[1], 19700101, 99991231, &day) &&
           copy_text(s->key_id, sizeof s->key_id, part[0], size[0]) &&
           copy_text(s->day, sizeof s->day, part[1], size[1]) &&
           copy_text(s->region, sizeof s->region, part[2], size[2]) &&
           copy_text(s->service, sizeof s->service, part[3], size[3]);
}

static bool parse_signature(struct sigv4 *s, const char *text, size_t len)
{
    uint8_t bytes[32];
    return len == 64 && copy_text(s->signature, sizeof s->signature, text, len) &&
           hex_decode(s->signature, bytes, sizeof bytes);
}

static enum sigv4_fault incomplete(struct err *e, const char *what)
{
    err_set(e, EBADMSG, "%s", what);
    return SIGV4_INCOMPLETE;
}

/* Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=… */
static enum sigv4_fault parse_header(struct sigv4 *s, const char *p, struct err *e)
{
    bool credential = false, headers = false, signature = false;
    size_t skip = strlen(ALGORITHM);
    if (strncmp(p, ALGORITHM, skip) != 0 || (p[skip] != ' ' && p[skip] != '\t'))
        return incomplete(e, "Authorization header must begin with '" ALGORITHM "'");
    p += skip;
    for (;;) {
        p += strspn(p, " \t,");
        if (!*p)
            break;
        size_t name = strcspn(p, "="), value_len;
        if (!p[name])
            return incomplete(e, "Authorization header has a part without '='");
        const char *value = p + name + 1;
        value_len = strcspn(value, ", \t");
        bool *seen, ok;
        if (name == 10 && !memcmp(p, "Credential", name)) {
            seen = &credential;
            ok = parse_credential(s, value, value_len);
        } else if (name == 13 && !memcmp(p, "SignedHeaders", name)) {
            seen = &headers;
            ok = copy_text(s->signed_headers, sizeof s->signed_headers, value, value_len);
        } else if (name == 9 && !memcmp(p, "Signature", name)) {
            seen = &signature;
            ok = parse_signature(s, value, value_len);
        } else {
            return incomplete(e, "Authorization header has an unknown part");
        }
        if (!ok || *seen)
            return incomplete(e, "Authorization header has a malformed or repeated part");
        *seen = true;
        p = value + value_len;
    }
    if (!credential)
        return incomplete(e, "Authorization header requires 'Credential' parameter.");
    if (!signature)
        return incomplete(e, "Authorization header requires 'Signature' parameter.");
    if (!headers)
        return incomplete(e, "Authorization header requires 'SignedHeaders' parameter.");
    return SIGV4_OK;
}

/* One decoded parameter of the query into ret; false when absent, repeated or too long. */
static bool query_get(const char *query, const char *name, char *ret, size_t cap)
{
    bool found = false;
    struct query_iter it = {.rest = query};
    size_t name_len = strlen(name);
    while (query_next(&it)) {
        if (it.name_len != name_len || memcmp(it.name, name, name_len) != 0)
            continue;
        if (found || !url_decode(it.value, it.value_len, ret, cap))
            return false;
        found = true;
    }
    return found;
}

static enum sigv4_fault parse_query(struct sigv4 *s, const char *query, struct err *e)
{
    char text[512];
    uint64_t expires;
    s->presigned = true;
    if (!query_get(query, "X-Amz-Algorithm", text, sizeof text) || strcmp(text, ALGORITHM))
        return incomplete(e, "X-Amz-Algorithm must be '" ALGORITHM "'");
    if (!query_get(query, "X-Amz-Credential", text, sizeof text) ||
        !parse_credential(s, text, strlen(text)))
        return incomplete(e, "X-Amz-Credential is missing or malformed");
    if (!query_get(query, "X-Amz-SignedHeaders", s->signed_headers, sizeof s->signed_headers))
        return incomplete(e, "X-Amz-SignedHeaders is missing or malformed");
    if (!query_get(query, "X-Amz-Signature", text, sizeof text) ||
        !parse_signature(s, text, strlen(text)))
        return incomplete(e, "X-Amz-Signature is missing or malformed");
    if (!query_get(query, "X-Amz-Expires", text, sizeof text) ||
        !parse_u64(text, 1, 604800, &expires))
        return incomplete(e, "X-Amz-Expires must be between 1 and 604800 seconds");
    s->expires = (int64_t)expires;
    if (!query_get(query, "X-Amz-Date", s->date, sizeof s->date))
        return incomplete(e, "X-Amz-Date is missing or malformed");
    return SIGV4_OK;
}

bool sigv4_scope_is(const struct http_req *r, const char *service)
{
    char want[48], text[512];
    const char *credential = http_req_header(r, "authorization"), *at;
    snprintf(want, sizeof want, "/%s/aws4_request", service);
    if (credential)
        return strncmp(credential, ALGORITHM, strlen(ALGORITHM)) == 0 &&
               (at = strstr(credential, want)) != NULL && strspn(at + strlen(want), ", \t") > 0;
    return query_get(r->query, "X-Amz-Credential", text, sizeof text) &&
           (at = strstr(text, want)) != NULL && at[strlen(want)] == '\0';
}

/* Lower case, sorted, no empty or repeated name: exactly what a signer produces. */
static bool signed_headers_valid(const char *list)
{
    const char *previous = NULL;
    size_t previous_len = 0;
    for (const char *p = list;;) {
        size_t len = strcspn(p, ";");
        if (len == 0)
            return false;
        for (size_t i = 0; i < len; i++) {
            if (p[i] <= ' ' || p[i] >= 127 || (p[i] >= 'A' && p[i] <= 'Z'))
                return false;
        }
        if (previous) {
            int c = memcmp(previous, p, MIN(previous_len, len));
            if (c > 0 || (c == 0 && previous_len >= len))
                return false;
        }
        previous = p;
        previous_len = len;
        if (!p[len])
            return true;
        p += len + 1;
    }
}

enum sigv4_fault sigv4_parse(const struct http_req *r, struct sigv4 *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    const char *authorization = http_req_header(r, "authorization");
    enum sigv4_fault f;
    if (authorization) {
        f = parse_header(ret, authorization, e);
        const char *date = http_req_header(r, "x-amz-date");
        if (f == SIGV4_OK && (!date || strlen(date) >= sizeof ret->date))
            return incomplete(e, "Authorization header requires existence of an "
                                 "'X-Amz-Date' header of the form 20261120T010203Z.");
        if (f == SIGV4_OK)
            memcpy(ret->date, date, strlen(date) + 1);
    } else if (query_has(r->query, "X-Amz-Signature") ||
               query_has(r->query, "X-Amz-Algorithm")) {
        f = parse_query(ret, r->query, e);
    } else {
        err_set(e, EACCES, "Missing Authentication Token");
        return SIGV4_MISSING;
    }
    if (f != SIGV4_OK)
        return f;
    if (!sigv4_time(ret->date, &ret->time))
        return incomplete(e, "X-Amz-Date must be of the form 20261120T010203Z");
    if (memcmp(ret->date, ret->day, 8) != 0)
        return incomplete(e, "Date in Credential scope does not match the date of the request");
    if (!signed_headers_valid(ret->signed_headers))
        return incomplete(e, "SignedHeaders must be lower case, sorted and without repetition");
    return SIGV4_OK;
}

void sigv4_signing_key(const char *secret, const struct sigv4 *s, uint8_t ret[32])
{
    char first[4 + 128];
    int n = snprintf(first, sizeof first, "AWS4%s", secret);
    size_t len = n < 0 ? 0 : MIN((size_t)n, sizeof first - 1);
    hmac_sha256(first, len, s->day, strlen(s->day), ret);
    hmac_sha256(ret, 32, s->region, strlen(s->region), ret);
    hmac_sha256(ret, 32, s->service, strlen(s->service), ret);
    hmac_sha256(ret, 32, "aws4_request", 12, ret);
    explicit_bzero(first, sizeof first);
}

static bool header_is_signed(const struct sigv4 *s, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = s->signed_headers; *p;) {
        size_t n = strcspn(p, ";");
        if (n == len && strncasecmp(p, name, n) == 0)
            return true;
        p += n + (p[n] == ';');
    }
    return false;
}

/* An unsigned header that changes what the request means could be added on the way. */
static bool unsigned_header(const struct sigv4 *s, const struct http_req *r, bool all_amz,
                            const char **ret)
{
    static const char *const always[] = {"host", "x-amz-date", "x-amz-content-sha256",
                                         "x-amz-security-token"};
    for (size_t i = 0; i < r->nheaders; i++) {
        const char *name = r->headers[i].name;
        bool must = all_amz && strncasecmp(name, "x-amz-", 6) == 0 &&
                    strcasecmp(name, "x-amz-user-agent") != 0;
        for (size_t k = 0; k < ARRAY_LEN(always) && !must; k++)
            must = strcasecmp(name, always[k]) == 0;
        if (must && !header_is_signed(s, name)) {
            *ret = name;
            return true;
        }
    }
    *ret = "host";
    return !header_is_signed(s, "host");
}

bool sigv4_compute(const struct sigv4 *s, const struct http_req *r, const uint8_t key[32],
                   const char *payload_hash, bool encode_twice, bool raw_path, uint8_t ret[32])
{
    AUTO(buf_free) struct buf canonical = BUF_INIT;
    char hash[65], text[512];
    sigv4_canonical(s, r, encode_twice, raw_path, payload_hash, &canonical);
    if (canonical.bad)
        return false;
    sha256_hex(canonical.data, canonical.len, hash);
    int n = snprintf(text, sizeof text, ALGORITHM "\n%s\n%s/%s/%s/aws4_request\n%s", s->date,
                     s->day, s->region, s->service, hash);
    if (n < 0 || (size_t)n >= sizeof text)
        return false;
    hmac_sha256(key, 32, text, (size_t)n, ret);
    return true;
}

static bool signature_matches(const struct sigv4 *s, const struct http_req *r,
                              const uint8_t key[32], const char *payload_hash,
                              bool encode_twice, bool raw_path)
{
    uint8_t want[32], got[32];
    return sigv4_compute(s, r, key, payload_hash, encode_twice, raw_path, want) &&
           hex_decode(s->signature, got, sizeof got) && equal_secret(want, got, sizeof got);
}

static enum sigv4_fault check_time(const struct sigv4 *s, int64_t now, struct err *e)
{
    char when[20];
    time_t t = (time_t)now;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
    if (s->time > now + SIGV4_SKEW_SECONDS) {
        err_set(e, EACCES, "Signature not yet current: %s is still later than %s (+ 15 min.)",
                s->date, when);
        return SIGV4_SKEWED;
    }
    int64_t validity = s->presigned ? s->expires : SIGV4_SKEW_SECONDS;
    if (s->time < now - validity) {
        err_set(e, EACCES, "Signature expired: %s is now earlier than %s (- %lld min.)",
                s->date, when, (long long)(validity / 60));
        return SIGV4_SKEWED;
    }
    return SIGV4_OK;
}

enum sigv4_fault sigv4_check(const struct sigv4 *s, const struct http_req *r,
                             const uint8_t key[32], const char *payload_hash,
                             const struct sigv4_rules *rules, struct err *e)
{
    const char *name;
    if (strcmp(s->service, rules->service) != 0) {
        err_set(e, EACCES, "Credential should be scoped to correct service: '%s'.",
                rules->service);
        return SIGV4_SERVICE;
    }
    if (unsigned_header(s, r, rules->sign_all_amz, &name)) {
        err_set(e, EACCES, "The header '%.100s' must be signed but is not in SignedHeaders",
                name);
        return SIGV4_UNSIGNED;
    }
    /* S3 clients differ in what they leave unencoded: the path as sent counts as well. */
    if (!signature_matches(s, r, key, payload_hash, rules->encode_twice, false) &&
        (rules->encode_twice || !signature_matches(s, r, key, payload_hash, false, true))) {
        err_set(e, EACCES,
                "The request signature we calculated does not match the signature you "
                "provided. Check your AWS Secret Access Key and signing method. Consult the "
                "service documentation for details.");
        return SIGV4_MISMATCH;
    }
    return check_time(s, rules->now, e);
}
