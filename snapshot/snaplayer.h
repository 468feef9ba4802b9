// SPDX-License-Identifier: Apache-2.0
/*
 * Layer files: a stretch of guest memory that is the same in many images, such
 * as the kernel's text and constants. An image names its layer and stores only
 * the pages that differ from it. Written by the VMM, named and published by the
 * daemon. Files may be forged: what is returned is in bounds, nothing more is
 * promised. docs/snapshot-format.md describes each byte.
 */
#ifndef DORMOUSE_SNAPSHOT_SNAPLAYER_H
#define DORMOUSE_SNAPSHOT_SNAPLAYER_H

#include "snapfile.h"

#define LAYER_VERSION 1u
#define LAYER_DATA    (2ull << 20) /* offset of the bytes: huge pages can map them */

struct layer_info {
    struct snap_layer is; /* id, place and length */
    uint64_t midr;        /* of the host; kernels patch themselves for a CPU */
    uint64_t kernel;      /* the daemon's name for the guest kernel */
};

#define LAYER_MANIFEST_AT 48u /* these bytes of the header and the data are under the id */
#define LAYER_MANIFEST    48u

/* Checks the header page of a file of file_len bytes. */
int layer_parse(const void *bytes, size_t len, uint64_t file_len, struct layer_info *ret,
                struct err *e);
void layer_build(const struct layer_info *l, uint8_t ret[SNAP_PAGE]);
int layer_read(int fd, struct layer_info *ret, struct err *e);
/* A whole layer of the machine's memory to an empty file, with the id that `l` has. */
int layer_write(const struct snap_io *io, int fd, const struct layer_info *l,
                const uint8_t *mem, struct err *e);
/* -ESTALE unless the file is the layer that the image names. What of its header counts is
 * compared with the image's, so the checksum is left to layer_read(). */
int layer_check(int fd, const struct snap_info *image, struct err *e);

#endif
