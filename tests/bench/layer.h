// SPDX-License-Identifier: Apache-2.0
/* The memory layer that images of one kernel are saved over. */
#ifndef DORMOUSE_TESTS_BENCH_LAYER_H
#define DORMOUSE_TESTS_BENCH_LAYER_H

#include <stdbool.h>

#include "../../hypervisor/ctl.h"

/* The kernel's text and constants in shared memory with huge pages, as the daemon has it.
 * `write` orders CTL_LAYER of a paused machine. The file, or -1. */
int layer_make(bool (*write)(void *ctx, const struct ctl_layer *l, int fd), void *ctx);

#endif
