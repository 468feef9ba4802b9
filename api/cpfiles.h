// SPDX-License-Identifier: Apache-2.0
/*
 * Files of checkpoints and of the disk layers they share, each step in an order
 * that survives a power failure (see snapfiles.h, whose rules hold here too:
 * files first, then the row, then what it replaces is removed).
 *     disks/<uuid>          a frozen disk layer: another name of what was a top
 *     checkpoints/<uuid>    memory of a checkpoint
 *     vms/<id>/disk.ovl     the layer a microVM writes to; after n checkpoints disk.<n>.ovl
 * Called by the fleet, and by tests/unit/test_checkpoint_power.c.
 */
#ifndef DORMOUSE_API_CPFILES_H
#define DORMOUSE_API_CPFILES_H

#include "../snapshot/overmerge.h"
#include "snapfiles.h"

/* A new top layer for a disk of `size` bytes, in the place of one that a crash has left. With
 * `sync` it is durable but for its name. */
int cpfiles_top(const struct snap_io *io, int vm_dir, uint64_t serial, uint64_t size, bool sync,
                int *ret_fd, struct err *e);
/* Gives the top a second, durable name among the layers. */
int cpfiles_freeze(const struct snap_io *io, int vm_dir, uint64_t serial, int disks_dir,
                   const char *id, struct err *e);
/* Several layers, bottom first, as one new one, durable. pace NULL: at once. */
int cpfiles_merge(const struct snap_io *io, int disks_dir, const int *fds, unsigned n,
                  const char *id, const struct overlay_pace *pace, struct err *e);
/* The memory of a checkpoint: an empty file, and after it was written its publishing. */
int cpfiles_memory(const struct snap_io *io, int dir, const char *id, int *ret_fd,
                   struct err *e);
int cpfiles_publish(const struct snap_io *io, const struct seal *seal, int dir, const char *id,
                    int fd, uint64_t *ret_bytes, struct err *e);
void cpfiles_drop(const struct snap_io *io, int dir, const char *id);
/* A file that does not change as a second, durable name elsewhere: a sleeping session's memory
 * for a checkpoint, a checkpoint's for a session. */
int cpfiles_share(const struct snap_io *io, int from_dir, const char *from, int to_dir,
                  const char *to, struct err *e);
/* Removes what is no longer counted; the directory is not synced: what comes back after a power
 * failure is removed by the next start. */
void cpfiles_remove(const struct snap_io *io, int dir, const char *id);
/* After a restart: removes all but what `known` knows. Returns how many files. */
unsigned cpfiles_clean(const struct snap_io *io, int dir,
                       bool (*known)(void *ctx, const char *name), void *ctx);

#endif
