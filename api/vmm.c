// SPDX-License-Identifier: Apache-2.0
/* One dormouse-vmm process; see vmm.h. */
#include "vmm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "fleet_io.h"

#define READY_LIMIT_MS 20000
#define LINK_GONE_MS   500
#define SEND_LIMIT_S   5 /* a process that does not read its control socket */

static void say_reason(struct vmm *v, const char *text)
{
    if (!v->reason[0])
        snprintf(v->reason, sizeof v->reason, "%s", text);
}

static void lost(struct vmm *v)
{
    if (v->attached && v->on_lost)
        v->on_lost(v->ctx);
}

static void died(struct vmm *v)
{
    if (v->dead)
        return;
    say_reason(v, "The microVM's process ended unexpectedly");
    v->dead = true;
    lost(v);
}

/* ---- messages of the VMM ---- */

static void on_exited(struct vmm *v)
{
    const struct ctl_exit *x = msg_body(&v->msg, sizeof *x);
    char text[300];
    if (x && !v->app_ended) {
        snprintf(text, sizeof text, "%s%s%.*s",
                 x->reason == CTL_EXIT_POWEROFF      ? "The guest powered off"
                 : x->reason == CTL_EXIT_RESET       ? "The guest restarted"
                 : x->reason == CTL_EXIT_GUEST_FAULT ? "The guest failed"
                                                     : "The microVM ended",
                 x->text[0] ? ": " : "", (int)strnlen(x->text, sizeof x->text), x->text);
        say_reason(v, text);
    }
    died(v);
}

static void on_stream(struct vmm *v)
{
    const struct ctl_vsock *s = msg_body(&v->msg, sizeof *s);
    int fd = s ? msg_take_fd(&v->msg, 0) : -1;
    if (fd < 0)
        return;
    struct glink *g = s->port == GP_PORT_CONTROL ? &v->link
                      : s->port == GP_PORT_LOG   ? &v->log
                                                 : NULL;
    /* Nobody listens on other ports of the host, and an application must not take over the
     * streams of its init. */
    if (!g || g->fd >= 0) {
        close(fd);
        return;
    }
    if (v->attached)
        fleet_io_stream(v->io, v, g, fd);
    else
        glink_open(g, fd);
}

static void on_answer(struct vmm *v)
{
    pthread_mutex_lock(&v->lock);
    struct vmm_call *c = v->calls;
    while (c && c->id != v->msg.id)
        c = c->next;
    if (c) {
        const struct ctl_fail *f = msg_body(&v->msg, sizeof *f);
        const struct ctl_saved *s = msg_body(&v->msg, sizeof *s);
        if (v->msg.type == CTL_FAIL) {
            int num = f && f->num > 0 ? f->num : EIO;
            err_set(&c->why, num, "%.*s", f ? (int)strnlen(f->msg, sizeof f->msg) : 7,
                    f ? f->msg : "failed");
            if (f && f->hint[0])
                err_hint(&c->why, "%.*s", (int)strnlen(f->hint, sizeof f->hint), f->hint);
            c->num = num;
        } else if (s) {
            c->saved = *s;
        }
        c->done = true;
        pthread_cond_broadcast(&v->cond);
    }
    pthread_mutex_unlock(&v->lock);
}

void vmm_on_ctl(struct vmm *v)
{
    int r = msg_recv(v->ctl, &v->msg, NULL);
    if (r < 0) {
        died(v);
        return;
    }
    switch (v->msg.type) {
    case CTL_READY: {
        const struct ctl_ready *ready = msg_body(&v->msg, sizeof *ready);
        if (ready && ready->version == CTL_VERSION && ready->vcpus == v->vcpus) {
            v->ready = true;
            v->machine = ready->state;
        } else {
            say_reason(v, "The microVM's process is of another version of Dormouse");
            died(v);
        }
        break;
    }
    case CTL_DONE:
    case CTL_FAIL:
        on_answer(v);
        break;
    case CTL_VSOCK:
        on_stream(v);
        break;
    case CTL_EXITED:
        on_exited(v);
        break;
    default:
        say_reason(v, "The microVM's process sent nonsense");
        died(v);
    }
    msg_close_fds(&v->msg);
}

/* ---- messages of the guest ---- */

static void app_ended(struct vmm *v, const struct gp_reply *r)
{
    char text[400];
    if (v->app_ended)
        return;
    if (r->oom)
        snprintf(text, sizeof text, "The main process ran out of memory");
    else if (r->signal)
        snprintf(text, sizeof text, "The main process was ended by signal %u", r->signal);
    else
        snprintf(text, sizeof text, "The main process exited with status %u", r->exit_status);
    say_reason(v, text);
    v->app_ended = true;
    lost(v);
}

static void stream_gone(struct vmm *v, struct glink *g)
{
    if (v->attached)
        fleet_io_stream(v->io, v, g, -1);
    else
        glink_close(g);
}

void vmm_on_link(struct vmm *v)
{
    int r = glink_fill(&v->link);
    if (r == -EAGAIN)
        return;
    struct gp_header h;
    const uint8_t *body;
    while (r >= 0 && (r = glink_next(&v->link, &h, &body)) > 0) {
        struct gp_reply reply;
        if (!gp_reply_parse(body, h.len, &reply)) {
            r = -EBADMSG;
        } else if (h.type == GP_HELLO) {
            v->booted = true;
        } else if (h.type == GP_EXITED) {
            app_ended(v, &reply);
        } else if (h.type == GP_REPLY && h.id != 0 && h.id == v->reply_id) {
            v->reply = reply;
            v->reply.done = true;
        }
    }
    if (r < 0) /* init connects again, or the machine is ending */
        stream_gone(v, &v->link);
}

void vmm_on_log(struct vmm *v)
{
    int r = glink_fill(&v->log);
    if (r == -EAGAIN)
        return;
    struct gp_header h;
    const uint8_t *body;
    uint64_t ack = 0;
    while (r >= 0 && (r = glink_next(&v->log, &h, &body)) > 0) {
        struct gp_line line;
        if (h.type != GP_LOG)
            continue;
        if (!gp_line_parse(body, h.len, &line)) {
            r = -EBADMSG;
            break;
        }
        ack = line.seq;
        if (line.seq <= v->last_seq)
            continue; /* sent again after a break */
        v->last_seq = line.seq;
        if (v->on_log)
            v->on_log(v->ctx, &line);
    }
    if (ack) {
        if (v->on_log)
            v->on_log(v->ctx, NULL);
        uint8_t space[16];
        struct tlv_writer w = tlv_writer_init(space, sizeof space);
        tlv_put_u64(&w, GP_T_SEQ, ack);
        /* The guest has to take this small message at once or lose its stream. */
        if (r >= 0)
            r = glink_send(&v->log, GP_LOG_ACK, 0, space, w.len, 0);
    }
    if (r < 0)
        stream_gone(v, &v->log);
}

/* ---- the owner's side ---- */

int vmm_pump(struct vmm *v, uint64_t deadline, struct err *e)
{
    if (v->dead)
        return err_set(e, ECONNRESET, "%s", v->reason);
    uint64_t now = now_ns();
    if (now >= deadline)
        return err_set(e, ETIMEDOUT, "the microVM did not answer in time");
    struct timespec ts = {.tv_sec = (time_t)((deadline - now) / NS_PER_S),
                          .tv_nsec = (long)((deadline - now) % NS_PER_S)};
    struct pollfd pf[3] = {{.fd = v->ctl, .events = POLLIN},
                           {.fd = v->log.fd, .events = POLLIN},
                           {.fd = v->link.fd, .events = POLLIN}};
    if (ppoll(pf, 3, &ts, NULL) < 0 && errno != EINTR)
        return err_sys(e, errno, "wait for the microVM");
    /* Log lines first: what was written before a reply is seen before it. A stream that is
     * replaced by a control message is not read with the old one's events. */
    if (pf[1].revents && v->log.fd == pf[1].fd)
        vmm_on_log(v);
    if (pf[2].revents && v->link.fd == pf[2].fd)
        vmm_on_link(v);
    if (pf[0].revents)
        vmm_on_ctl(v);
    return 0;
}

static void call_drop(struct vmm *v, struct vmm_call *c)
{
    struct vmm_call **at = &v->calls;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

/* While the I/O thread serves the descriptors. */
static int call_wait(struct vmm *v, struct vmm_call *c, uint64_t deadline, struct err *e)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline / NS_PER_S),
                          .tv_nsec = (long)(deadline % NS_PER_S)};
    int r = 0;
    pthread_mutex_lock(&v->lock);
    while (!c->done && r == 0)
        r = pthread_cond_timedwait(&v->cond, &v->lock, &ts);
    bool done = c->done;
    pthread_mutex_unlock(&v->lock);
    return done ? 0 : err_set(e, ETIMEDOUT, "the microVM's process does not answer");
}

int vmm_call(struct vmm *v, uint32_t type, const void *body, size_t len, const int *fds,
             size_t nfds, uint64_t deadline, struct ctl_saved *saved, struct err *e)
{
    struct vmm_call c = {.next = NULL};
    pthread_mutex_lock(&v->lock);
    c.id = ++v->next_id;
    c.next = v->calls;
    v->calls = &c;
    pthread_mutex_unlock(&v->lock);
    bool attached = v->attached;
    int r = msg_send(v->ctl, type, c.id, body, len, fds, nfds, e);
    if (r == 0 && attached)
        r = call_wait(v, &c, deadline, e);
    while (r == 0 && !attached && !c.done)
        r = vmm_pump(v, deadline, e);
    pthread_mutex_lock(&v->lock);
    call_drop(v, &c);
    pthread_mutex_unlock(&v->lock);
    if (c.done) { /* the answer counts, even when the machine ended behind it */
        r = -c.num;
        if (r < 0 && e)
            *e = c.why;
        else if (saved)
            *saved = c.saved;
    }
    return r;
}

int vmm_wait_link(struct vmm *v, bool hello, uint64_t deadline, struct err *e)
{
    int r = 0;
    while (r == 0 && (v->link.fd < 0 || (hello && !v->booted)))
        r = vmm_pump(v, deadline, e);
    return r < 0 ? err_wrap(e, "wait for the guest") : 0;
}

int vmm_guest(struct vmm *v, uint16_t type, const struct tlv_writer *body, uint64_t deadline,
              struct gp_reply *ret, struct err *e)
{
    if (body && body->bad)
        return err_set(e, E2BIG, "a request to the guest is too large");
    v->reply_id = ++v->guest_id ? v->guest_id : ++v->guest_id; /* 0 is for events */
    v->reply.done = false;
    int r = glink_send(&v->link, type, v->reply_id, body ? body->p : NULL, body ? body->len : 0,
                       deadline);
    if (r < 0)
        return err_sys(e, -r, "send a request to the guest");
    while (r == 0 && !v->reply.done) {
        if (v->link.fd < 0) /* most often the machine has ended: wait for its word */
            deadline = MIN(deadline, deadline_ms(LINK_GONE_MS));
        r = vmm_pump(v, deadline, e);
        if (r == -ETIMEDOUT && v->link.fd < 0)
            r = err_set(e, ECONNRESET, "the guest closed its control stream");
    }
    v->reply_id = 0;
    if (v->reply.done) {
        *ret = v->reply;
        return 0;
    }
    return r;
}

/* ---- life ---- */

static struct vmm *vmm_new(struct fleet_io *io, uint32_t vcpus)
{
    struct vmm *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->io = io;
    v->vcpus = vcpus;
    v->ctl = v->pidfd = v->tap = v->link.fd = v->log.fd = -1;
    pthread_mutex_init(&v->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&v->cond, &attr);
    pthread_condattr_destroy(&attr);
    return v;
}

/* A process that does not read its control socket must not hold up the caller. */
static void limit_sends(const struct vmm *v)
{
    const struct timeval limit = {.tv_sec = SEND_LIMIT_S};
    setsockopt(v->ctl, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

struct vmm *vmm_adopt(struct fleet_io *io, uint32_t slot, uint32_t vcpus, int ctl, int pidfd)
{
    struct vmm *v = vmm_new(io, vcpus);
    if (!v)
        return NULL;
    v->slot = slot;
    v->ctl = ctl;
    v->pidfd = pidfd;
    limit_sends(v);
    return v;
}

int vmm_spawn(struct fleet_io *io, uint32_t vcpus, uint64_t mem_bytes, struct vmm **ret,
              struct err *e)
{
    int pair[2];
    struct vmm *v = vmm_new(io, vcpus);
    if (!v)
        return err_sys(e, ENOMEM, "start a microVM");
    int r = fleet_io_slot(io, &v->slot, e);
    if (r < 0) {
        free(v);
        return r;
    }
    r = msg_pair(pair, e);
    if (r == 0) {
        const struct priv_spawn s = {
            .slot = v->slot, .vcpus = vcpus, .mem_bytes = mem_bytes, .want_tap = 1};
        r = fleet_io_spawn(io, &s, pair[1], &v->pidfd, &v->tap, e);
        close(pair[1]);
        v->ctl = pair[0];
        limit_sends(v);
    }
    if (r < 0) {
        fleet_io_slot_free(io, v->slot);
        v->slot = PRIV_SLOTS;
    }
    uint64_t deadline = deadline_ms(READY_LIMIT_MS);
    while (r == 0 && !v->ready)
        r = vmm_pump(v, deadline, e);
    if (r < 0) {
        vmm_free(v);
        return err_wrap(e, "start a microVM process");
    }
    *ret = v;
    return 0;
}

void vmm_free(struct vmm *v)
{
    if (!v)
        return;
    if (v->attached)
        fleet_io_detach(v->io, v);
    const int fds[] = {v->ctl, v->pidfd, v->tap};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    glink_close(&v->link);
    glink_close(&v->log);
    /* Last: the tap goes with its last descriptor, then the slot can be used again. */
    if (v->slot < PRIV_SLOTS)
        fleet_io_release(v->io, v->slot);
    pthread_cond_destroy(&v->cond);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

void vmm_kill(struct vmm *v)
{
    fleet_io_kill(v->io, v->slot);
}
