// SPDX-License-Identifier: Apache-2.0
/*
 * Framed messages (abi/proto.h) over a non-blocking stream. Used for the control
 * and the log stream. The peer's bytes are checked here: header, length and
 * that the body is well-formed.
 */
#ifndef DORMOUSE_GUEST_CHAN_H
#define DORMOUSE_GUEST_CHAN_H

#include <stddef.h>

#include "abi/tlv.h"
#include "loop.h"

struct chan {
    struct ev ev; /* fd -1: down */
    struct loop *loop;
    uint8_t *in, *out;
    size_t in_len, in_cap;
    size_t out_off, out_len, out_cap; /* bytes [off, len) are to be sent */
    bool blocked;                     /* the stream takes nothing now: EPOLLOUT is awaited */
    /* One message; the body is valid until it returns. */
    void (*on_msg)(struct chan *c, const struct gp_header *h, const uint8_t *body);
    void (*on_down)(struct chan *c); /* the stream ended; the chan is reset already */
    void (*on_sent)(struct chan *c); /* all queued bytes are gone; may be NULL */
};

#define CHAN_OUT_MAX ((size_t)1 << 20)

/* Takes the connected fd over. 0 or -errno. */
int chan_open(struct chan *c, struct loop *l, int fd);
void chan_close(struct chan *c);
static inline bool chan_up(const struct chan *c)
{
    return c->ev.fd >= 0;
}
static inline size_t chan_queued(const struct chan *c)
{
    return c->out_len - c->out_off;
}
/* Queues a message and sends what the stream takes. 0, -ENOTCONN, -ENOBUFS. */
int chan_send(struct chan *c, uint16_t type, uint32_t id, const void *body, size_t len);
/* Room for a body of up to `cap` bytes inside the queue, written in place; finish with
 * chan_commit(), send with chan_flush(). NULL when the queue is full. */
uint8_t *chan_begin(struct chan *c, size_t cap);
void chan_commit(struct chan *c, uint16_t type, uint32_t id, size_t len);
void chan_flush(struct chan *c);

#endif
