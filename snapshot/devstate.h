// SPDX-License-Identifier: Apache-2.0
/*
 * Device state as tagged, length-prefixed, versioned fields; never raw structs.
 * A block per device: u32 tag, u16 version, u16 instance, u32 length, then
 * fields: u16 id, u16 zero, u32 length, bytes. All little-endian. A reader
 * finds blocks and fields by id, skips what it does not know, and reports what
 * is missing or of the wrong length. The reader never trusts a length.
 */
#ifndef DORMOUSE_SNAPSHOT_DEVSTATE_H
#define DORMOUSE_SNAPSHOT_DEVSTATE_H

#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/err.h"

struct dstate_writer {
    struct buf b;
    size_t block; /* offset of the open block's header */
};

void dw_begin(struct dstate_writer *w, uint32_t tag, uint16_t version, uint16_t instance);
void dw_u32(struct dstate_writer *w, uint16_t field, uint32_t v);
void dw_u64(struct dstate_writer *w, uint16_t field, uint64_t v);
void dw_bytes(struct dstate_writer *w, uint16_t field, const void *p, size_t len);
void dw_end(struct dstate_writer *w);

/* Numbers in a struct that are saved as they are: each in a field, then of 4 or 8 bytes; or
 * all in one row of bytes, for what there is several of, then `id` is where in the row. */
struct dstate_field {
    uint16_t id, size;
    uint32_t at;
};
#define DSTATE_FIELD(i, type, member)                                                   \
    {                                                                                   \
        .id = (i), .size = sizeof(((type *)NULL)->member), .at = offsetof(type, member) \
    }
void dstate_pack(const struct dstate_field *f, size_t n, const void *from, uint8_t *row);
void dstate_unpack(const struct dstate_field *f, size_t n, const uint8_t *row, void *to);
void dw_fields(struct dstate_writer *w, const struct dstate_field *f, size_t n,
               const void *from);

struct dstate_reader {
    const uint8_t *data; /* fields of one block */
    size_t len;
    size_t at; /* behind what was found last: mostly they come as they are wanted */
    uint32_t tag;
    uint16_t version, instance;
};

/* Checks the whole blob's structure: every block and field inside its bounds. */
int dr_check(const void *blob, size_t len, struct err *e);
/* All blocks in turn, from *pos 0: 1, 0 at the end, -EBADMSG. And the fields of one. */
int dr_next(const void *blob, size_t len, size_t *pos, struct dstate_reader *ret,
            struct err *e);
int dr_next_field(const struct dstate_reader *r, size_t *pos, uint16_t *ret_id,
                  const void **ret, size_t *ret_len, struct err *e);
/* -ENOENT when there is no such block. */
int dr_find(const void *blob, size_t len, uint32_t tag, uint16_t instance,
            struct dstate_reader *ret, struct err *e);
/* -ENOENT when the field is missing, -EBADMSG when its length is wrong. */
int dr_u32(struct dstate_reader *r, uint16_t field, uint32_t *ret, struct err *e);
int dr_u64(struct dstate_reader *r, uint16_t field, uint64_t *ret, struct err *e);
/* Fields that are missing or of a wrong length fail; what is read is not checked. */
int dr_fields(struct dstate_reader *r, const struct dstate_field *f, size_t n, void *to,
              struct err *e);
/* Points into the blob. */
int dr_bytes(struct dstate_reader *r, uint16_t field, const void **ret, size_t *ret_len,
             struct err *e);

#endif
