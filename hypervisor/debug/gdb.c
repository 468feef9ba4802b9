// SPDX-License-Identifier: Apache-2.0
/* The GDB server's connection, and holding and releasing the guest; see gdb.h. */
#include "gdb.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../arm64_vcpu.h"
#include "../base/log.h"
#include "../base/mem.h"

enum { SIGNAL_INT = 2, SIGNAL_TRAP = 5 };

/* ---- sending ----------------------------------------------------------------------------- */

static void hang_up(struct gdb *g)
{
    if (g->fd < 0)
        return;
    close(g->fd);
    g->fd = -1;
    log_info("gdb: the debugger has left");
}

static void send_last(struct gdb *g)
{
    /* A reply is far smaller than a socket's buffer; who does not read them is dropped. */
    if (g->fd >= 0 && write(g->fd, g->last.data, g->last.len) != (ssize_t)g->last.len)
        shutdown(g->fd, SHUT_RDWR);
}

static void send_text(struct gdb *g, const void *text, size_t len)
{
    buf_reset(&g->last);
    gdb_frame(&g->last, text, len);
    send_last(g);
}

void gdb_send(struct gdb *g, const struct buf *text)
{
    send_text(g, text->data, text->len);
}

void gdb_reply(struct gdb *g, const char *text)
{
    send_text(g, text, strlen(text));
}

/* ---- holding and releasing --------------------------------------------------------------- */

static void hold_all(struct gdb *g)
{
    struct vm *vm = g->vm;
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        g->held[i] = true;
        vcpu_kick(&vm->vcpus[i]);
    }
    pthread_mutex_unlock(&vm->lock);
    g->state = GDB_STOPPING;
    gdb_kicked(g);
}

static void release(struct gdb *g)
{
    struct vm *vm = g->vm;
    /* A paused machine's counter is set when it resumes. */
    if (g->counter && vm->state == VM_RUNNING)
        regs_counter_set(&vm->vcpus[0], g->counter, NULL);
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        g->held[i] = g->plan[i] == GDB_STAY;
        g->exits[i].pending = false;
    }
    pthread_mutex_unlock(&vm->lock);
    vm_wake(vm);
    g->state = GDB_RUNNING;
}

void gdb_go(struct gdb *g)
{
    for (unsigned i = 0; i < g->vm->nvcpus; i++) {
        if (stops_apply(&g->stops, &g->vm->vcpus[i], true, g->plan[i] == GDB_STEP) < 0)
            log_warn("gdb: the debug registers of vCPU %u cannot be set", i);
    }
    release(g);
}

void gdb_detach(struct gdb *g)
{
    stops_clear(&g->stops, &g->vm->vcpus[g->current]);
    for (unsigned i = 0; i < g->vm->nvcpus; i++) {
        stops_apply(&g->stops, &g->vm->vcpus[i], false, false);
        g->plan[i] = GDB_CONTINUE;
    }
    hang_up(g);
    release(g);
}

void gdb_report(struct gdb *g)
{
    char text[64];
    const struct kvm_debug_exit_arch *x = &g->exits[g->current].why;
    bool trap = g->exits[g->current].pending;
    int n = snprintf(text, sizeof text, "T%02xthread:%x;", trap ? SIGNAL_TRAP : SIGNAL_INT,
                     g->current + 1);
    if (trap && stops_cause(&g->stops, &g->vm->vcpus[g->current], x) == CAUSE_WATCHPOINT)
        snprintf(text + n, sizeof text - (size_t)n, "watch:%llx;", (unsigned long long)x->far);
    gdb_reply(g, text);
}

/* All vCPUs are parked. Is there something to tell? */
static void all_stopped(struct gdb *g)
{
    struct vm *vm = g->vm;
    bool found = false;
    g->state = GDB_STOPPED;
    if (regs_counter_get(&vm->vcpus[0], &g->counter, NULL) < 0)
        g->counter = 0;
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *v = &vm->vcpus[i];
        if (!g->exits[i].pending)
            continue;
        if (stops_cause(&g->stops, v, &g->exits[i].why) == CAUSE_GUESTS_OWN) {
            stops_hand_back(v, &g->exits[i].why);
            g->exits[i].pending = false;
        } else if (!found) {
            g->current = i;
            found = true;
        }
    }
    if (g->fd < 0)
        gdb_detach(g);
    else if (g->attaching) /* it asks for the reason itself */
        ring_poll(vm->ring, &g->reading, g->fd, POLLIN);
    else if (found || g->interrupted)
        gdb_report(g);
    else
        gdb_go(g);
    g->attaching = g->interrupted = false;
}

void gdb_vcpu_exit(struct gdb *g, struct vcpu *v)
{
    pthread_mutex_lock(&v->vm->lock);
    g->exits[v->index].pending = true;
    g->exits[v->index].why = v->run->debug.arch;
    g->held[v->index] = true;
    v->run->immediate_exit = 1; /* out of its loop, to park */
    pthread_mutex_unlock(&v->vm->lock);
    ring_kick(v->vm->ring);
}

void gdb_kicked(struct gdb *g)
{
    struct vm *vm = g->vm;
    bool exited = false;
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        exited |= g->exits[i].pending;
    bool parked = vm->nparked == vm->nvcpus;
    pthread_mutex_unlock(&vm->lock);
    if (g->state == GDB_RUNNING && exited)
        hold_all(g);
    else if (g->state == GDB_STOPPING && parked)
        all_stopped(g);
}

void gdb_ended(struct gdb *g)
{
    uint32_t r = g->vm->end.reason;
    if (g->fd >= 0)
        gdb_reply(g, r == CTL_EXIT_POWEROFF || r == CTL_EXIT_STOPPED ? "W00" : "W01");
}

/* ---- the connection ---------------------------------------------------------------------- */

static void got(struct gdb *g, enum gdb_event event)
{
    switch (event) {
    case GDB_PACKET:
        if (!g->no_ack && write(g->fd, "+", 1) != 1)
            shutdown(g->fd, SHUT_RDWR);
        if (g->state == GDB_STOPPED)
            gdb_command(g, g->in.text, g->in.len);
        break;
    case GDB_INTERRUPT:
        g->interrupted = true;
        if (g->state == GDB_RUNNING)
            hold_all(g);
        break;
    case GDB_REJECTED:
        if (!g->no_ack && write(g->fd, "-", 1) != 1)
            shutdown(g->fd, SHUT_RDWR);
        break;
    case GDB_RESEND:
        send_last(g);
        break;
    case GDB_NOTHING:
        break;
    }
}

static void readable(struct ring_op *op, int res)
{
    struct gdb *g = container_of(op, struct gdb, reading);
    uint8_t data[1024];
    ssize_t n = res < 0 ? 0 : read(g->fd, data, sizeof data);
    for (ssize_t i = 0; i < n && g->fd >= 0; i++)
        got(g, gdb_feed(&g->in, data[i]));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        hang_up(g);
        if (g->state == GDB_STOPPED)
            gdb_detach(g);
        else
            hold_all(g); /* and detach then */
    }
    if (g->fd >= 0)
        ring_poll(g->vm->ring, &g->reading, g->fd, POLLIN);
}

static void accept_one(struct ring_op *op, int res)
{
    struct gdb *g = container_of(op, struct gdb, listening);
    int fd = res < 0 ? -1 : accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && g->fd >= 0) {
        close(fd); /* one at a time */
    } else if (fd >= 0) {
        log_info("gdb: a debugger has come");
        g->fd = fd;
        g->in.state = GDB_OUTSIDE;
        g->no_ack = false;
        g->current = 0;
        g->attaching = true;
        hold_all(g);
    }
    ring_poll(g->vm->ring, &g->listening, g->listen_fd, POLLIN);
}

/* PORT, ADDRESS:PORT or a path; the length of the address, 0: none of these. */
static socklen_t parse_where(const char *where, size_t len, struct sockaddr_storage *ret)
{
    struct sockaddr_un *un = (struct sockaddr_un *)ret;
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    const char *colon = memchr(where, ':', len), *port = colon ? colon + 1 : where;
    char host[16] = "127.0.0.1";
    uint64_t n;
    memset(ret, 0, sizeof *ret);
    if (memchr(where, '/', len)) {
        if (len >= sizeof un->sun_path)
            return 0;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, where, len);
        unlink(un->sun_path); /* of an earlier machine */
        return sizeof *un;
    }
    if (colon && (size_t)(colon - where) < sizeof host)
        snprintf(host, sizeof host, "%.*s", (int)(colon - where), where);
    if (!parse_u64n(port, len - (size_t)(port - where), 1, UINT16_MAX, &n) ||
        inet_pton(AF_INET, host, &in->sin_addr) != 1)
        return 0;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)n);
    return sizeof *in;
}

int gdb_open(struct gdb **ret, struct vm *vm, const char *where, struct err *e)
{
    static const char wait[] = ",wait";
    struct sockaddr_storage addr;
    size_t len = strlen(where), n = sizeof wait - 1;
    bool hold = len > n && strcmp(where + len - n, wait) == 0;
    socklen_t addr_len = parse_where(where, hold ? len - n : len, &addr);
    if (addr_len == 0)
        return err_set(e, EINVAL, "--gdb wants PORT, ADDRESS:PORT or a path, not '%s'", where);
    AUTO_FREE struct gdb *g = calloc(1, sizeof *g);
    if (!g)
        return err_sys(e, ENOMEM, "listen for a debugger");
    int on = 1;
    g->vm = vm;
    g->fd = -1;
    g->listening.done = accept_one;
    g->reading.done = readable;
    for (unsigned i = 0; i < CTL_VCPUS_MAX; i++) {
        g->held[i] = hold;
        g->plan[i] = GDB_CONTINUE;
    }
    g->listen_fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (g->listen_fd < 0 ||
        setsockopt(g->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(g->listen_fd, (struct sockaddr *)&addr, addr_len) < 0 ||
        listen(g->listen_fd, 1) < 0)
        return err_sys(e, errno, "listen for a debugger at '%s'", where);
    log_info("gdb: waiting for a debugger at %s", where);
    *ret = TAKE_PTR(g);
    return 0;
}

void gdb_start(struct gdb *g)
{
    ring_poll(g->vm->ring, &g->listening, g->listen_fd, POLLIN);
}
