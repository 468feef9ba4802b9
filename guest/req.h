// SPDX-License-Identifier: Apache-2.0
/* Reading the fields of one request, and building its reply. */
#ifndef DORMOUSE_GUEST_REQ_H
#define DORMOUSE_GUEST_REQ_H

#include "abi/tlv.h"
#include "util.h"

struct req {
    uint16_t type;
    uint32_t id;
    const uint8_t *body; /* well-formed: chan.c has walked it */
    size_t len;
};

/* The first field with this tag. */
bool req_find(const struct req *r, uint16_t tag, const uint8_t **data, size_t *len);
/* A number; `def` when absent. False when it has another length. */
bool req_u32(const struct req *r, uint16_t tag, uint32_t def, uint32_t *ret);
bool req_u64(const struct req *r, uint16_t tag, uint64_t def, uint64_t *ret);
/* Text without NUL into buf; empty when absent. False when too long or with a NUL. */
bool req_str(const struct req *r, uint16_t tag, char *buf, size_t size);
bool req_has(const struct req *r, uint16_t tag);
/* All fields with this tag as a NULL-terminated list in one allocation (free it), at most
 * `max`. NULL and `f` set when there are too many, one holds a NUL, or without memory. */
char **req_list(const struct req *r, uint16_t tag, size_t max, size_t *count, struct fail *f);

/* A reply with its first two fields; more may be added to w. */
struct reply {
    struct tlv_writer w;
    uint8_t buf[1024];
};
void reply_init(struct reply *rp, const struct fail *f); /* f NULL or num 0: success */

#endif
