// SPDX-License-Identifier: Apache-2.0
/* Strict UTF-8 decoding, one character at a time, for text from strangers. */
#ifndef DORMOUSE_API_UTF8_H
#define DORMOUSE_API_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at s[0..len) (len > 0), or 0 when it is no valid UTF-8. */
static inline size_t utf8_len(const char *s, size_t len)
{
    const uint8_t *b = (const uint8_t *)s;
    if (b[0] < 0x80)
        return 1;
    size_t n = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    if (b[0] < 0xc2 || b[0] > 0xf4 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
        (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f))
        return 0; /* overlong, surrogate, beyond U+10FFFF */
    return n;
}

static inline bool utf8_ok(const char *s, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_len(s + i, len - i);
        if (n == 0)
            return false;
    }
    return true;
}

#endif
