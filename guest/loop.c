// SPDX-License-Identifier: Apache-2.0
/* See loop.h. */
#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>

#define BATCH 16

uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int loop_open(struct loop *l)
{
    *l = (struct loop){.ep = epoll_create1(EPOLL_CLOEXEC)};
    return l->ep < 0 ? -errno : 0;
}

int loop_add(struct loop *l, struct ev *ev, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = ev};
    if (epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &e) < 0)
        return -errno;
    ev->fd = fd;
    return 0;
}

void loop_events(struct loop *l, struct ev *ev, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = ev};
    if (ev->fd >= 0)
        epoll_ctl(l->ep, EPOLL_CTL_MOD, ev->fd, &e);
}

void loop_del(struct loop *l, struct ev *ev)
{
    if (ev->fd < 0)
        return;
    epoll_ctl(l->ep, EPOLL_CTL_DEL, ev->fd, NULL);
    ev->fd = -1;
    for (int i = 0; i < l->batch_len; i++)
        if (l->batch[i].data.ptr == ev)
            l->batch[i].data.ptr = NULL;
}

void loop_untimer(struct loop *l, struct timer *t)
{
    if (!t->armed)
        return;
    for (struct timer **at = &l->timers; *at; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    t->armed = false;
}

void loop_timer(struct loop *l, struct timer *t, uint64_t after_ns)
{
    loop_untimer(l, t);
    t->at_ns = now_ns() + after_ns;
    t->armed = true;
    struct timer **at = &l->timers;
    while (*at && (*at)->at_ns <= t->at_ns)
        at = &(*at)->next;
    t->next = *at;
    *at = t;
}

static void run_timers(struct loop *l)
{
    while (l->timers && l->timers->at_ns <= now_ns()) {
        struct timer *t = l->timers;
        l->timers = t->next;
        t->armed = false;
        t->fn(t);
    }
}

static int wait_ms(const struct loop *l)
{
    if (!l->timers)
        return -1;
    uint64_t now = now_ns();
    if (l->timers->at_ns <= now)
        return 0;
    uint64_t ms = (l->timers->at_ns - now + MS - 1) / MS;
    return ms > 60000 ? 60000 : (int)ms;
}

void loop_run(struct loop *l)
{
    struct epoll_event batch[BATCH];
    while (!l->stop) {
        int n = epoll_wait(l->ep, batch, BATCH, wait_ms(l));
        if (n < 0 && errno != EINTR)
            return;
        l->batch = batch;
        l->batch_len = n > 0 ? n : 0;
        for (int i = 0; i < n; i++) {
            struct ev *ev = batch[i].data.ptr;
            if (ev)
                ev->fn(ev, batch[i].events);
        }
        l->batch_len = 0;
        run_timers(l);
    }
}
