// SPDX-License-Identifier: Apache-2.0
/*
 * SipHash-2-4 with 128-bit output: a keyed fingerprint for page tokens and
 * for the requests behind client tokens. The key never leaves the store.
 */
#ifndef DORMOUSE_API_SIPHASH_H
#define DORMOUSE_API_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY 16u
#define SIPHASH_LEN 16u

void siphash128(const uint8_t key[SIPHASH_KEY], const void *data, size_t len,
                uint8_t ret[SIPHASH_LEN]);

#endif
