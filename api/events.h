// SPDX-License-Identifier: Apache-2.0
/*
 * What happens to microVMs and images, for those who want to be told: the last
 * ones are kept in memory, each with a number, so that a listener who was away
 * for a moment misses nothing. Calls may come from any thread and never wait
 * for a listener; NULL tells nobody.
 */
#ifndef DORMOUSE_API_EVENTS_H
#define DORMOUSE_API_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/err.h"

#define EVENTS_KEPT      2048u
#define EVENTS_LISTENERS 32u

struct events;

struct event {
    const char *type; /* microvm, image */
    const char *id;   /* of a microVM; NULL for an image */
    const char *image;
    uint32_t major;
    const char *state, *reason; /* reason may be NULL or empty */
};

struct events *events_new(void);
void events_free(struct events *v);
void events_tell(struct events *v, const struct event *x);

/* A listener: its descriptor becomes readable when there is something new. -ENOSPC when there
 * are too many. */
struct listener {
    struct events *v;
    int fd;
    uint64_t next; /* number of the event it gets next */
    bool begun;    /* it knows where it began */
    bool lost;     /* events between the last and the next are not kept any more */
};
/* last: the text of the last event it has had, or NULL to begin with what comes. */
int events_listen(struct events *v, const char *last, struct listener *ret, struct err *e);
void events_leave(struct listener *l);
/* Appends what there is, as lines of a text/event-stream, up to some KiB. */
void events_take(struct listener *l, struct buf *b);

#endif
