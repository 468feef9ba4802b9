// SPDX-License-Identifier: Apache-2.0
/*
 * Checked numbers. Every length or offset that a stranger controls (guest,
 * network, file) is compared through range_ok() or combined through num_add()
 * and num_mul(); every number in text is read by parse_u64().
 */
#ifndef DORMOUSE_BASE_NUM_H
#define DORMOUSE_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* True when [off, off+len) lies wholly inside [0, limit), without overflow. */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t limit)
{
    return off <= limit && len <= limit - off;
}

static inline bool num_add(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_add_overflow(a, b, ret);
}

static inline bool num_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_mul_overflow(a, b, ret);
}

/* `a` is a power of two. */
static inline uint64_t align_down(uint64_t v, uint64_t a)
{
    return v & ~(a - 1);
}

static inline uint64_t align_up(uint64_t v, uint64_t a)
{
    return (v + a - 1) & ~(a - 1);
}

/* Reads all of s[0..len) as a decimal number in [min, max]; no sign, no blanks. */
static inline bool parse_u64n(const char *s, size_t len, uint64_t min, uint64_t max,
                              uint64_t *ret)
{
    uint64_t v = 0;
    if (len == 0 || len > 20)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        if (!num_mul(v, 10, &v) || !num_add(v, (uint64_t)(s[i] - '0'), &v))
            return false;
    }
    if (v < min || v > max)
        return false;
    *ret = v;
    return true;
}

static inline bool parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
    return parse_u64n(s, strlen(s), min, max, ret);
}

/* Little-endian loads and stores for wire and file formats. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "all our hosts are");

static inline uint16_t get_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t get_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t get_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void put_le16(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void put_le32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void put_le64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

#endif
