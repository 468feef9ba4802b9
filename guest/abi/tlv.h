// SPDX-License-Identifier: Apache-2.0
/*
 * Bounded reader and writer for the fields of a message (see proto.h), used by
 * the host daemon and by dormouse-init. Header only, pure, no allocation.
 *
 * Both ends take the bytes from a peer they do not trust: the reader never looks
 * beyond `len`, and the tlv_get_* functions refuse a value of another length.
 */
#ifndef DORMOUSE_ABI_TLV_H
#define DORMOUSE_ABI_TLV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto.h"

#define TLV_HEADER_SIZE 8u
#define GP_HEADER_SIZE  16u

/* ---- little-endian, whatever the machine and alignment ---- */

static inline void tlv_store32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

static inline uint32_t tlv_load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- the message header ---- */

static inline void gp_header_put(uint8_t out[GP_HEADER_SIZE], uint16_t type, uint32_t id,
                                 uint32_t len)
{
    tlv_store32(out, GP_MAGIC);
    tlv_store32(out + 4, type); /* flags are 0 */
    tlv_store32(out + 8, id);
    tlv_store32(out + 12, len);
}

/* False when this is no header of this protocol or the body would be too long. */
static inline bool gp_header_get(const uint8_t in[GP_HEADER_SIZE], struct gp_header *ret)
{
    uint32_t type_flags = tlv_load32(in + 4);
    ret->magic = tlv_load32(in);
    ret->type = (uint16_t)type_flags;
    ret->flags = (uint16_t)(type_flags >> 16);
    ret->id = tlv_load32(in + 8);
    ret->len = tlv_load32(in + 12);
    return ret->magic == GP_MAGIC && ret->flags == 0 && ret->len <= GP_BODY_MAX;
}

/* ---- writer: a failed put marks it `bad` and changes nothing, check once at the end ---- */

struct tlv_writer {
    uint8_t *p;
    size_t cap, len;
    bool bad;
};

static inline struct tlv_writer tlv_writer_init(void *p, size_t cap)
{
    return (struct tlv_writer){.p = (uint8_t *)p, .cap = cap, .len = 0, .bad = false};
}

/* Opens a field of `len` bytes and returns where its value goes, or NULL. */
static inline uint8_t *tlv_reserve(struct tlv_writer *w, uint16_t tag, size_t len)
{
    if (w->bad || w->len > w->cap || w->cap - w->len < TLV_HEADER_SIZE ||
        w->cap - w->len - TLV_HEADER_SIZE < len || len > GP_BODY_MAX) {
        w->bad = true;
        return NULL;
    }
    uint8_t *at = w->p + w->len;
    tlv_store32(at, tag); /* the upper half stays 0 */
    tlv_store32(at + 4, (uint32_t)len);
    w->len += TLV_HEADER_SIZE + len;
    return at + TLV_HEADER_SIZE;
}

static inline void tlv_put_bytes(struct tlv_writer *w, uint16_t tag, const void *data,
                                 size_t len)
{
    uint8_t *at = tlv_reserve(w, tag, len);
    for (size_t i = 0; at && i < len; i++)
        at[i] = ((const uint8_t *)data)[i];
}

static inline void tlv_put_str(struct tlv_writer *w, uint16_t tag, const char *s)
{
    size_t len = 0;
    while (s[len] != '\0')
        len++;
    tlv_put_bytes(w, tag, s, len);
}

static inline void tlv_put_u32(struct tlv_writer *w, uint16_t tag, uint32_t v)
{
    uint8_t *at = tlv_reserve(w, tag, 4);
    if (at)
        tlv_store32(at, v);
}

static inline void tlv_put_u64(struct tlv_writer *w, uint16_t tag, uint64_t v)
{
    uint8_t *at = tlv_reserve(w, tag, 8);
    if (at) {
        tlv_store32(at, (uint32_t)v);
        tlv_store32(at + 4, (uint32_t)(v >> 32));
    }
}

/* ---- reader ---- */

struct tlv_reader {
    const uint8_t *p;
    size_t len, off;
    bool bad; /* a field reached beyond the end, or its padding was not zero */
};

static inline struct tlv_reader tlv_reader_init(const void *p, size_t len)
{
    return (struct tlv_reader){.p = (const uint8_t *)p, .len = len, .off = 0, .bad = false};
}

/* Takes the next field. False at the end and on nonsense; `bad` tells which. */
static inline bool tlv_next(struct tlv_reader *r, uint16_t *tag, const uint8_t **data,
                            size_t *len)
{
    if (r->bad || r->off >= r->len)
        return false;
    size_t left = r->len - r->off;
    const uint8_t *at = r->p + r->off;
    if (left < TLV_HEADER_SIZE || at[2] != 0 || at[3] != 0 ||
        tlv_load32(at + 4) > left - TLV_HEADER_SIZE) {
        r->bad = true;
        return false;
    }
    *tag = (uint16_t)(at[0] | at[1] << 8);
    *len = tlv_load32(at + 4);
    *data = at + TLV_HEADER_SIZE;
    r->off += TLV_HEADER_SIZE + *len;
    return true;
}

static inline bool tlv_get_u32(const uint8_t *data, size_t len, uint32_t *ret)
{
    if (len != 4)
        return false;
    *ret = tlv_load32(data);
    return true;
}

static inline bool tlv_get_u64(const uint8_t *data, size_t len, uint64_t *ret)
{
    if (len != 8)
        return false;
    *ret = (uint64_t)tlv_load32(data) | (uint64_t)tlv_load32(data + 4) << 32;
    return true;
}

/* Copies text into buf, NUL-terminated. False when it is too long or holds a NUL. */
static inline bool tlv_get_str(const uint8_t *data, size_t len, char *buf, size_t size)
{
    if (len >= size)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (data[i] == 0)
            return false;
        buf[i] = (char)data[i];
    }
    buf[len] = '\0';
    return true;
}

/* Walks a whole body; true when every field is well-formed. */
static inline bool tlv_valid(const void *p, size_t len)
{
    struct tlv_reader r = tlv_reader_init(p, len);
    uint16_t tag;
    const uint8_t *data;
    size_t n;
    while (tlv_next(&r, &tag, &data, &n))
        ;
    return !r.bad;
}

#endif
