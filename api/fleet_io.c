// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O thread; see fleet_io.h. Everything about attached VMMs happens under
 * one lock that the thread holds while it handles a batch of events, so a
 * detached VMM is never touched: stale events of the batch find another
 * generation in the table.
 */
#include "fleet_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"

#define BATCH           64
#define PARENT_LIMIT_MS 15000

enum kind { KIND_CTL, KIND_LINK, KIND_LOG, KIND_PARENT, KIND_WAKE };

enum slot_use { SLOT_FREE, SLOT_USED, SLOT_RELEASING };

struct fleet_io {
    int ep, wake, parent;
    pthread_t thread;
    bool started, stop, parent_gone;
    void (*lost_parent)(void *ctx);
    void *ctx;

    pthread_mutex_t lock; /* table, generation, and what the attached VMMs hold */
    struct vmm *table[PRIV_SLOTS];
    uint32_t generation[PRIV_SLOTS];

    pthread_mutex_t plock; /* the rest */
    pthread_cond_t pcond;
    struct io_request *requests;
    uint32_t next_id, hint;
    unsigned char slots[PRIV_SLOTS];
    uint32_t release_id[PRIV_SLOTS];
    struct msg msg;
};

static uint64_t tag_of(enum kind kind, uint32_t slot, uint32_t generation)
{
    return (uint64_t)generation << 32 | slot << 3 | kind;
}

static void watch(struct fleet_io *io, struct vmm *v, int fd, enum kind kind)
{
    struct epoll_event ev = {.events = EPOLLIN,
                             .data.u64 = tag_of(kind, v->slot, io->generation[v->slot])};
    if (fd >= 0)
        epoll_ctl(io->ep, EPOLL_CTL_ADD, fd, &ev);
}

static void unwatch(struct fleet_io *io, int fd)
{
    if (fd >= 0)
        epoll_ctl(io->ep, EPOLL_CTL_DEL, fd, NULL);
}

void fleet_io_attach(struct fleet_io *io, struct vmm *v)
{
    pthread_mutex_lock(&io->lock);
    io->table[v->slot] = v;
    io->generation[v->slot]++;
    v->attached = true;
    watch(io, v, v->ctl, KIND_CTL);
    watch(io, v, v->link.fd, KIND_LINK);
    watch(io, v, v->log.fd, KIND_LOG);
    pthread_mutex_unlock(&io->lock);
}

void fleet_io_detach(struct fleet_io *io, struct vmm *v)
{
    pthread_mutex_lock(&io->lock);
    io->table[v->slot] = NULL;
    io->generation[v->slot]++;
    v->attached = false;
    if (!v->dead)
        unwatch(io, v->ctl);
    unwatch(io, v->link.fd);
    unwatch(io, v->log.fd);
    pthread_mutex_unlock(&io->lock);
}

void fleet_io_stream(struct fleet_io *io, struct vmm *v, struct glink *g, int new_fd)
{
    unwatch(io, g->fd);
    glink_close(g);
    if (new_fd >= 0) {
        glink_open(g, new_fd);
        watch(io, v, new_fd, g == &v->link ? KIND_LINK : KIND_LOG);
    }
}

/* ---- the parent ---- */

static void on_parent_answer(struct fleet_io *io)
{
    struct msg *m = &io->msg;
    for (uint32_t s = 0; s < PRIV_SLOTS; s++) {
        if (io->slots[s] == SLOT_RELEASING && io->release_id[s] == m->id) {
            io->slots[s] = SLOT_FREE;
            pthread_cond_broadcast(&io->pcond);
            return;
        }
    }
    struct io_request *q = io->requests;
    while (q && q->id != m->id)
        q = q->next;
    if (!q)
        return; /* PRIV_KILL, or nobody waits any more */
    const struct ctl_fail *f = msg_body(m, sizeof *f);
    q->failed = m->type != PRIV_DONE;
    const struct priv_spawned *done = msg_body(m, sizeof *done);
    if (q->failed && f)
        q->fail = *f;
    if (!q->failed && done)
        q->slot = done->slot;
    q->pidfd = msg_take_fd(m, 0);
    q->tap = msg_take_fd(m, 1);
    q->done = true;
    pthread_cond_broadcast(&io->pcond);
}

static void on_parent(struct fleet_io *io)
{
    pthread_mutex_lock(&io->plock);
    int r = msg_recv(io->parent, &io->msg, NULL);
    if (r == 0) {
        on_parent_answer(io);
        msg_close_fds(&io->msg);
    } else {
        io->parent_gone = true;
        unwatch(io, io->parent);
        pthread_cond_broadcast(&io->pcond);
    }
    pthread_mutex_unlock(&io->plock);
    if (r < 0 && io->lost_parent)
        io->lost_parent(io->ctx);
}

int fleet_io_slot(struct fleet_io *io, uint32_t *ret, struct err *e)
{
    int r = -ENOSPC;
    pthread_mutex_lock(&io->plock);
    for (uint32_t i = 0; i < PRIV_SLOTS && r < 0; i++) {
        uint32_t s = (io->hint + i) % PRIV_SLOTS;
        if (io->slots[s] == SLOT_FREE) {
            io->slots[s] = SLOT_USED;
            io->hint = s + 1; /* an address is not given again at once */
            *ret = s;
            r = 0;
        }
    }
    pthread_mutex_unlock(&io->plock);
    return r < 0 ? err_set(e, ENOSPC, "no capacity: all %u places are taken", PRIV_SLOTS) : 0;
}

unsigned fleet_io_slots_used(struct fleet_io *io)
{
    unsigned n = 0;
    pthread_mutex_lock(&io->plock);
    for (uint32_t s = 0; s < PRIV_SLOTS; s++)
        n += io->slots[s] != SLOT_FREE;
    pthread_mutex_unlock(&io->plock);
    return n;
}

void fleet_io_slot_free(struct fleet_io *io, uint32_t slot)
{
    pthread_mutex_lock(&io->plock);
    io->slots[slot] = SLOT_FREE;
    pthread_mutex_unlock(&io->plock);
}

static int request_begin(struct fleet_io *io, struct io_request *q, uint32_t type,
                         const void *body, size_t len, const int *fds, size_t nfds,
                         struct err *e)
{
    *q = (struct io_request){.pidfd = -1, .tap = -1, .slot = PRIV_SLOTS};
    pthread_mutex_lock(&io->plock);
    q->id = ++io->next_id;
    int r = io->parent_gone ? err_set(e, EPIPE, "the privileged parent is gone")
                            : msg_send(io->parent, type, q->id, body, len, fds, nfds, e);
    if (r == 0) {
        q->next = io->requests;
        io->requests = q;
    }
    pthread_mutex_unlock(&io->plock);
    return r;
}

static int request_end(struct fleet_io *io, struct io_request *q, struct err *e)
{
    uint64_t deadline = deadline_ms(PARENT_LIMIT_MS);
    struct timespec ts = {.tv_sec = (time_t)(deadline / NS_PER_S),
                          .tv_nsec = (long)(deadline % NS_PER_S)};
    int wait = 0;
    pthread_mutex_lock(&io->plock);
    while (!q->done && !io->parent_gone && wait == 0)
        wait = pthread_cond_timedwait(&io->pcond, &io->plock, &ts);
    struct io_request **at = &io->requests;
    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    pthread_mutex_unlock(&io->plock);
    if (!q->done)
        return err_set(e, ETIMEDOUT, "the privileged parent does not answer");
    if (!q->failed)
        return 0;
    int r = err_set(e, q->fail.num > 0 ? q->fail.num : EIO, "%.*s", (int)sizeof q->fail.msg - 1,
                    q->fail.msg);
    if (q->fail.hint[0])
        err_hint(e, "%.*s", (int)sizeof q->fail.hint - 1, q->fail.hint);
    return r;
}

int fleet_io_spawn(struct fleet_io *io, const struct priv_spawn *s, int ctl, int *ret_pidfd,
                   int *ret_tap, struct err *e)
{
    struct io_request q;
    int r = request_begin(io, &q, PRIV_SPAWN, s, sizeof *s, &ctl, 1, e);
    if (r == 0)
        r = request_end(io, &q, e);
    *ret_pidfd = q.pidfd;
    *ret_tap = q.tap;
    return r;
}

int fleet_io_adopt(struct fleet_io *io, uint32_t from, uint32_t *ret_slot, int *ret_pidfd,
                   int *ret_ctl, struct err *e)
{
    const struct priv_slot b = {.slot = from};
    struct io_request q;
    int r = request_begin(io, &q, PRIV_ADOPT, &b, sizeof b, NULL, 0, e);
    if (r == 0)
        r = request_end(io, &q, e);
    if (r < 0)
        return r;
    *ret_slot = q.slot;
    *ret_pidfd = q.pidfd;
    *ret_ctl = q.tap;
    if (q.slot < PRIV_SLOTS) {
        pthread_mutex_lock(&io->plock);
        io->slots[q.slot] = SLOT_USED;
        pthread_mutex_unlock(&io->plock);
    }
    return 0;
}

int fleet_io_address_begin(struct fleet_io *io, struct io_request *q, uint32_t slot,
                           uint32_t ip, struct err *e)
{
    const struct priv_address a = {.slot = slot, .ip = ip};
    return request_begin(io, q, PRIV_ADDRESS, &a, sizeof a, NULL, 0, e);
}

int fleet_io_address_end(struct fleet_io *io, struct io_request *q, struct err *e)
{
    return request_end(io, q, e);
}

int fleet_io_file(struct fleet_io *io, uint32_t which, int *ret_fd, struct err *e)
{
    const struct priv_file b = {.which = which};
    struct io_request q;
    int r = request_begin(io, &q, PRIV_FILE, &b, sizeof b, NULL, 0, e);
    if (r == 0)
        r = request_end(io, &q, e);
    if (r == 0 && q.pidfd < 0)
        r = err_set(e, EPROTO, "the privileged parent sent no file");
    *ret_fd = q.pidfd;
    return r;
}

void fleet_io_release(struct fleet_io *io, uint32_t slot)
{
    const struct priv_slot b = {.slot = slot};
    pthread_mutex_lock(&io->plock);
    io->slots[slot] = SLOT_RELEASING;
    io->release_id[slot] = ++io->next_id;
    msg_send(io->parent, PRIV_RELEASE, io->next_id, &b, sizeof b, NULL, 0, NULL);
    pthread_mutex_unlock(&io->plock);
}

void fleet_io_await_free(struct fleet_io *io, uint32_t slot, uint64_t deadline)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline / NS_PER_S),
                          .tv_nsec = (long)(deadline % NS_PER_S)};
    int wait = 0;
    pthread_mutex_lock(&io->plock);
    while (slot < PRIV_SLOTS && io->slots[slot] == SLOT_RELEASING && !io->parent_gone &&
           wait == 0)
        wait = pthread_cond_timedwait(&io->pcond, &io->plock, &ts);
    pthread_mutex_unlock(&io->plock);
}

void fleet_io_kill(struct fleet_io *io, uint32_t slot)
{
    const struct priv_slot b = {.slot = slot};
    pthread_mutex_lock(&io->plock);
    if (io->slots[slot] == SLOT_USED)
        msg_send(io->parent, PRIV_KILL, ++io->next_id, &b, sizeof b, NULL, 0, NULL);
    pthread_mutex_unlock(&io->plock);
}

/* ---- the thread ---- */

static void on_event(struct fleet_io *io, uint64_t tag)
{
    enum kind kind = tag & 7;
    uint32_t slot = (uint32_t)tag >> 3;
    if (kind == KIND_PARENT || kind == KIND_WAKE || slot >= PRIV_SLOTS)
        return;
    struct vmm *v = io->table[slot];
    if (!v || io->generation[slot] != (uint32_t)(tag >> 32))
        return;
    if (kind == KIND_CTL && !v->dead) {
        vmm_on_ctl(v);
        if (v->dead)
            unwatch(io, v->ctl);
    } else if (kind == KIND_LINK && v->link.fd >= 0) {
        vmm_on_link(v);
    } else if (kind == KIND_LOG && v->log.fd >= 0) {
        vmm_on_log(v);
    }
}

static void *io_main(void *arg)
{
    struct fleet_io *io = arg;
    struct epoll_event ev[BATCH];
    for (;;) {
        int n = epoll_wait(io->ep, ev, BATCH, -1);
        bool parent = false, stop = false;
        pthread_mutex_lock(&io->lock);
        for (int i = 0; i < n; i++) {
            parent |= (ev[i].data.u64 & 7) == KIND_PARENT;
            stop |= (ev[i].data.u64 & 7) == KIND_WAKE;
            on_event(io, ev[i].data.u64);
        }
        pthread_mutex_unlock(&io->lock);
        if (parent)
            on_parent(io);
        if (stop)
            return NULL;
    }
}

int fleet_io_open(struct fleet_io **ret, int parent_sock, void (*lost_parent)(void *ctx),
                  void *ctx, struct err *e)
{
    struct fleet_io *io = calloc(1, sizeof *io);
    if (!io)
        return err_sys(e, ENOMEM, "start the fleet");
    io->parent = parent_sock;
    io->lost_parent = lost_parent;
    io->ctx = ctx;
    pthread_mutex_init(&io->lock, NULL);
    pthread_mutex_init(&io->plock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&io->pcond, &attr);
    pthread_condattr_destroy(&attr);
    io->ep = epoll_create1(EPOLL_CLOEXEC);
    io->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ep = {.events = EPOLLIN, .data.u64 = KIND_PARENT};
    struct epoll_event ew = {.events = EPOLLIN, .data.u64 = KIND_WAKE};
    int r = 0;
    if (io->ep < 0 || io->wake < 0 || epoll_ctl(io->ep, EPOLL_CTL_ADD, parent_sock, &ep) < 0 ||
        epoll_ctl(io->ep, EPOLL_CTL_ADD, io->wake, &ew) < 0)
        r = err_sys(e, errno, "start the fleet's I/O thread");
    if (r == 0 && (r = -pthread_create(&io->thread, NULL, io_main, io)) < 0)
        r = err_sys(e, -r, "start the fleet's I/O thread");
    io->started = r == 0;
    if (r < 0) {
        fleet_io_close(io);
        return r;
    }
    *ret = io;
    return 0;
}

void fleet_io_close(struct fleet_io *io)
{
    if (!io)
        return;
    uint64_t one = 1;
    if (io->started && write(io->wake, &one, sizeof one) == sizeof one)
        pthread_join(io->thread, NULL);
    if (io->ep >= 0)
        close(io->ep);
    if (io->wake >= 0)
        close(io->wake);
    pthread_cond_destroy(&io->pcond);
    pthread_mutex_destroy(&io->plock);
    pthread_mutex_destroy(&io->lock);
    free(io);
}
