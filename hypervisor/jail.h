// SPDX-License-Identifier: Apache-2.0
/* The jail: what the process gives up before the first guest instruction. */
#ifndef DORMOUSE_JAIL_H
#define DORMOUSE_JAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct jail {
    uint32_t uid; /* also the gid; 0: keep */
    bool keep_fs; /* no namespaces and no empty root (a caller's choice, by hand) */
};

/* Single-threaded. Keeps all descriptors that are open. */
int jail_enter(const struct jail *jail, struct err *e);
/* Closes every descriptor from 3 on but those listed (sorted). */
void jail_close_others(const int *keep, unsigned n);

#endif
