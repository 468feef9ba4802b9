// SPDX-License-Identifier: Apache-2.0
/*
 * What the daemon counts, for Prometheus: requests and errors, and how long
 * each phase of a run, resume and suspend took. Counters never wait for one
 * another; all calls may come from any thread, and NULL counts nothing.
 */
#ifndef DORMOUSE_API_METRICS_H
#define DORMOUSE_API_METRICS_H

#include <stdint.h>

#include "../hypervisor/base/buf.h"

struct metrics;

enum metric_phase {
#define PHASE(action, phase) METRIC_##action##_##phase,
#include "phases.def"
#undef PHASE
    METRIC_PHASE_COUNT
};

/* How the background's work on a chain of disk layers ended. */
enum metric_flatten { FLATTEN_DONE, FLATTEN_DROPPED, FLATTEN_FAILED, FLATTEN_COUNT };

enum metric_door { DOOR_API, DOOR_S3, DOOR_EDGE, DOOR_HEALTH, DOOR_OTHER, DOOR_COUNT };

/* NULL when out of memory. `operations` are named in what is written; they must stay. */
struct metrics *metrics_new(const char *const *operations, unsigned n);
void metrics_free(struct metrics *m);
void metrics_phase(struct metrics *m, enum metric_phase p, uint64_t ns);
void metrics_request(struct metrics *m, enum metric_door d, int status, uint64_t ms);
void metrics_operation(struct metrics *m, unsigned operation, int status);
/* `layers` of a disk became one of `bytes` in that time; or did not. */
void metrics_flatten(struct metrics *m, enum metric_flatten how, unsigned layers,
                     uint64_t bytes, uint64_t ns);
/* A run touched `beyond` pages that its image's list of `pages` has not. */
void metrics_touched(struct metrics *m, uint64_t pages, uint64_t beyond);
void metrics_recorded(struct metrics *m, bool done);
/* The text format, version 0.0.4. */
void metrics_write(const struct metrics *m, struct buf *b);

#endif
