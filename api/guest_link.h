// SPDX-License-Identifier: Apache-2.0
/*
 * Host end of the framed streams to dormouse-init (guest/abi/proto.h). The
 * guest is hostile: headers, lengths and fields are checked here, buffers are
 * bounded, and a guest that does not read cannot block the caller beyond its
 * deadline. Called by vmm.c with the stream's descriptors.
 */
#ifndef DORMOUSE_API_GUEST_LINK_H
#define DORMOUSE_API_GUEST_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../guest/abi/tlv.h"
#include "../hypervisor/base/err.h"

struct glink {
    int fd; /* -1: not connected */
    uint8_t *in;
    size_t off, len, cap; /* bytes [off, len) are not consumed yet */
};
#define GLINK_INIT \
    {              \
        .fd = -1   \
    }

void glink_open(struct glink *g, int fd); /* takes fd over */
void glink_close(struct glink *g);
/* Reads once, without waiting. 0, -EAGAIN, -ECONNRESET at its end, -ENOMEM. */
int glink_fill(struct glink *g);
/* Takes the next whole message out of the buffer: 1, 0 when there is none, -EBADMSG. The body
 * stays valid until the next glink_fill(). */
int glink_next(struct glink *g, struct gp_header *ret, const uint8_t **ret_body);
/* Sends header and body; -ETIMEDOUT when the guest does not take them until `deadline`. */
int glink_send(struct glink *g, uint16_t type, uint32_t id, const void *body, size_t len,
               uint64_t deadline);

/* What any reply or event may carry. */
struct gp_reply {
    bool done;
    uint32_t num; /* guest's errno */
    uint32_t status, outcome;
    uint32_t exit_status, signal, oom;
    uint64_t mem_total, mem_available;
    char text[400];
};
/* False when a field has the wrong length. Unknown fields are skipped. */
bool gp_reply_parse(const uint8_t *body, size_t len, struct gp_reply *ret);

struct gp_line {
    uint64_t seq, realtime_ns;
    uint32_t source;
    bool partial;
    const char *data;
    size_t len;
};
bool gp_line_parse(const uint8_t *body, size_t len, struct gp_line *ret);

/* CLOCK_MONOTONIC, and a deadline that far away. */
uint64_t now_ns(void);
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull
static inline uint64_t deadline_ms(uint64_t ms)
{
    return now_ns() + ms * NS_PER_MS;
}

#endif
