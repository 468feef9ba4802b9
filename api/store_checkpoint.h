// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints, forks and the frozen disk layers they share, in the store
 * (store.h). Layers are counted here: one that no disk has any more is handed
 * out once by store_layers_unused(), and its file may be removed.
 */
#ifndef DORMOUSE_API_STORE_CHECKPOINT_H
#define DORMOUSE_API_STORE_CHECKPOINT_H

#include "store.h"

#define LAYER_CAP       40u /* a uuid */
#define DISK_FROZEN_MAX 4u  /* frozen layers of a disk, over its image's */

/* Frozen layers over the image's, bottom first; and which file is on top of them. */
struct store_disk {
    uint64_t serial; /* 0: as it began */
    uint32_t n;
    char layers[DISK_FROZEN_MAX][LAYER_CAP];
};
/* holder: a microVM or a checkpoint. Zeros when nothing is noted. */
int store_disk_get(struct store *s, const char *holder, struct store_disk *ret, struct err *e);
int store_disk_set(struct store *s, const char *holder, const struct store_disk *d,
                   struct err *e);
int store_disk_drop(struct store *s, const char *holder, struct err *e);
int store_disk_count(struct store *s, uint64_t *ret, struct err *e);

/* A layer is added in the transaction that gives it to a disk. */
int store_layer_add(struct store *s, const char *id, uint64_t bytes, struct err *e);
/* Forgets up to `max` layers that no disk has; their files are the caller's to remove. */
int store_layers_unused(struct store *s, char (*ret)[LAYER_CAP], size_t max, size_t *ret_n,
                        struct err *e);

int store_layer_sum(struct store *s, uint64_t *ret_count, uint64_t *ret_bytes, struct err *e);

/* MicroVMs that have a layer, themselves or by a checkpoint; also those that have ended. */
struct store_ids {
    char (*v)[ID_CAP];
    size_t n;
};
void store_ids_free(struct store_ids *l);
int store_layer_vms(struct store *s, const char *layer, struct store_ids *ret, struct err *e);
/* In the disks of a microVM and of its checkpoints, `to` takes the place of these layers where
 * they lie one on the other. vm NULL: in the checkpoints of microVMs that have ended. ret_n: in
 * how many disks. */
struct chain_part; /* chain.h */
int store_disk_join(struct store *s, const char *vm, const struct chain_part *from,
                    const char *to, uint32_t *ret_n, struct err *e);

struct store_checkpoint {
    uint64_t row;                /* creation order */
    char id[ID_CAP], vm[ID_CAP]; /* checkpoint-<uuid> */
    char name[NAME_CAP];         /* "" or unique in its microVM */
    double created_at;
    uint64_t memory_bytes, disk_bytes; /* what its own files take */
    uint64_t generation;               /* of the microVM then */
    char *tags;                        /* JSON object (malloc'd), or NULL */
};
void store_checkpoint_free(struct store_checkpoint *c);
/* -EEXIST: the microVM has one of this name. */
int store_checkpoint_add(struct store *s, const struct store_checkpoint *c,
                         const struct store_disk *d, struct err *e);
/* By id or name. */
int store_checkpoint_find(struct store *s, const char *vm, const char *which,
                          struct store_checkpoint *ret, struct err *e);
/* Newest first; before_row UINT64_MAX to start. */
int store_checkpoint_each(struct store *s, const char *vm, uint64_t before_row,
                          bool (*fn)(void *ctx, const struct store_checkpoint *c), void *ctx,
                          struct err *e);
int store_checkpoint_delete(struct store *s, const char *id, struct err *e);
/* vm NULL: of all. */
int store_checkpoint_sum(struct store *s, const char *vm, uint64_t *ret_count,
                         uint64_t *ret_bytes, struct err *e);
/* All of a microVM, and its disk. NULL: all whose microVM is forgotten, and the disks of those
 * that have ended. Ids of checkpoints that are gone go to fn. */
int store_checkpoint_drop(struct store *s, const char *vm,
                          void (*fn)(void *ctx, const char *id), void *ctx, struct err *e);
/* Ids of all checkpoints and of forks whose children have yet to start, or of all layers. */
int store_checkpoint_ids(struct store *s, bool layers, void (*fn)(void *ctx, const char *id),
                         void *ctx, struct err *e);

/* Where a forked microVM comes from. */
struct store_lineage {
    char vm[ID_CAP], parent[ID_CAP];
    char checkpoint[ID_CAP]; /* "" when it was forked from what ran */
    char fork[ID_CAP];       /* fork-<uuid>: those made at once */
    uint32_t number;         /* among them, from 1 */
};
int store_lineage_add(struct store *s, const struct store_lineage *l, struct err *e);
int store_lineage_get(struct store *s, const char *vm, struct store_lineage *ret,
                      struct err *e);
/* In order of their numbers; fn must not write. */
int store_lineage_each(struct store *s, const char *fork,
                       bool (*fn)(void *ctx, const struct store_lineage *l), void *ctx,
                       struct err *e);

#endif
