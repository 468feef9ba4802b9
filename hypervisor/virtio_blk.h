// SPDX-License-Identifier: Apache-2.0
/* virtio-blk over raw files and copy-on-write layers. */
#ifndef DORMOUSE_VIRTIO_BLK_H
#define DORMOUSE_VIRTIO_BLK_H

#include "ctl.h"
#include "dev.h"

struct virtio_blk_config {
    int fds[CTL_LAYERS_MAX]; /* base first; the device takes them, also when it fails */
    unsigned nlayers;
    uint64_t size; /* 0: the base file's */
    bool readonly;
    char serial[20];
    uint64_t limit_bytes, limit_ops; /* a second, 0: none */
};

int virtio_blk_new(struct dev **ret, const struct dev_env *env, unsigned slot,
                   const struct virtio_blk_config *c, struct err *e);

#endif
