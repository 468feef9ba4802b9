// SPDX-License-Identifier: Apache-2.0
/* The one event loop of dormouse-init: epoll and a short list of timers. No threads. */
#ifndef DORMOUSE_GUEST_LOOP_H
#define DORMOUSE_GUEST_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct epoll_event;

/* Embedded in what it belongs to; fd -1 when not watched. */
struct ev {
    int fd;
    void (*fn)(struct ev *ev, uint32_t events);
};

struct timer {
    struct timer *next;
    uint64_t at_ns;
    bool armed;
    void (*fn)(struct timer *t);
};

struct loop {
    int ep;
    bool stop;
    struct timer *timers;      /* earliest first */
    struct epoll_event *batch; /* events not handled yet */
    int batch_len;
};

#define MS 1000000ull

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

int loop_open(struct loop *l);
/* Watches fd for events (EPOLLIN…); 0 or -errno. The loop never closes fds. */
int loop_add(struct loop *l, struct ev *ev, int fd, uint32_t events);
void loop_events(struct loop *l, struct ev *ev, uint32_t events);
/* Forgets it, also an event already fetched: the owner may be freed after this. */
void loop_del(struct loop *l, struct ev *ev);
/* (Re)starts the timer. */
void loop_timer(struct loop *l, struct timer *t, uint64_t after_ns);
void loop_untimer(struct loop *l, struct timer *t);
/* Runs until l->stop. */
void loop_run(struct loop *l);

#endif
