// SPDX-License-Identifier: Apache-2.0
/*
 * The files of images and sessions in the order that survives a power failure:
 * files first, then the directory, then the row in the database, and only then
 * what it replaces is removed. Every call goes through snapshot/io.h; called by
 * the fleet, and by tests/unit/test_snapfile_power.c with a disk that fails.
 *     vms/<id>/      disk.ovl (cpfiles.h), mem.snap.<generation>
 *     images/<id>/   disk.ovl, boot.ovl, mem.snap, meta
 *     layers/        <id>.layer
 */
#ifndef DORMOUSE_API_SNAPFILES_H
#define DORMOUSE_API_SNAPFILES_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "../snapshot/io.h"

struct seal;

#define SNAPFILES_NAME 40u
void snapfiles_name(char ret[SNAPFILES_NAME], uint64_t generation);
/* The layer a session writes to: disk.ovl, after its n-th checkpoint disk.<n>.ovl. */
void snapfiles_disk(char ret[SNAPFILES_NAME], uint64_t serial);

/* What the order is made of: the machine writes its snapshot to an empty file, and the row that
 * makes the files count becomes durable. */
struct snapfiles_steps {
    int (*save)(void *ctx, int fd, struct err *e);
    int (*commit)(void *ctx, struct err *e);
    void *ctx;
};

/* A snapshot under `name` in dir, or an error and nothing. `seal` may be NULL. ret_bytes (may
 * be NULL): what it takes on the disk. */
int snapfiles_write(const struct snap_io *io, const struct seal *seal, int dir,
                    const char *name, const struct snapfiles_steps *s, uint64_t *ret_bytes,
                    struct err *e);
/* A memory layer: written under a temporary name by save(), which says the lasting one. There
 * before any image that names it is. */
#define SNAPFILES_LAYER (64u + 7u) /* 64 hex digits, ".layer" */
typedef int snapfiles_layer_fn(void *ctx, int fd, char ret_name[SNAPFILES_LAYER],
                               struct err *e);
int snapfiles_layer(const struct snap_io *io, int dir, snapfiles_layer_fn *save, void *ctx,
                    struct err *e);
void snapfiles_layer_name(char ret[SNAPFILES_LAYER], const uint8_t id[32]);
/* After the last image that names it is gone, durably; or a temporary file. */
int snapfiles_drop_layer(const struct snap_io *io, int dir, const char *name);

/* A session's suspend: snapshot, disk, row; at last the older generation goes. `parent`: the
 * directory that holds dir, when that is new; else -1. After an error the session is what it
 * was, and may be tried again; but with -ENOTRECOVERABLE its disk has lost writes, and it has
 * to end. */
int snapfiles_suspend(const struct snap_io *io, const struct seal *seal, int parent, int dir,
                      uint64_t disk, uint64_t generation, const struct snapfiles_steps *s,
                      uint64_t *ret_bytes, struct err *e);
/* The end of a session: its disk and snapshots are gone, and stay so. */
int snapfiles_end(const struct snap_io *io, int dir, struct err *e);
/* Before a machine runs on a session's disk: from now on the disk belongs to `generation`, and
 * no longer to the snapshot of an older one. Becomes durable with the guest's own writes.
 * Undone by the older generation, when nothing ran. */
int snapfiles_use(const struct snap_io *io, int disk, uint64_t generation, struct err *e);
/* After a restart: both files of this generation are there, and none ran on the disk since. */
bool snapfiles_intact(const struct snap_io *io, int dir, uint64_t disk, uint64_t generation);
/* Removes what is left of a session but its disk and the generation `keep` (0: and its disk;
 * SNAPFILES_RUNS: but the disk). Returns how many files. */
#define SNAPFILES_RUNS UINT64_MAX
unsigned snapfiles_clean(const struct snap_io *io, int dir, uint64_t disk, uint64_t keep);
/* Results of a build that did not end well; its log stays. */
int snapfiles_drop_image(const struct snap_io *io, int dir, struct err *e);
/* A flat directory and all in it; 0 also when there is none. */
int snapfiles_drop_tree(const struct snap_io *io, int parent, const char *name);

#endif
