// SPDX-License-Identifier: Apache-2.0
/* virtio-rng: the host kernel's random numbers, rate limited. */
#ifndef DORMOUSE_VIRTIO_RNG_H
#define DORMOUSE_VIRTIO_RNG_H

#include "dev.h"

int virtio_rng_new(struct dev **ret, const struct dev_env *env, unsigned slot, struct err *e);

#endif
