// SPDX-License-Identifier: Apache-2.0
/* Hashes, checksums, base64 and hex; see digest.h. */
#include "digest.h"

#include <mbedtls/md5.h>
#include <mbedtls/sha1.h>
#include <mbedtls/sha256.h>
#include <pthread.h>
#include <string.h>

#ifdef __ARM_FEATURE_CRC32
#include <arm_acle.h>
#endif

#include "../hypervisor/base/mem.h"

_Static_assert(sizeof(mbedtls_sha256_context) <= sizeof(((struct digest *)0)->space), "space");
_Static_assert(sizeof(mbedtls_sha1_context) <= sizeof(((struct digest *)0)->space), "space");
_Static_assert(sizeof(mbedtls_md5_context) <= sizeof(((struct digest *)0)->space), "space");

/* Byte tables of the reflected polynomials, made once. */
struct crc_tables {
    uint32_t crc32[256], crc32c[256];
    uint64_t crc64[256];
};

static struct crc_tables tables;
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static uint64_t crc_entry(uint64_t byte, uint64_t poly)
{
    uint64_t v = byte;
    for (int i = 0; i < 8; i++)
        v = v & 1 ? v >> 1 ^ poly : v >> 1;
    return v;
}

static void tables_make(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        tables.crc32[i] = (uint32_t)crc_entry(i, 0xedb88320u);
        tables.crc32c[i] = (uint32_t)crc_entry(i, 0x82f63b78u);
        tables.crc64[i] = crc_entry(i, 0x9a6c9329ac4bc9b5u);
    }
}

void digest_begin(struct digest *d, enum digest_kind kind)
{
    d->kind = kind;
    d->crc = 0;
    switch (kind) {
    case DIGEST_MD5:
        mbedtls_md5_init((void *)d->space);
        mbedtls_md5_starts((void *)d->space);
        break;
    case DIGEST_SHA1:
        mbedtls_sha1_init((void *)d->space);
        mbedtls_sha1_starts((void *)d->space);
        break;
    case DIGEST_SHA256:
        mbedtls_sha256_init((void *)d->space);
        mbedtls_sha256_starts((void *)d->space, 0);
        break;
    case DIGEST_CRC32:
    case DIGEST_CRC32C:
    case DIGEST_CRC64NVME:
        pthread_once(&tables_once, tables_make);
        d->crc = kind == DIGEST_CRC64NVME ? ~(uint64_t)0 : 0xffffffffu;
        break;
    }
}

static uint64_t crc32_add(uint64_t crc, const uint8_t *p, size_t len, bool castagnoli)
{
    const uint32_t *table = castagnoli ? tables.crc32c : tables.crc32;
#ifdef __ARM_FEATURE_CRC32
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        crc = castagnoli ? __crc32cd((uint32_t)crc, v) : __crc32d((uint32_t)crc, v);
    }
#endif
    for (size_t i = 0; i < len; i++)
        crc = table[(crc ^ p[i]) & 255] ^ crc >> 8;
    return crc;
}

void digest_add(struct digest *d, const void *data, size_t len)
{
    const uint8_t *p = data;
    switch (d->kind) {
    case DIGEST_MD5:
        mbedtls_md5_update((void *)d->space, p, len);
        break;
    case DIGEST_SHA1:
        mbedtls_sha1_update((void *)d->space, p, len);
        break;
    case DIGEST_SHA256:
        mbedtls_sha256_update((void *)d->space, p, len);
        break;
    case DIGEST_CRC32:
    case DIGEST_CRC32C:
        d->crc = crc32_add(d->crc, p, len, d->kind == DIGEST_CRC32C);
        break;
    case DIGEST_CRC64NVME:
        for (size_t i = 0; i < len; i++)
            d->crc = tables.crc64[(d->crc ^ p[i]) & 255] ^ d->crc >> 8;
        break;
    }
}

static size_t store_be(uint64_t v, size_t len, uint8_t *ret)
{
    for (size_t i = 0; i < len; i++)
        ret[i] = (uint8_t)(v >> 8 * (len - 1 - i));
    return len;
}

size_t digest_end(struct digest *d, uint8_t ret[DIGEST_MAX])
{
    switch (d->kind) {
    case DIGEST_MD5:
        mbedtls_md5_finish((void *)d->space, ret);
        mbedtls_md5_free((void *)d->space);
        return 16;
    case DIGEST_SHA1:
        mbedtls_sha1_finish((void *)d->space, ret);
        mbedtls_sha1_free((void *)d->space);
        return 20;
    case DIGEST_SHA256:
        mbedtls_sha256_finish((void *)d->space, ret);
        mbedtls_sha256_free((void *)d->space);
        return 32;
    case DIGEST_CRC32:
    case DIGEST_CRC32C:
        return store_be(d->crc ^ 0xffffffffu, 4, ret);
    case DIGEST_CRC64NVME:
        return store_be(~d->crc, 8, ret);
    }
    return 0;
}

bool digest_by_name(const char *name, enum digest_kind *ret)
{
    static const struct {
        const char *name;
        enum digest_kind kind;
    } known[] = {
        {"crc32", DIGEST_CRC32}, {"crc32c", DIGEST_CRC32C}, {"crc64nvme", DIGEST_CRC64NVME},
        {"sha1", DIGEST_SHA1},   {"sha256", DIGEST_SHA256},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (!strcmp(name, known[i].name)) {
            *ret = known[i].kind;
            return true;
        }
    }
    return false;
}

void sha256(const void *data, size_t len, uint8_t ret[32])
{
    struct digest d;
    digest_begin(&d, DIGEST_SHA256);
    digest_add(&d, data, len);
    digest_end(&d, ret);
}

void sha256_hex(const void *data, size_t len, char ret[65])
{
    uint8_t hash[32];
    sha256(data, len, hash);
    hex_encode(hash, sizeof hash, ret);
}

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t ret[32])
{
    uint8_t pad[64] = {0}, inner[32];
    struct digest d;
    if (key_len > sizeof pad)
        sha256(key, key_len, pad);
    else
        memcpy(pad, key, key_len);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36;
    digest_begin(&d, DIGEST_SHA256);
    digest_add(&d, pad, sizeof pad);
    digest_add(&d, data, len);
    digest_end(&d, inner);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    digest_begin(&d, DIGEST_SHA256);
    digest_add(&d, pad, sizeof pad);
    digest_add(&d, inner, sizeof inner);
    digest_end(&d, ret);
    explicit_bzero(pad, sizeof pad);
}

void hex_encode(const uint8_t *data, size_t len, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        *ret++ = digits[data[i] >> 4];
        *ret++ = digits[data[i] & 15];
    }
    *ret = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool hex_decode(const char *text, uint8_t *ret, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[2 * i]);
        if (high < 0)
            return false;
        int low = hex_digit(text[2 * i + 1]);
        if (low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * len] == '\0';
}

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *encode_groups(const uint8_t *data, size_t len, char *ret)
{
    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16;
        if (i + 1 < len)
            v |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < len)
            v |= data[i + 2];
        *ret++ = alphabet[v >> 18];
        *ret++ = alphabet[v >> 12 & 63];
        if (i + 1 < len)
            *ret++ = alphabet[v >> 6 & 63];
        if (i + 2 < len)
            *ret++ = alphabet[v & 63];
    }
    *ret = '\0';
    return ret;
}

void base64_encode(const uint8_t *data, size_t len, char *ret)
{
    char *end = encode_groups(data, len, ret);
    for (size_t i = len % 3; i > 0 && i < 3; i++)
        *end++ = '=';
    *end = '\0';
}

void base64url_encode(const uint8_t *data, size_t len, char *ret)
{
    encode_groups(data, len, ret);
    for (; *ret; ret++)
        *ret = *ret == '+' ? '-' : *ret == '/' ? '_' : *ret;
}

static int base64url_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    return c == '_' ? 63 : -1;
}

bool base64url_decode(const char *text, size_t text_len, uint8_t *ret, size_t cap,
                      size_t *ret_len)
{
    uint32_t bits = 0;
    unsigned nbits = 0;
    size_t len = 0;
    if (text_len % 4 == 1)
        return false;
    for (size_t i = 0; i < text_len; i++) {
        int v = base64url_digit(text[i]);
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        nbits += 6;
        if (nbits >= 8) {
            nbits -= 8;
            if (len == cap)
                return false;
            ret[len++] = (uint8_t)(bits >> nbits);
        }
    }
    /* Left-over bits must be zero: one value has one text. */
    if (bits & ((1u << nbits) - 1))
        return false;
    *ret_len = len;
    return true;
}

bool equal_secret(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t diff = 0;
    for (size_t i = 0; i < len; i++)
        diff |= (uint8_t)(x[i] ^ y[i]);
    return diff == 0;
}
