// SPDX-License-Identifier: Apache-2.0
/* virtio-balloon: memory the guest gives back, on request or by itself (free-page reporting).
 */
#ifndef DORMOUSE_VIRTIO_BALLOON_H
#define DORMOUSE_VIRTIO_BALLOON_H

#include "dev.h"

int virtio_balloon_new(struct dev **ret, const struct dev_env *env, unsigned slot,
                       struct err *e);
/* How many bytes the guest is asked to give; at most its RAM. I/O thread. */
int virtio_balloon_set_target(struct dev *d, uint64_t bytes, struct err *e);

#endif
