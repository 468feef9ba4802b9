// SPDX-License-Identifier: Apache-2.0
/* virtio-net on a tap. */
#ifndef DORMOUSE_VIRTIO_NET_H
#define DORMOUSE_VIRTIO_NET_H

#include <stdbool.h>

#include "dev.h"

struct virtio_net_config {
    int fd; /* tap with IFF_TAP|IFF_NO_PI|IFF_VNET_HDR; the device takes it, also when it fails
             */
    /* fd is no tap but keeps packet boundaries (a packet socket pair); packets still begin
     * with the 12-byte virtio header. Offloads are then between guest and peer. */
    bool plain;
    uint8_t mac[6];
    uint64_t limit_bytes, limit_ops; /* a second and direction, 0: none */
};

int virtio_net_new(struct dev **ret, const struct dev_env *env, unsigned slot,
                   const struct virtio_net_config *c, struct err *e);

#endif
