// SPDX-License-Identifier: Apache-2.0
/*
 * Hashes and checksums for signatures and artifacts, one small interface over
 * the crypto library, plus base64 and hex. Pure: no allocation, no I/O.
 */
#ifndef DORMOUSE_API_DIGEST_H
#define DORMOUSE_API_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum digest_kind {
    DIGEST_MD5,
    DIGEST_SHA1,
    DIGEST_SHA256,
    DIGEST_CRC32,
    DIGEST_CRC32C,
    DIGEST_CRC64NVME,
};
#define DIGEST_MAX 32u

struct digest {
    enum digest_kind kind;
    uint64_t crc;
    _Alignas(8) uint8_t space[128]; /* the library's context */
};

void digest_begin(struct digest *d, enum digest_kind kind);
void digest_add(struct digest *d, const void *data, size_t len);
/* Returns the digest's length; checksums come out big-endian, as S3 has them. */
size_t digest_end(struct digest *d, uint8_t ret[DIGEST_MAX]);
/* "crc32", "crc32c", "crc64nvme", "sha1", "sha256" as in x-amz-checksum-<name>. */
bool digest_by_name(const char *name, enum digest_kind *ret);

void sha256(const void *data, size_t len, uint8_t ret[32]);
void sha256_hex(const void *data, size_t len, char ret[65]);
void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t ret[32]);

/* ret holds 2 * len + 1 characters. */
void hex_encode(const uint8_t *data, size_t len, char *ret);
/* Exactly 2 * len lower-case hex digits, then the end of the string. */
bool hex_decode(const char *text, uint8_t *ret, size_t len);
/* Standard alphabet with padding; ret holds 4 * ((len + 2) / 3) + 1 characters. */
void base64_encode(const uint8_t *data, size_t len, char *ret);
/* Base64url without padding, as JOSE has it; canonical input only. */
void base64url_encode(const uint8_t *data, size_t len, char *ret);
bool base64url_decode(const char *text, size_t text_len, uint8_t *ret, size_t cap,
                      size_t *ret_len);

/* In time that depends on the length alone. */
bool equal_secret(const void *a, const void *b, size_t len);

#endif
