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

/* Other files behind the disk of a quiet device, with the same content; takes the descriptors.
 * After an error the old ones stay. */
int virtio_blk_layers(struct dev *d, const int *fds, unsigned nfds, struct err *e);

#endif
