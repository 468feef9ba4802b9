// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock: stream connections between guest ports and sockets of the
 * host. The guest reaches CID 2 only. Connections to GP_PORT_CONTROL and
 * GP_PORT_LOG survive a snapshot: after a load they show up as if the guest had
 * just connected, and no byte is lost. All others are reset after a load.
 */
#ifndef DORMOUSE_VIRTIO_VSOCK_H
#define DORMOUSE_VIRTIO_VSOCK_H

#include "dev.h"

struct virtio_vsock_config {
    uint32_t cid; /* the guest's */
    /* A guest program connected to a host port; the callee owns the fd. Negative: the
     * connection is refused (reset). I/O thread, also from start() after a load. */
    int (*on_connect)(void *ctx, uint32_t guest_port, uint32_t host_port, int fd);
    void *ctx;
};

int virtio_vsock_new(struct dev **ret, const struct dev_env *env, unsigned slot,
                     const struct virtio_vsock_config *c, struct err *e);
/* Connects a stream socket to a guest port. Takes the fd, also when it fails; when the guest
 * refuses, the socket's peer sees its end. I/O thread. */
int virtio_vsock_open(struct dev *d, uint32_t guest_port, int fd, struct err *e);

#endif
