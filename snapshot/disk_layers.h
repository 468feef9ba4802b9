// SPDX-License-Identifier: Apache-2.0
/*
 * The files behind a virtual disk: a raw base and overlays over it
 * (overlay.h). Says where the bytes of a request are; does no I/O on
 * blocks itself; disk.c does.
 */
#ifndef DORMOUSE_SNAPSHOT_DISK_LAYERS_H
#define DORMOUSE_SNAPSHOT_DISK_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "overlay.h"

#define DISK_LAYERS_MAX 8u

struct disk_layers {
    int base; /* raw file */
    uint64_t base_size;
    struct overlay *over[DISK_LAYERS_MAX - 1]; /* bottom to top */
    unsigned nover;
    bool readonly;
    uint64_t size; /* of the disk, bytes */
};

/* A stretch of the disk that lies in one file, or in none (fd -1: zeros). */
struct disk_extent {
    int fd;
    uint64_t off, len;
    bool short_zero; /* the file may end inside: then zeros follow */
};

/* Takes the descriptors: closes them at the end, also when it fails. size 0: the base's. */
int disk_layers_open(struct disk_layers *l, const int *fds, unsigned nfds, uint64_t size,
                     bool readonly, struct err *e);
void disk_layers_close(struct disk_layers *l);

/* The layer that is written to, NULL when that is the raw base itself. */
static inline struct overlay *disk_layers_top(const struct disk_layers *l)
{
    return l->nover ? l->over[l->nover - 1] : NULL;
}
/* File that writes go to. */
static inline int disk_layers_wfd(const struct disk_layers *l)
{
    return l->nover ? overlay_fd(l->over[l->nover - 1]) : l->base;
}
/* Where reading [off, off+len) begins; 0 < ret->len <= len. The range lies on the disk. */
void disk_layers_find(const struct disk_layers *l, uint64_t off, uint64_t len,
                      struct disk_extent *ret);

#endif
