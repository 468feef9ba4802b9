// SPDX-License-Identifier: Apache-2.0
/*
 * The state of a microVM at one moment, as files: memory as a session, disk as
 * frozen layers. What checkpoints and forks have in common; the caller holds
 * `busy`, and the microVM is RUNNING or SUSPENDED.
 *
 * Order: files, take_begin(); the row of the microVM's disk with a new top over
 * the old one, which is right also while the machine still writes to the old
 * one; the machine, take_machine(); then whatever the caller makes of it.
 */
#ifndef DORMOUSE_API_FLEET_TAKE_H
#define DORMOUSE_API_FLEET_TAKE_H

#include "fleet_priv.h"

struct take {
    struct fvm *vm;
    bool running;
    bool pushed;              /* the old top was frozen, and there is a new one */
    struct store_disk before; /* the microVM's disk; */
    struct store_disk disk;   /* from now on. Its layers hold the state */
    char fresh[2][LAYER_CAP]; /* layers the store does not know yet */
    unsigned nfresh;
    uint64_t layer_bytes; /* what the frozen top takes */
    int top;              /* the new one, for the machine */
    struct ctl_saved saved;
    uint64_t begin, hook, frozen, thawed; /* ns; between the last two nothing ran */
};

/* Waits until nobody is at work on it, and takes it as it rests. */
int take_hold(struct fvm *vm, const char *verb, bool *ret_running, struct err *e);
bool take_ended(struct fvm *vm); /* after a refusal: because it has ended */
void take_init(struct take *t, struct fvm *vm, bool running);
int take_begin(struct fleet *f, struct take *t, struct err *e);
/* In a transaction of the caller's: what take_begin() has made, for a suspended microVM. */
int take_rows(struct fleet *f, const struct take *t, struct err *e);
/* Of a running one: rows, memory into `mem`, disk, and on. After an error it goes on as before;
 * when it cannot, it has ended. */
int take_machine(struct fleet *f, struct take *t, int mem, struct err *e);
/* A suspended one: the caller's transaction was kept, or was not. */
void take_kept(struct fleet *f, struct take *t);
void take_undo(struct fleet *f, struct take *t);

/* fleet_bound.c: connections into a machine end, as it is another one now */
void fleet_cut(struct fvm *vm);

/* fleet_fork.c */
void fork_source_put(struct fleet *f, struct fork_source *s); /* NULL is fine */
/* After a restart, for one that was to be started: 1 when it is a fork's, and vm has its disk
 * and source; 0 it is none. */
int fork_source_again(struct fleet *f, struct fvm *vm, struct err *e);

/* fleet_rollback.c: what a microVM found suspended at start has not open yet */
int take_prepare(struct fleet *f, struct fvm *vm, struct err *e);

#endif
