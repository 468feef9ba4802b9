// SPDX-License-Identifier: Apache-2.0
/*
 * Tagged device state; see devstate.h. The reader works on bytes of a file
 * that may be forged: every length is checked before it is used, and dr_check
 * has walked the whole blob before any device sees a part of it.
 */
#include "devstate.h"

#include <errno.h>
#include <string.h>

#include "../hypervisor/base/num.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "numbers in structs are saved as they lie in memory"
#endif

#define BLOCK_HEADER 12u /* u32 tag, u16 version, u16 instance, u32 length */
#define FIELD_HEADER 8u  /* u16 id, u16 zero, u32 length */

static void add_u16(struct buf *b, uint16_t v)
{
    uint8_t raw[2];
    put_le16(raw, v);
    buf_add(b, raw, sizeof raw);
}

static void add_u32(struct buf *b, uint32_t v)
{
    uint8_t raw[4];
    put_le32(raw, v);
    buf_add(b, raw, sizeof raw);
}

void dw_begin(struct dstate_writer *w, uint32_t tag, uint16_t version, uint16_t instance)
{
    w->block = w->b.len;
    add_u32(&w->b, tag);
    add_u16(&w->b, version);
    add_u16(&w->b, instance);
    add_u32(&w->b, 0);
}

void dw_bytes(struct dstate_writer *w, uint16_t field, const void *p, size_t len)
{
    if (len > UINT32_MAX) {
        w->b.bad = true;
        return;
    }
    add_u16(&w->b, field);
    add_u16(&w->b, 0);
    add_u32(&w->b, (uint32_t)len);
    buf_add(&w->b, p, len);
}

void dw_u32(struct dstate_writer *w, uint16_t field, uint32_t v)
{
    uint8_t raw[4];
    put_le32(raw, v);
    dw_bytes(w, field, raw, sizeof raw);
}

void dw_u64(struct dstate_writer *w, uint16_t field, uint64_t v)
{
    uint8_t raw[8];
    put_le64(raw, v);
    dw_bytes(w, field, raw, sizeof raw);
}

void dstate_pack(const struct dstate_field *f, size_t n, const void *from, uint8_t *row)
{
    for (size_t i = 0; i < n; i++)
        memcpy(row + f[i].id, (const uint8_t *)from + f[i].at, f[i].size);
}

void dstate_unpack(const struct dstate_field *f, size_t n, const uint8_t *row, void *to)
{
    for (size_t i = 0; i < n; i++)
        memcpy((uint8_t *)to + f[i].at, row + f[i].id, f[i].size);
}

void dw_fields(struct dstate_writer *w, const struct dstate_field *f, size_t n,
               const void *from)
{
    for (size_t i = 0; i < n; i++)
        dw_bytes(w, f[i].id, (const uint8_t *)from + f[i].at, f[i].size);
}

void dw_end(struct dstate_writer *w)
{
    size_t len = w->b.len - w->block - BLOCK_HEADER;
    if (w->b.bad || len > UINT32_MAX)
        w->b.bad = true;
    else
        put_le32(w->b.data + w->block + 8, (uint32_t)len);
}

/* The block at *pos, which moves on; 1, 0 at the end, -EBADMSG. */
static int next_block(const uint8_t *p, size_t len, size_t *pos, struct dstate_reader *ret,
                      struct err *e)
{
    if (*pos == len)
        return 0;
    if (!range_ok(*pos, BLOCK_HEADER, len))
        return err_set(e, EBADMSG, "device state ends inside a block header");
    const uint8_t *h = p + *pos;
    uint32_t size = get_le32(h + 8);
    if (!range_ok(*pos + BLOCK_HEADER, size, len))
        return err_set(e, EBADMSG, "device state block %08x reaches beyond the end",
                       get_le32(h));
    ret->tag = get_le32(h);
    ret->version = get_le16(h + 4);
    ret->instance = get_le16(h + 6);
    ret->data = h + BLOCK_HEADER;
    ret->len = size;
    ret->at = 0;
    *pos += BLOCK_HEADER + size;
    return 1;
}

static int next_field(const struct dstate_reader *r, size_t *pos, uint16_t *ret_id,
                      const uint8_t **ret, size_t *ret_len, struct err *e)
{
    if (*pos == r->len)
        return 0;
    if (!range_ok(*pos, FIELD_HEADER, r->len))
        return err_set(e, EBADMSG, "block %08x ends inside a field header", r->tag);
    const uint8_t *h = r->data + *pos;
    uint32_t size = get_le32(h + 4);
    if (!range_ok(*pos + FIELD_HEADER, size, r->len))
        return err_set(e, EBADMSG, "field %u of block %08x reaches beyond the block",
                       get_le16(h), r->tag);
    if (get_le16(h + 2) != 0)
        return err_set(e, EBADMSG, "field %u of block %08x has a bad header", get_le16(h),
                       r->tag);
    *ret_id = get_le16(h);
    *ret = h + FIELD_HEADER;
    *ret_len = size;
    *pos += FIELD_HEADER + size;
    return 1;
}

int dr_check(const void *blob, size_t len, struct err *e)
{
    struct dstate_reader block;
    size_t pos = 0;
    int r;
    while ((r = next_block(blob, len, &pos, &block, e)) > 0) {
        const uint8_t *data;
        size_t at = 0, size;
        uint16_t id;
        while ((r = next_field(&block, &at, &id, &data, &size, e)) > 0)
            ;
        if (r < 0)
            return r;
    }
    return r;
}

int dr_next(const void *blob, size_t len, size_t *pos, struct dstate_reader *ret, struct err *e)
{
    return next_block(blob, len, pos, ret, e);
}

int dr_next_field(const struct dstate_reader *r, size_t *pos, uint16_t *ret_id,
                  const void **ret, size_t *ret_len, struct err *e)
{
    const uint8_t *data;
    int res = next_field(r, pos, ret_id, &data, ret_len, e);
    if (res > 0)
        *ret = data;
    return res;
}

int dr_find(const void *blob, size_t len, uint32_t tag, uint16_t instance,
            struct dstate_reader *ret, struct err *e)
{
    size_t pos = 0;
    int r;
    while ((r = next_block(blob, len, &pos, ret, e)) > 0) {
        if (ret->tag == tag && ret->instance == instance)
            return 0;
    }
    if (r < 0)
        return r;
    return err_set(e, ENOENT, "the snapshot has no state of '%c%c%c%c' %u", tag & 0x7f,
                   tag >> 8 & 0x7f, tag >> 16 & 0x7f, tag >> 24 & 0x7f, instance);
}

/* From `from` on. Each restore looks for some 60 fields. */
static int find_field(struct dstate_reader *r, size_t from, uint16_t field, const void **ret,
                      size_t *ret_len, struct err *e)
{
    const uint8_t *data;
    uint16_t id;
    int res;
    r->at = from;
    while (r->len - r->at >= FIELD_HEADER && get_le32(r->data + r->at) != field) {
        size_t size = get_le32(r->data + r->at + 4);
        if (size > r->len - r->at - FIELD_HEADER)
            break;
        r->at += FIELD_HEADER + size;
    }
    while ((res = next_field(r, &r->at, &id, &data, ret_len, e)) > 0) {
        if (id == field) {
            *ret = data;
            return 0;
        }
    }
    return res < 0 ? res
                   : err_set(e, ENOENT, "field %u of block %08x is missing", field, r->tag);
}

int dr_bytes(struct dstate_reader *r, uint16_t field, const void **ret, size_t *ret_len,
             struct err *e)
{
    size_t from = r->at;
    int res = find_field(r, from, field, ret, ret_len, e);
    return res == -ENOENT && from ? find_field(r, 0, field, ret, ret_len, e) : res;
}

static int fixed(struct dstate_reader *r, uint16_t field, size_t want, const void **ret,
                 struct err *e)
{
    size_t len = 0;
    int res = dr_bytes(r, field, ret, &len, e);
    if (res < 0)
        return res;
    if (len != want)
        return err_set(e, EBADMSG, "field %u of block %08x has %zu bytes, not %zu", field,
                       r->tag, len, want);
    return 0;
}

int dr_u32(struct dstate_reader *r, uint16_t field, uint32_t *ret, struct err *e)
{
    const void *p;
    int res = fixed(r, field, 4, &p, e);
    if (res == 0)
        *ret = get_le32(p);
    return res;
}

int dr_u64(struct dstate_reader *r, uint16_t field, uint64_t *ret, struct err *e)
{
    const void *p;
    int res = fixed(r, field, 8, &p, e);
    if (res == 0)
        *ret = get_le64(p);
    return res;
}

int dr_fields(struct dstate_reader *r, const struct dstate_field *f, size_t n, void *to,
              struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        const void *p;
        int res = fixed(r, f[i].id, f[i].size, &p, e);
        if (res < 0)
            return res;
        memcpy((uint8_t *)to + f[i].at, p, f[i].size);
    }
    return 0;
}
