// SPDX-License-Identifier: Apache-2.0
/* What a machine's memory is compared with when it is saved: its image, and the layer below. */
#ifndef DORMOUSE_SNAPSHOT_SNAPBASE_H
#define DORMOUSE_SNAPSHOT_SNAPBASE_H

#include "snaplayer.h"

/* The image a session differs from: which pages it stores, and their content. */
struct snap_base {
    struct snap_file file;
    uint64_t *stored;
    uint8_t *map;
    uint64_t len;
};
/* -ESTALE unless the file is still the one of that id. To be closed even after an error. */
int snap_base_open(struct snap_base *b, int image_fd, int layer_fd, const uint8_t id[SNAP_ID],
                   uint64_t mem_bytes, struct err *e);
void snap_base_close(struct snap_base *b);
/* Sets the bits of the pages that it stores; none if there is no image. */
void snap_base_mark(const struct snap_base *b, uint64_t *bitmap);

/* The layer that a new image is saved over. */
struct snap_lower {
    struct layer_info info;
    uint8_t *map;
};
int snap_lower_open(struct snap_lower *l, int fd, uint64_t mem_bytes, struct err *e);
void snap_lower_close(struct snap_lower *l);

/* Sets the bits of the pages of a stretch of memory. */
void snap_mark(uint64_t *bitmap, uint64_t off, uint64_t len);

#endif
