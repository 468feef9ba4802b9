// SPDX-License-Identifier: Apache-2.0
/* System call allow-lists, one per kind of thread, each call with its reason. */
#ifndef DORMOUSE_SECCOMP_H
#define DORMOUSE_SECCOMP_H

#include "base/err.h"

/* SETUP comes first, then, when a machine is made, one of the others for each thread. */
enum seccomp_kind { SECCOMP_VCPU, SECCOMP_IO, SECCOMP_SETUP };

/* Filters the calling thread, for good. Needs no_new_privs. */
int seccomp_enter(enum seccomp_kind kind, struct err *e);
/* What a refused call does: a line on stderr that names it, then the process ends. The same
 * for access to a mapped file that was cut short. */
int seccomp_handler(struct err *e);
/* How many calls a list holds (for tests and --version). */
unsigned seccomp_count(enum seccomp_kind kind);

#endif
