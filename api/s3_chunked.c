// SPDX-License-Identifier: Apache-2.0
/* Decoder of aws-chunked bodies; see s3_chunked.h. */
#include "s3_chunked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../hypervisor/base/mem.h"

/* In the order in which a body goes through them. */
enum state { SIZE_LINE, DATA, DATA_END, TRAILER_LINE, LAST_LINE, DONE };

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

void s3_chunked_begin(struct s3_chunked *d, const struct s3_chunked_config *c)
{
    memset(d, 0, sizeof *d);
    d->config = *c;
    d->state = SIZE_LINE;
    memcpy(d->previous, c->seed_signature, sizeof d->previous);
}

bool s3_chunked_done(const struct s3_chunked *d)
{
    return d->state == DONE;
}

static int malformed(struct err *e, const char *what)
{
    return err_set(e, EBADMSG, "malformed aws-chunked body: %s", what);
}

/* Compares the claimed signature with the one over `hashed` and moves the chain on. */
static int check_signature(struct s3_chunked *d, const char *kind, const char *hashed,
                           struct err *e)
{
    char text[512];
    uint8_t want[32], got[32];
    int n = snprintf(text, sizeof text, "AWS4-HMAC-SHA256-%s\n%s\n%s\n%s\n%s", kind,
                     d->config.date, d->config.scope, d->previous, hashed);
    if (n < 0 || (size_t)n >= sizeof text)
        return malformed(e, "credential scope too long");
    hmac_sha256(d->config.key, sizeof d->config.key, text, (size_t)n, want);
    if (!hex_decode(d->claimed, got, sizeof got) || !equal_secret(want, got, sizeof got))
        return err_set(e, EACCES, "a chunk's signature does not match");
    memcpy(d->previous, d->claimed, sizeof d->previous);
    return 0;
}

static int check_chunk(struct s3_chunked *d, struct err *e)
{
    uint8_t hash[DIGEST_MAX];
    char hashed[2 * 65 + 2] = EMPTY_SHA256 "\n";
    if (!d->config.is_signed)
        return 0;
    digest_end(&d->hash, hash);
    hex_encode(hash, 32, hashed + 65);
    return check_signature(d, "PAYLOAD", hashed, e);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* <hex size>[;chunk-signature=<64 hex digits>] */
static int size_line(struct s3_chunked *d, struct err *e)
{
    static const char extension[] = ";chunk-signature=";
    const char *p = d->line;
    uint64_t size = 0;
    for (; hex_value(*p) >= 0; p++) {
        if (p - d->line >= 12)
            return malformed(e, "chunk too large");
        size = size << 4 | (uint64_t)hex_value(*p);
    }
    if (p == d->line)
        return malformed(e, "a chunk without its size");
    if (d->config.is_signed) {
        size_t skip = sizeof extension - 1;
        if (strncmp(p, extension, skip) != 0 || strlen(p + skip) != 64)
            return malformed(e, "a chunk without its signature");
        memcpy(d->claimed, p + skip, sizeof d->claimed);
        digest_begin(&d->hash, DIGEST_SHA256);
    } else if (*p != '\0') {
        return malformed(e, "an unknown chunk extension");
    }
    d->left = size;
    if (size > 0) {
        d->state = DATA;
        return 0;
    }
    int r = check_chunk(d, e);
    d->state = d->config.trailer ? TRAILER_LINE : LAST_LINE;
    return r;
}

/* One "name:value" line, or the empty line that ends the body. */
static int trailer_line(struct s3_chunked *d, struct err *e)
{
    static const char signature[] = "x-amz-trailer-signature:";
    if (d->line_len == 0) {
        /* A signed trailer must have been closed by its signature. */
        if (d->config.is_signed && d->claimed[0] == '\0')
            return malformed(e, "the trailer is not signed");
        d->state = DONE;
        return 0;
    }
    char *colon = strchr(d->line, ':');
    if (!colon || colon == d->line)
        return malformed(e, "a trailer line without a name");
    for (char *p = d->line; p < colon; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
    if (d->config.is_signed && strncmp(d->line, signature, sizeof signature - 1) == 0) {
        const char *value = d->line + sizeof signature - 1;
        char hashed[65];
        value += strspn(value, " \t");
        if (strlen(value) != 64)
            return malformed(e, "the trailer's signature is malformed");
        memcpy(d->claimed, value, sizeof d->claimed);
        sha256_hex(d->trailer, d->trailer_len, hashed);
        d->state = LAST_LINE;
        return check_signature(d, "TRAILER", hashed, e);
    }
    d->claimed[0] = '\0'; /* the chunk's signature does not cover what is added now */
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    size_t room = sizeof d->trailer - d->trailer_len;
    int n = snprintf(d->trailer + d->trailer_len, room, "%.*s:%s\n", (int)(colon - d->line),
                     d->line, value);
    if (n < 0 || (size_t)n >= room)
        return malformed(e, "the trailer is too long");
    d->trailer_len += (size_t)n;
    return 0;
}

static int whole_line(struct s3_chunked *d, struct err *e)
{
    d->line[d->line_len] = '\0';
    if (strlen(d->line) != d->line_len)
        return malformed(e, "a NUL byte");
    int r = 0;
    switch (d->state) {
    case SIZE_LINE:
        r = size_line(d, e);
        break;
    case DATA_END:
        if (d->line_len != 0)
            return malformed(e, "a chunk longer than its size");
        d->state = SIZE_LINE;
        break;
    case TRAILER_LINE:
        r = trailer_line(d, e);
        break;
    case LAST_LINE:
        if (d->line_len != 0)
            return malformed(e, "bytes after the last chunk");
        d->state = DONE;
        break;
    default:
        break;
    }
    d->line_len = 0;
    return r;
}

static int line_byte(struct s3_chunked *d, char c, struct err *e)
{
    if (c == '\n') {
        if (d->line_len == 0 || d->line[d->line_len - 1] != '\r')
            return malformed(e, "a line that does not end with CR LF");
        d->line_len--;
        return whole_line(d, e);
    }
    if (d->line_len > 0 && d->line[d->line_len - 1] == '\r')
        return malformed(e, "a stray CR");
    if (d->line_len == sizeof d->line - 1)
        return malformed(e, "a line is too long");
    d->line[d->line_len++] = c;
    return 0;
}

int s3_chunked_feed(struct s3_chunked *d, const uint8_t *in, size_t len, uint8_t *out,
                    size_t *ret_len, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        if (d->state == DONE)
            return malformed(e, "bytes after its end");
        if (d->state != DATA) {
            int r = line_byte(d, (char)in[i++], e);
            if (r < 0)
                return r;
            continue;
        }
        size_t part = (size_t)MIN(d->left, (uint64_t)(len - i));
        if (d->config.is_signed)
            digest_add(&d->hash, in + i, part);
        memmove(out + n, in + i, part);
        n += part;
        i += part;
        d->left -= part;
        d->total += part;
        if (d->left == 0) {
            d->state = DATA_END;
            int r = check_chunk(d, e);
            if (r < 0)
                return r;
        }
    }
    *ret_len = n;
    return 0;
}

bool s3_chunked_trailer(const struct s3_chunked *d, const char *name, char *ret, size_t cap)
{
    size_t name_len = strlen(name);
    for (const char *p = d->trailer; *p;) {
        size_t len = strcspn(p, "\n");
        if (len > name_len && p[name_len] == ':' && memcmp(p, name, name_len) == 0) {
            size_t value = len - name_len - 1;
            if (value >= cap)
                return false;
            memcpy(ret, p + name_len + 1, value);
            ret[value] = '\0';
            return true;
        }
        p += len + (p[len] == '\n');
    }
    return false;
}
