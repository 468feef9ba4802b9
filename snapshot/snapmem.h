// SPDX-License-Identifier: Apache-2.0
/* Mapping guest memory: out of an image file and the layer below it, or empty. */
#ifndef DORMOUSE_SNAPSHOT_SNAPMEM_H
#define DORMOUSE_SNAPSHOT_SNAPMEM_H

#include "snaplayer.h"

/* Runs of fewer pages are read, others mapped: a mapping costs a system call and a piece of
 * address space, whatever its length. */
#define MEMORY_MAP_RUN 64u

/* Maps the image's memory privately, its layer (layer_fd, when the image has one) over it, and
 * what the image has of its own over that. info->mem_bytes at *ret, which the caller unmaps.
 * Guest and host address agree modulo 2 MiB, so that whole blocks of a layer in huge pages are
 * mapped as such, by the host and by KVM. `place`, a multiple of 2 MiB or NULL: it ends there
 * if nothing is in the way. */
int memory_map(const struct snap_file *image, int image_fd, int layer_fd, uint8_t *place,
               uint8_t **ret, struct err *e);
/* Empty memory, at a multiple of 2 MiB. */
int memory_map_anonymous(uint64_t size, uint8_t **ret, struct err *e);

#endif
