// SPDX-License-Identifier: Apache-2.0
/* The jail: what the process gives up before the first guest instruction. jail.c: all that it
 * could reach; seccomp.c: the system calls it has no use for. */
#ifndef DORMOUSE_JAIL_H
#define DORMOUSE_JAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/filter.h"

struct jail {
    bool none;             /* no namespaces, no empty root, nobody else (by hand) */
    bool root;             /* who started it */
    int proc_fd, fence_fd; /* of the host's /proc; landlock's rules, or -1 */
};

/* What all machines of a nursery have in common: namespaces, an empty root, limits, no new
 * privileges. Single-threaded. Keeps all descriptors that are open. */
int jail_common(struct jail *jail, struct err *e);
/* What each has for itself: user `uid` (when started as root; 0: keep), no capabilities, its
 * fence. Opens its pagemap on the way. Single-threaded. */
int jail_own(struct jail *jail, uint32_t uid, int *ret_pagemap, struct err *e);
/* Closes every descriptor from `first` on. */
void jail_close_from(unsigned first);

/* System call allow-lists, one per kind of thread, each call with its reason. */
enum seccomp_kind { SECCOMP_VCPU, SECCOMP_IO };

/* Filters the calling thread and its children, for good; needs no_new_privs. What a machine's
 * threads enter later, by kind, is ready then. */
int seccomp_setup(struct filter_narrow ret[2], struct err *e);
int seccomp_enter(const struct filter_narrow *f, struct err *e);
/* What a refused call does: a line on stderr that names it, then the process ends. The same
 * for access to a mapped file that was cut short. */
int seccomp_handler(struct err *e);
/* How many calls a list holds (for tests and --version). */
unsigned seccomp_count(enum seccomp_kind kind);

#endif
