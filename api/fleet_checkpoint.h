// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints of a microVM, ways back to them, and forks. Called by the control
 * API's operations, from any thread. A microVM that rests, running or
 * suspended, can be asked; others are waited for, or refused with -EINVAL and
 * a sentence.
 */
#ifndef DORMOUSE_API_FLEET_CHECKPOINT_H
#define DORMOUSE_API_FLEET_CHECKPOINT_H

#include "fleet.h"
#include "store_checkpoint.h"

/* Memory and disk as one, durable when it returns 0; the microVM goes on. Takes id, name, tags
 * and vm of `c` and fills in the rest. -EDQUOT: a limit, with a sentence; -EEXIST: the name. */
int fleet_checkpoint(struct fleet *f, struct store_checkpoint *c, struct err *e);
/* By id or name; -ENOENT. */
int fleet_checkpoint_delete(struct fleet *f, const char *vm_id, const char *which,
                            struct err *e);
/* Back to a checkpoint: a running one runs again, a suspended one stays suspended. Either all
 * of it happened or nothing, whenever the host fails. */
int fleet_rollback(struct fleet *f, const char *vm_id, const char *which, struct err *e);

struct fleet_fork {
    const char *parent, *which; /* which: checkpoint, by id or name; NULL: as it is now */
    struct store_vm *children;  /* ids and labels chosen; given away, also on failure */
    size_t n;
    const char *id;         /* fork-<uuid> */
    int (*also)(void *ctx); /* in the transaction that makes the children; may be NULL */
    void *ctx;
};
/* All children are PENDING and start, or there is none of them. */
int fleet_fork(struct fleet *f, const struct fleet_fork *ask, struct err *e);

#endif
