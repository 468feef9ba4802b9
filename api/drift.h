// SPDX-License-Identifier: Apache-2.0
/*
 * Whether an image's working set is still what its runs touch. Runs are looked at
 * when they have answered their first request; of each, the pages beyond the list
 * in use are counted, and every page has a vote from each run that touched it.
 * Pure functions on lists of pages in order; fleet_drift.c gets and uses them.
 */
#ifndef DORMOUSE_API_DRIFT_H
#define DORMOUSE_API_DRIFT_H

#include "../snapshot/workset.h"

#define DRIFT_RUNS      8u         /* are looked at before something is decided */
#define DRIFT_AGREE     6u         /* so many of them must have drifted */
#define DRIFT_PAGES_MIN 64u        /* and by at least so many pages each */
#define DRIFT_PAGES_MAX (1u << 14) /* longer lists are not looked at */

struct drift_pages {
    struct workset_page *v;
    size_t n;
};
void drift_pages_free(struct drift_pages *p);

struct drift_vote {
    uint32_t page;
    uint16_t flags, runs;
};
struct drift {
    unsigned runs, drifted; /* since the last decision */
    struct drift_vote *votes;
    size_t nvotes;
};
void drift_reset(struct drift *d); /* frees, too */

/* A run touched `seen`. ret_beyond: how many of them are not in `list`. It has drifted when
 * that is at least `percent` of the list and DRIFT_PAGES_MIN. -ENOMEM: it does not count. */
int drift_add(struct drift *d, const struct drift_pages *list, const struct drift_pages *seen,
              unsigned percent, uint32_t *ret_beyond, struct err *e);

enum drift_verdict {
    DRIFT_OPEN,  /* too few runs yet */
    DRIFT_FITS,  /* the list is as good as ever */
    DRIFT_RECORD /* another one is due */
};
enum drift_verdict drift_verdict(const struct drift *d);

/* The next list. `recorded`: what a run without a list has touched. Of that, what the old list
 * has or another run touched, too; and what half of the runs touched beyond the old list. */
int drift_list(const struct drift *d, const struct drift_pages *list,
               const struct drift_pages *recorded, struct drift_pages *ret, struct err *e);

/* Seconds until the next record, after so many: 10 minutes, and each time twice as many, up to
 * a day. Who touches other pages each time gets a new list now and then, not all the time. */
uint64_t drift_pause_s(unsigned records);

#endif
