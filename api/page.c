// SPDX-License-Identifier: Apache-2.0
/* nextToken; see page.h. Layout before base64: version 1, 8 bytes checksum, position. */
#include "page.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/mem.h"

#define PAGE_VERSION 1u
#define PAGE_HEAD    9u

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void b64url(const uint8_t *in, size_t len, char *ret)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < len; i++) {
        acc = acc << 8 | in[i];
        for (bits += 8; bits >= 6; bits -= 6)
            *ret++ = alphabet[acc >> (bits - 6) & 63];
        acc &= 0xff;
    }
    if (bits > 0)
        *ret++ = alphabet[acc << (6 - bits) & 63];
    *ret = '\0';
}

/* Strict: no padding, no other characters, no stray bits. Returns -1 or the length. */
static int b64url_read(const char *in, uint8_t *ret, size_t cap)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t n = 0;
    for (; *in; in++) {
        const char *at = strchr(alphabet, *in);
        if (!at)
            return -1;
        acc = acc << 6 | (uint32_t)(at - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            if (n == cap)
                return -1;
            ret[n++] = (uint8_t)(acc >> bits);
            acc &= (1u << bits) - 1;
        }
    }
    return bits >= 6 || acc != 0 ? -1 : (int)n;
}

static int checksum(const uint8_t key[SIPHASH_KEY], const char *question, const void *position,
                    size_t len, uint8_t ret[SIPHASH_LEN])
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    buf_add(&b, question, strlen(question) + 1);
    buf_add(&b, position, len);
    if (b.bad)
        return -ENOMEM;
    siphash128(key, b.data, b.len, ret);
    return 0;
}

int page_make(const uint8_t key[SIPHASH_KEY], const char *question, const char *position,
              char ret[PAGE_TOKEN_CAP])
{
    uint8_t raw[PAGE_HEAD + PAGE_KEY_MAX], sum[SIPHASH_LEN];
    size_t len = strlen(position);
    if (len > PAGE_KEY_MAX)
        return -EINVAL;
    int r = checksum(key, question, position, len, sum);
    if (r < 0)
        return r;
    raw[0] = PAGE_VERSION;
    memcpy(raw + 1, sum, PAGE_HEAD - 1);
    memcpy(raw + PAGE_HEAD, position, len);
    b64url(raw, PAGE_HEAD + len, ret);
    return 0;
}

int page_read(const uint8_t key[SIPHASH_KEY], const char *question, const char *token,
              char ret_position[PAGE_KEY_MAX + 1])
{
    uint8_t raw[PAGE_HEAD + PAGE_KEY_MAX], sum[SIPHASH_LEN];
    int n = b64url_read(token, raw, sizeof raw);
    if (n < (int)PAGE_HEAD || raw[0] != PAGE_VERSION)
        return -EINVAL;
    size_t len = (size_t)n - PAGE_HEAD;
    int r = checksum(key, question, raw + PAGE_HEAD, len, sum);
    if (r < 0)
        return r;
    if (memcmp(raw + 1, sum, PAGE_HEAD - 1) != 0 || memchr(raw + PAGE_HEAD, 0, len))
        return -EINVAL;
    memcpy(ret_position, raw + PAGE_HEAD, len);
    ret_position[len] = '\0';
    return 0;
}
