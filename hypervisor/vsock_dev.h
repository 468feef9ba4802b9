// SPDX-License-Identifier: Apache-2.0
/* The vsock device itself, shared by virtio_vsock.c (packets) and vsock_state.c (snapshots). */
#ifndef DORMOUSE_VSOCK_DEV_H
#define DORMOUSE_VSOCK_DEV_H

#include "virtio_mmio.h"
#include "virtio_vsock.h"
#include "vsock_conn.h"

#define VSOCK_TYPE_STREAM 1u
#define VSOCK_RESETS      512u        /* owed to the guest for ports without a connection */
#define VSOCK_FIRST_PORT  0x40000000u /* of connections from the host */

struct vsock {
    struct virtio v;
    struct virtio_vsock_config c;
    struct vsock_table t;
    uint32_t next_port;
    struct reset {
        uint32_t guest_port, host_port;
        uint16_t type;
    } resets[VSOCK_RESETS];
    unsigned reset_first, nresets;
    bool tx_waits; /* for a place in resets */
    struct iovec iov[VIRTQ_CHAIN];
};

/* A packet to say that there is no such connection; false: too many are owed already. */
bool vsock_owe_reset(struct vsock *s, uint32_t guest_port, uint32_t host_port, uint16_t type);

int vsock_save(struct virtio *v, struct dstate_writer *w, struct err *e);
int vsock_load(struct virtio *v, const struct dstate_reader *r, struct err *e);

#endif
