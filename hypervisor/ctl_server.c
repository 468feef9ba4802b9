// SPDX-License-Identifier: Apache-2.0
/*
 * The VMM's end of the control socket; see ctl_server.h. The daemon is trusted
 * to own the machine, but every length, count and state is checked: a wrong
 * order is refused with a reason and changes nothing. One request at a time is
 * worked on; only a pause takes more than one turn of the loop.
 */
#include "ctl_server.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/msg.h"
#ifdef DORMOUSE_DEBUG
#include "debug/verbs.h"
#endif
#include "machine.h"
#include "virtio_balloon.h"
#include "virtio_blk.h"
#include "virtio_vsock.h"
#include "vm_prepare.h"

/* An embryo that waits this long is one of the pool's. */
#define IDLE_NS 1000000u

/* Answers that found the socket full: a guest that opens vsock streams faster than the daemon
 * takes them fills it. No order is read while one waits, so there are three at most: of an
 * order, of the pause before it, and the end. */
#define LATE_MAX 3u

struct late {
    uint32_t type, id;
    size_t len;
    _Alignas(8) uint8_t body[sizeof(struct ctl_exit)];
};

struct ctl_server {
    struct vm *vm;
    int sock;     /* -1: the daemon went away */
    int listener; /* where it may come back, or -1 */
    struct ring_op op, writable, knock, alone, idle;
    struct late late[LATE_MAX];
    unsigned nlate;
    bool ended;        /* the last message is on its way */
    bool greet;        /* CTL_READY waits for the end of a pause */
    uint32_t pause_id; /* CTL_PAUSE waiting for its answer */
    struct msg msg;
#ifdef DORMOUSE_DEBUG
    uint32_t debug_id;
#endif
};

static void send_msg(struct ctl_server *s, uint32_t type, uint32_t id, const void *body,
                     size_t len)
{
    struct err e = ERR_INIT;
    if (s->sock < 0)
        return;
    int r = s->nlate ? -EAGAIN : msg_send(s->sock, type, id, body, len, NULL, 0, &e);
    if (r == -EAGAIN && s->nlate < LATE_MAX && len <= sizeof s->late[0].body) {
        struct late *l = &s->late[s->nlate++];
        *l = (struct late){.type = type, .id = id, .len = len};
        if (len)
            memcpy(l->body, body, len);
        if (!s->writable.armed)
            ring_poll(s->vm->ring, &s->writable, s->sock, POLLOUT);
    } else if (r < 0) {
        log_err(LOG_WARN, &e, "control");
    }
}

static void answer(struct ctl_server *s, uint32_t id, int r, const struct err *e)
{
    if (r >= 0) {
        send_msg(s, CTL_DONE, id, NULL, 0);
        return;
    }
    struct ctl_fail f;
    memset(&f, 0, sizeof f);
    f.num = e->num ? e->num : -r;
    snprintf(f.msg, sizeof f.msg, "%s", e->msg);
    snprintf(f.hint, sizeof f.hint, "%s", e->hint);
    send_msg(s, CTL_FAIL, id, &f, sizeof f);
}

static void on_ended(struct vm *vm, void *ctx)
{
    struct ctl_server *s = ctx;
    struct ctl_exit x;
    memset(&x, 0, sizeof x);
    x.reason = vm->end.reason;
    snprintf(x.text, sizeof x.text, "%s", vm->end.text);
    if (vm->uart) {
        dev_uart_flush(vm->uart);
        dev_uart_tail(vm->uart, x.console, sizeof x.console);
    }
    if (s->pause_id) {
        struct err e = ERR_INIT;
        answer(s, s->pause_id, err_set(&e, ESHUTDOWN, "the machine ended: %s", x.text), &e);
        s->pause_id = 0;
    }
    send_msg(s, CTL_EXITED, 0, &x, sizeof x);
    s->ended = true;
    if (s->nlate == 0)
        ring_stop(vm->ring);
}

static int vsock_connect(void *ctx, uint32_t guest_port, uint32_t host_port, int fd)
{
    struct ctl_server *s = ctx;
    struct ctl_vsock v = {.port = host_port, .peer_port = guest_port};
    struct err e = ERR_INIT;
    int r = s->sock < 0 ? -ENOTCONN : msg_send(s->sock, CTL_VSOCK, 0, &v, sizeof v, &fd, 1, &e);
    close(fd);
    return r;
}

/* The message's descriptors, in the order ctl.h gives. */
struct taker {
    struct msg *m;
    size_t next;
    bool missing;
};

static int take(struct taker *t)
{
    int fd = msg_take_fd(t->m, t->next++);
    t->missing |= fd < 0;
    return fd;
}

static int take_fds(struct msg *msg, const struct ctl_machine *m, bool boot,
                    struct machine_fds *fds, struct err *e)
{
    struct taker t = {.m = msg};
    if (boot) {
        fds->kernel = take(&t);
        fds->initrd = take(&t);
    }
    fds->console = take(&t);
    for (unsigned i = m->prepared ? 1 : 0; !boot && i < MIN(m->nmem_layers, 2u); i++)
        fds->snapshots[i] = take(&t);
    if (!boot && !m->prepared && m->has_layer)
        fds->layer = take(&t);
    if (!boot && !m->prepared && m->has_workset)
        fds->workset = take(&t);
    if (m->has_net)
        fds->tap = take(&t);
    for (unsigned i = 0; i < m->ndisks; i++) {
        for (unsigned k = 0; k < m->disks[i].nlayers; k++)
            fds->layers[i][k] = take(&t);
    }
    if (t.missing || t.next != msg->nfds)
        return err_set(e, EBADMSG, "%u descriptors came with the order, it takes %zu",
                       msg->nfds, t.next);
    return 0;
}

static int start_machine(struct ctl_server *s, bool boot, struct err *e)
{
    struct machine_hooks hooks = {.vsock_connect = vsock_connect, .ctx = s, .input_fd = -1};
    const struct ctl_machine *m = msg_body(&s->msg, sizeof *m);
    struct machine_fds fds;
    if (!m)
        return err_set(e, EBADMSG, "an order of %u bytes, it has %zu", s->msg.len, sizeof *m);
    if (s->vm->state != VM_EMBRYO || s->vm->ndevs)
        return err_set(e, EBUSY, "this VMM has a machine already");
    int r = machine_check(m, e);
    machine_fds_init(&fds);
    if (r == 0)
        r = take_fds(&s->msg, m, boot, &fds, e);
    if (r == 0)
        r = boot ? machine_boot(s->vm, m, &fds, &hooks, e)
                 : machine_restore(s->vm, m, &fds, &hooks, e);
    machine_fds_close(&fds);
    return r;
}

static int say_ready(struct ctl_server *s, struct err *e);
static void on_prepared(struct vm *vm, void *ctx)
{
    struct ctl_server *s = ctx;
    (void)vm;
    answer(s, s->pause_id, 0, NULL);
    s->pause_id = 0;
}

static int prepare(struct ctl_server *s, struct err *e)
{
    const struct ctl_machine *m = msg_body(&s->msg, sizeof *m);
    struct taker t = {.m = &s->msg};
    struct machine_fds fds;
    if (!m)
        return err_set(e, EBADMSG, "an order of %u bytes, it has %zu", s->msg.len, sizeof *m);
    if (s->vm->state != VM_EMBRYO || s->vm->ndevs)
        return err_set(e, EBUSY, "this VMM has a machine already");
    machine_fds_init(&fds);
    fds.snapshots[0] = take(&t);
    if (m->has_layer)
        fds.layer = take(&t);
    if (m->has_workset)
        fds.workset = take(&t);
    int r = 0;
    if (t.missing || t.next != s->msg.nfds)
        r = err_set(e, EBADMSG, "%u descriptors came with the order, it takes %zu", s->msg.nfds,
                    t.next);
    s->pause_id = s->msg.id;
    if (r == 0)
        r = machine_prepare(s->vm, m, &fds, on_prepared, s, e);
    if (r < 0)
        s->pause_id = 0;
    machine_fds_close(&fds);
    return r < 0 ? r : 1;
}

static int workset(struct ctl_server *s, struct err *e)
{
    if (s->msg.nfds != 1)
        return err_set(e, EBADMSG, "a working set order with %u descriptors", s->msg.nfds);
    return machine_workset(s->vm, s->msg.fds[0], e);
}

static void on_paused(struct vm *vm, void *ctx)
{
    struct err e = ERR_INIT;
    struct ctl_server *s = ctx;
    (void)vm;
    if (s->pause_id) /* else who asked is gone */
        answer(s, s->pause_id, 0, NULL);
    s->pause_id = 0;
    if (s->greet && say_ready(s, &e) < 0)
        log_err(LOG_WARN, &e, "control");
    s->greet = false;
}

static int save(struct ctl_server *s, uint32_t id, struct err *e)
{
    const struct ctl_save *order = msg_body(&s->msg, sizeof *order);
    struct ctl_saved saved;
    bool layer = order && order->flags & CTL_SAVE_LAYER;
    if (!order || s->msg.nfds != (layer ? 2 : 1))
        return err_set(e, EBADMSG, "a save order with %u bytes and %u descriptors", s->msg.len,
                       s->msg.nfds);
    int r = machine_save(s->vm, s->msg.fds[0], order->flags & CTL_SAVE_FULL,
                         layer ? s->msg.fds[1] : -1, &saved, e);
    if (r == 0)
        send_msg(s, CTL_DONE, id, &saved, sizeof saved);
    return r < 0 ? r : 1;
}

static int save_layer(struct ctl_server *s, struct err *e)
{
    const struct ctl_layer *l = msg_body(&s->msg, sizeof *l);
    if (!l || s->msg.nfds != 1)
        return err_set(e, EBADMSG, "a layer order with %u bytes and %u descriptors", s->msg.len,
                       s->msg.nfds);
    return machine_save_layer(s->vm, s->msg.fds[0], l, e);
}

static int vsock_open(struct ctl_server *s, struct err *e)
{
    const struct ctl_vsock *v = msg_body(&s->msg, sizeof *v);
    if (!v || s->msg.nfds != 1)
        return err_set(e, EBADMSG, "a connect order with %u bytes and %u descriptors",
                       s->msg.len, s->msg.nfds);
    if (!s->vm->vsock)
        return err_set(e, ENODEV, "the machine has no vsock");
    return virtio_vsock_open(s->vm->vsock, v->port, msg_take_fd(&s->msg, 0), e);
}

static int balloon(struct ctl_server *s, struct err *e)
{
    const struct ctl_balloon *b = msg_body(&s->msg, sizeof *b);
    if (!b)
        return err_set(e, EBADMSG, "a balloon order with %u bytes", s->msg.len);
    if (!s->vm->balloon)
        return err_set(e, ENODEV, "the machine has no balloon");
    return virtio_balloon_set_target(s->vm->balloon, b->target_bytes, e);
}

static int disk_layers(struct ctl_server *s, struct err *e)
{
    const struct ctl_disk_order *o = msg_body(&s->msg, sizeof *o);
    int fds[CTL_LAYERS_MAX];
    if (!o || o->nlayers < 1 || o->nlayers > CTL_LAYERS_MAX || s->msg.nfds != o->nlayers)
        return err_set(e, EBADMSG, "a layers order with %u bytes and %u descriptors",
                       s->msg.len, s->msg.nfds);
    if (s->vm->state != VM_PAUSED)
        return err_set(e, EBUSY, "only a paused machine can get other disk layers");
    if (o->disk >= CTL_DISKS_MAX || !s->vm->disks[o->disk])
        return err_set(e, ENODEV, "the machine has no disk %u", o->disk);
    for (uint32_t i = 0; i < o->nlayers; i++)
        fds[i] = msg_take_fd(&s->msg, i);
    return virtio_blk_layers(s->vm->disks[o->disk], fds, o->nlayers, e);
}

/* 0: answer CTL_DONE now; 1: answered, or will be; < 0: CTL_FAIL. */
#ifdef DORMOUSE_DEBUG
static void tried(void *ctx, const struct ctl_debug_done *result)
{
    struct ctl_server *s = ctx;
    send_msg(s, CTL_DONE, s->debug_id, result, sizeof *result);
}
#endif

static int handle(struct ctl_server *s, struct err *e)
{
    struct vm *vm = s->vm;
    uint32_t id = s->msg.id;
    struct ctl_stats stats;
    int r;
    switch (s->msg.type) {
    case CTL_BOOT:
    case CTL_RESTORE:
        r = start_machine(s, s->msg.type == CTL_BOOT, e);
        if (r < 0 && r != -EBUSY)
            vm_end(vm, CTL_EXIT_ERROR, -1, "%s", e->msg);
        return r;
    case CTL_PREPARE:
        r = prepare(s, e);
        if (r < 0 && r != -EBUSY)
            vm_end(vm, CTL_EXIT_ERROR, -1, "%s", e->msg);
        return r;
    case CTL_WORKSET:
        return workset(s, e);
    case CTL_PAUSE:
        s->pause_id = id;
        r = vm_pause(vm, on_paused, s, e);
        if (r < 0)
            s->pause_id = 0;
        return r < 0 ? r : 1;
    case CTL_RESUME:
        return vm_resume(vm, e);
    case CTL_SAVE:
        return save(s, id, e);
    case CTL_LAYER:
        return save_layer(s, e);
    case CTL_STOP:
        vm_end(vm, CTL_EXIT_STOPPED, -1, "stopped");
        return 0;
    case CTL_STATS:
        vm_stats(vm, &stats);
        send_msg(s, CTL_DONE, id, &stats, sizeof stats);
        return 1;
    case CTL_VSOCK_OPEN:
        return vsock_open(s, e);
    case CTL_BALLOON:
        return balloon(s, e);
    case CTL_DISK:
        return disk_layers(s, e);
#ifdef DORMOUSE_DEBUG
    case CTL_DEBUG:
        s->debug_id = id;
        if (!msg_body(&s->msg, sizeof(struct ctl_debug)))
            return err_set(e, EBADMSG, "a debug order of %u bytes", s->msg.len);
        r = debug_try(vm, msg_body(&s->msg, sizeof(struct ctl_debug)), tried, s, e);
        return r < 0 ? r : 1;
#endif
    default:
        return err_set(e, ENOTSUP, "control message %u is not supported", s->msg.type);
    }
}

static void listen_on(struct ctl_server *s)
{
    if (s->sock >= 0 && !s->nlate && !s->op.armed)
        ring_poll(s->vm->ring, &s->op, s->sock, POLLIN);
}

static void writable(struct ring_op *op, int res)
{
    struct ctl_server *s = container_of(op, struct ctl_server, writable);
    struct err e = ERR_INIT;
    unsigned n = 0;
    (void)res; /* sending tells what is wrong */
    while (n < s->nlate && s->sock >= 0) {
        const struct late *l = &s->late[n];
        int r = msg_send(s->sock, l->type, l->id, l->body, l->len, NULL, 0, &e);
        if (r == -EAGAIN)
            break;
        if (r < 0)
            log_err(LOG_WARN, &e, "control");
        n++;
    }
    if (s->sock < 0)
        n = s->nlate;
    s->nlate -= n;
    memmove(s->late, s->late + n, s->nlate * sizeof s->late[0]);
    if (s->nlate)
        ring_poll(s->vm->ring, &s->writable, s->sock, POLLOUT);
    else if (s->ended)
        ring_stop(s->vm->ring);
    else
        listen_on(s);
}

static int say_ready(struct ctl_server *s, struct err *e)
{
    const struct vm *vm = s->vm;
    struct ctl_ready ready = {.version = CTL_VERSION,
                              .vcpus = vm->nvcpus,
                              .gic = vm->gic,
                              .state = vm->state == VM_EMBRYO    ? CTL_EMBRYO
                                       : vm->state == VM_RUNNING ? CTL_RUNNING
                                                                 : CTL_PAUSED};
    return msg_send(s->sock, CTL_READY, 0, &ready, sizeof ready, NULL, 0, e);
}

/* Nothing of the last connection may be answered on the next. */
static void closed(struct ctl_server *s)
{
    close(s->sock);
    s->sock = -1;
    s->nlate = 0;
    s->pause_id = 0;
    s->greet = false;
    if (s->ended || s->vm->state == VM_EMBRYO) {
        ring_stop(s->vm->ring);
    } else if (s->listener >= 0) {
        if (!s->knock.armed)
            ring_poll(s->vm->ring, &s->knock, s->listener, POLLIN);
        if (!s->alone.armed)
            ring_timer(s->vm->ring, &s->alone, CTL_ALONE_S * 1000000000ull);
    }
}

static void left_alone(struct ring_op *op, int res)
{
    struct ctl_server *s = container_of(op, struct ctl_server, alone);
    if (res == -ETIME && s->sock < 0)
        vm_end(s->vm, CTL_EXIT_STOPPED, -1, "no daemon came back within %u s", CTL_ALONE_S);
    else if (res == -ECANCELED &&
             s->sock < 0) /* it left again while this was being cancelled */
        ring_timer(s->vm->ring, &s->alone, CTL_ALONE_S * 1000000000ull);
}

static void knocked(struct ring_op *op, int res)
{
    struct ctl_server *s = container_of(op, struct ctl_server, knock);
    struct err e = ERR_INIT;
    (void)res; /* accepting tells what is wrong */
    if (s->sock < 0)
        s->sock = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s->sock < 0) {
        ring_poll(s->vm->ring, &s->knock, s->listener, POLLIN);
        return;
    }
    ring_cancel(s->vm->ring, &s->alone);
    s->greet = s->vm->state == VM_PAUSING; /* which of the two it is shows in a moment */
    if (!s->greet && say_ready(s, &e) < 0)
        log_err(LOG_WARN, &e, "control");
    listen_on(s); /* tells also when it is closed again */
}

static void readable(struct ring_op *op, int res)
{
    struct ctl_server *s = container_of(op, struct ctl_server, op);
    struct err e = ERR_INIT;
    int r = res < 0 ? res : msg_recv(s->sock, &s->msg, &e);
    if (r == -EAGAIN) {
        listen_on(s);
        return;
    }
    if (r < 0) {
        if (r != -ECONNRESET)
            log_err(LOG_ERROR, &e, "control");
        closed(s);
        return;
    }
    uint32_t id = s->msg.id;
    r = handle(s, &e);
    if (r <= 0 && id)
        answer(s, id, r, &e);
    msg_close_fds(&s->msg);
    listen_on(s);
}

/* Nobody wanted the embryo at once: time to get warm. */
static void idle(struct ring_op *op, int res)
{
    struct ctl_server *s = container_of(op, struct ctl_server, idle);
    (void)res;
    if (s->vm->state == VM_EMBRYO && s->vm->ndevs == 0)
        vm_warm(s->vm);
}

int ctl_server_start(struct vm *vm, int sock, int listener, struct err *e)
{
    struct ctl_server *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "listen for orders");
    s->vm = vm;
    s->sock = sock;
    s->listener = listener;
    s->op.done = readable;
    s->writable.done = writable;
    s->knock.done = knocked;
    s->alone.done = left_alone;
    s->idle.done = idle;
    fd_set_nonblock(sock, 1);
    if (listener >= 0)
        fd_set_nonblock(listener, 1);
    vm->on_ended = on_ended;
    vm->ended_ctx = s;
    listen_on(s);
    ring_timer(vm->ring, &s->idle, IDLE_NS);
    int r = say_ready(s, e);
    return r < 0 ? err_hint(e, "dormoused starts it this way; by hand use --run or --restore")
                 : 0;
}
