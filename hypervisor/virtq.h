// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues (virtio 1.2, 2.7) as the device sees them. Pure functions
 * over guest memory, no system calls, one thread (the I/O thread). Everything
 * read from the rings is hostile: each value is read once, each address goes
 * through mem_at(), each chain is bounded. Called by the virtio devices.
 */
#ifndef DORMOUSE_VIRTQ_H
#define DORMOUSE_VIRTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/iov.h"
#include "mem.h"

#define VIRTQ_SIZE_MAX 256u
#define VIRTQ_CHAIN    66u /* buffers in one chain that devices here accept */

struct virtq_conf {
    uint16_t size;
    uint16_t next; /* ring index to go on from, 0 for a fresh queue */
    uint64_t desc, avail, used;
    bool event_idx, indirect; /* negotiated features */
};

struct virtq {
    const struct guest_mem *mem;
    const uint8_t *desc;
    uint16_t *avail; /* flags, idx, ring[size], used_event */
    uint16_t *used;  /* flags, idx, {u32 id, u32 len}[size], avail_event */
    uint16_t size;
    bool event_idx, indirect;
    uint16_t next;      /* next avail entry to take */
    uint16_t used_next; /* next used entry to fill */
    uint16_t used_seen; /* what the guest has been shown */
    bool signalled;     /* the guest has been interrupted since activation */
};

/* One popped chain. Its buffers are in the caller's iov: first the n_out buffers the
 * device reads, then the n_in it writes. */
struct virtq_chain {
    uint16_t head;
    uint16_t n_out, n_in;
    uint32_t out_len, in_len;
};

/* -EINVAL: size not a power of two up to VIRTQ_SIZE_MAX, misaligned, or not in RAM. */
int virtq_init(struct virtq *q, const struct guest_mem *mem, const struct virtq_conf *c);

/* 1: a chain, 0: nothing there. Negative: the guest broke the queue:
 * -EBADMSG available index or descriptor number, -ELOOP loop, -EFAULT outside RAM,
 * -EINVAL empty buffer or wrong flags, -E2BIG longer than `max` buffers or 4 GiB. */
int virtq_pop(struct virtq *q, struct virtq_chain *c, struct iovec *iov, unsigned max);
/* Puts the last n popped chains back. */
void virtq_unpop(struct virtq *q, unsigned n);
/* Hands a chain back with `len` bytes written; seen by the guest at virtq_signal(). */
void virtq_push(struct virtq *q, uint16_t head, uint32_t len);
/* Shows the guest what was pushed; true when it wants an interrupt for it. */
bool virtq_signal(struct virtq *q);
/* Asks for doorbells (again); true when there is something to pop already. While
 * draining a queue doorbells are best turned off. */
bool virtq_enable_notify(struct virtq *q);
void virtq_disable_notify(struct virtq *q);

#endif
