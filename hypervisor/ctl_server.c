// SPDX-License-Identifier: Apache-2.0
/*
 * The VMM's end of the control socket; see ctl.h and machine.h. The daemon is trusted
 * to own the machine, but every length, count and state is checked: a wrong
 * order is refused with a reason and changes nothing. One request at a time is
 * worked on; only a pause takes more than one turn of the loop.
 */
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
#include "vm_prepare.h"

/* An embryo that waits this long is one of the pool's. */
#define IDLE_NS 400000u

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
    unsigned nlate;
    bool ended;        /* the last message is on its way */
    bool greet;        /* CTL_READY waits for the end of a pause */
    uint32_t later_id; /* CTL_PAUSE or CTL_PREPARE waiting for its answer */
#ifdef DORMOUSE_DEBUG
    uint32_t debug_id;
#endif
    struct msg msg;
    struct late late[LATE_MAX];
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
    if (vm->uart)
        dev_uart_flush(vm->uart, x.console, sizeof x.console);
    if (s->later_id) {
        struct err e = ERR_INIT;
        answer(s, s->later_id, err_set(&e, ESHUTDOWN, "the machine ended: %s", x.text), &e);
        s->later_id = 0;
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

static void greet(struct ctl_server *s)
{
    struct err e = ERR_INIT;
    if (say_ready(s, &e) < 0)
        log_err(LOG_WARN, &e, "control");
}

/* What s->later_id asked for is done. */
static void on_done(struct vm *vm, void *ctx)
{
    struct ctl_server *s = ctx;
    (void)vm;
    if (s->later_id) /* else who asked is gone */
        answer(s, s->later_id, 0, NULL);
    s->later_id = 0;
    if (s->greet)
        greet(s);
    s->greet = false;
}

/* ---- orders ---------------------------------------------------------------------------- */

/* An order's work: 0: done, < 0: refused, ANSWERED: the answer was sent. Body and number of
 * descriptors are as its row in the table says. */
#define ANSWERED 1

/* The message's descriptors, in the order ctl.h gives. */
static int take_fds(struct msg *msg, const struct ctl_machine *m, struct machine_fds *fds,
                    struct err *e)
{
    bool boot = msg->type == CTL_BOOT, machine = msg->type != CTL_PREPARE;
    bool image = !boot && !(machine && m->prepared), missing = false;
    const struct {
        bool there;
        int *fd;
    } list[] = {
        {boot, &fds->kernel},
        {boot, &fds->initrd},
        {machine, &fds->console},
        {image, &fds->snapshots[0]},
        {machine && !boot && m->nmem_layers > 1, &fds->snapshots[1]},
        {image && m->has_layer, &fds->layer},
        {image && m->has_workset, &fds->workset},
        {machine && m->has_net, &fds->tap},
    };
    size_t n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
        if (list[i].there)
            missing |= (*list[i].fd = msg_take_fd(msg, n++)) < 0;
    }
    for (unsigned i = 0; machine && i < m->ndisks; i++) {
        for (unsigned k = 0; k < m->disks[i].nlayers; k++)
            missing |= (fds->layers[i][k] = msg_take_fd(msg, n++)) < 0;
    }
    if (missing || n != msg->nfds)
        return err_set(e, EBADMSG, "%u descriptors came with the order, it takes %zu",
                       msg->nfds, n);
    return 0;
}

/* CTL_BOOT, CTL_RESTORE, CTL_PREPARE: an embryo gets its machine, or a part of it. */
static int make_machine(struct ctl_server *s, const void *body, struct err *e)
{
    struct machine_hooks hooks = {.vsock_connect = vsock_connect, .ctx = s, .input_fd = -1};
    const struct ctl_machine *m = body;
    struct machine_fds fds;
    if (s->vm->state != VM_EMBRYO || s->vm->ndevs)
        return err_set(e, EBUSY, "this VMM has a machine already");
    machine_fds_init(&fds);
    int r = machine_check(m, e);
    if (r == 0)
        r = take_fds(&s->msg, m, &fds, e);
    if (r == 0 && s->msg.type == CTL_PREPARE)
        r = machine_prepare(s->vm, m, &fds, on_done, s, e);
    else if (r == 0)
        r = s->msg.type == CTL_BOOT ? machine_boot(s->vm, m, &fds, &hooks, e)
                                    : machine_restore(s->vm, m, &fds, &hooks, e);
    machine_fds_close(&fds);
    return r;
}

static int steer(struct ctl_server *s, const void *body, struct err *e)
{
    struct ctl_stats all;
    (void)body;
    switch (s->msg.type) {
    case CTL_PAUSE:
        return vm_pause(s->vm, on_done, s, e);
    case CTL_RESUME:
        return vm_resume(s->vm, e);
    case CTL_STOP:
        vm_end(s->vm, CTL_EXIT_STOPPED, -1, "stopped");
        return 0;
    default: /* CTL_STATS */
        vm_stats(s->vm, &all);
        send_msg(s, CTL_DONE, s->msg.id, &all, sizeof all);
        return ANSWERED;
    }
}

static int save(struct ctl_server *s, const void *body, struct err *e)
{
    const struct ctl_save *order = body;
    struct ctl_saved saved;
    bool layer = order->flags & CTL_SAVE_LAYER;
    if (s->msg.nfds != (layer ? 2 : 1))
        return err_set(e, EBADMSG, "a save order with %u descriptors", s->msg.nfds);
    int r = machine_save(s->vm, s->msg.fds[0], order->flags & CTL_SAVE_FULL,
                         layer ? s->msg.fds[1] : -1, &saved, e);
    if (r < 0)
        return r;
    send_msg(s, CTL_DONE, s->msg.id, &saved, sizeof saved);
    return ANSWERED;
}

static int save_layer(struct ctl_server *s, const void *body, struct err *e)
{
    return machine_save_layer(s->vm, s->msg.fds[0], body, e);
}

static int workset(struct ctl_server *s, const void *body, struct err *e)
{
    (void)body;
    return machine_workset(s->vm, s->msg.fds[0], e);
}

static int vsock_open(struct ctl_server *s, const void *body, struct err *e)
{
    const struct ctl_vsock *v = body;
    if (!s->vm->vsock)
        return err_set(e, ENODEV, "the machine has no vsock");
    return virtio_vsock_open(s->vm->vsock, v->port, msg_take_fd(&s->msg, 0), e);
}

static int balloon(struct ctl_server *s, const void *body, struct err *e)
{
    const struct ctl_balloon *b = body;
    if (!s->vm->balloon)
        return err_set(e, ENODEV, "the machine has no balloon");
    return virtio_balloon_set_target(s->vm->balloon, b->target_bytes, e);
}

static int disk_layers(struct ctl_server *s, const void *body, struct err *e)
{
    const struct ctl_disk_order *o = body;
    int fds[CTL_LAYERS_MAX];
    if (s->msg.nfds != o->nlayers)
        return err_set(e, EBADMSG, "%u layers and %u descriptors", o->nlayers, s->msg.nfds);
    if (s->vm->state != VM_PAUSED)
        return err_set(e, EBUSY, "only a paused machine can get other disk layers");
    if (o->disk >= CTL_DISKS_MAX || !s->vm->disks[o->disk])
        return err_set(e, ENODEV, "the machine has no disk %u", o->disk);
    for (uint32_t i = 0; i < o->nlayers; i++)
        fds[i] = msg_take_fd(&s->msg, i);
    return virtio_blk_layers(s->vm->disks[o->disk], fds, o->nlayers, e);
}

#ifdef DORMOUSE_DEBUG
static void tried(void *ctx, const struct ctl_debug_done *result)
{
    struct ctl_server *s = ctx;
    send_msg(s, CTL_DONE, s->debug_id, result, sizeof *result);
}

static int try_verb(struct ctl_server *s, const void *body, struct err *e)
{
    s->debug_id = s->msg.id;
    int r = debug_try(s->vm, body, tried, s, e);
    return r < 0 ? r : ANSWERED;
}
#endif

static const struct order {
    uint32_t type;
    int (*run)(struct ctl_server *s, const void *body, struct err *e);
    uint32_t len, min_fds, max_fds;
    bool later; /* done when on_done() is called, perhaps by run() itself */
} orders[] = {
    {CTL_BOOT, make_machine, sizeof(struct ctl_machine), 0, MSG_FDS_MAX, false},
    {CTL_RESTORE, make_machine, sizeof(struct ctl_machine), 0, MSG_FDS_MAX, false},
    {CTL_PREPARE, make_machine, sizeof(struct ctl_machine), 0, MSG_FDS_MAX, true},
    {CTL_PAUSE, steer, 0, 0, 0, true},
    {CTL_RESUME, steer, 0, 0, 0, false},
    {CTL_STOP, steer, 0, 0, 0, false},
    {CTL_STATS, steer, 0, 0, 0, false},
    {CTL_SAVE, save, sizeof(struct ctl_save), 1, 2, false},
    {CTL_LAYER, save_layer, sizeof(struct ctl_layer), 1, 1, false},
    {CTL_WORKSET, workset, 0, 1, 1, false},
    {CTL_VSOCK_OPEN, vsock_open, sizeof(struct ctl_vsock), 1, 1, false},
    {CTL_BALLOON, balloon, sizeof(struct ctl_balloon), 0, 0, false},
    {CTL_DISK, disk_layers, sizeof(struct ctl_disk_order), 1, CTL_LAYERS_MAX, false},
#ifdef DORMOUSE_DEBUG
    {CTL_DEBUG, try_verb, sizeof(struct ctl_debug), 0, 0, false},
#endif
};

static int work(struct ctl_server *s, const struct order *o, struct err *e)
{
    const struct msg *m = &s->msg;
    uint32_t waiting = s->later_id;
    if (m->len != o->len || m->nfds < o->min_fds || m->nfds > o->max_fds)
        return err_set(e, EBADMSG,
                       "order %u with %u bytes and %u descriptors; it has %u bytes and %u to "
                       "%u descriptors",
                       m->type, m->len, m->nfds, o->len, o->min_fds, o->max_fds);
    if (o->later)
        s->later_id = m->id;
    int r = o->run(s, m->body, e);
    if (o->later && r < 0)
        s->later_id = waiting;
    return r == 0 && o->later ? ANSWERED : r;
}

static int handle(struct ctl_server *s, struct err *e)
{
    for (unsigned i = 0; i < ARRAY_LEN(orders); i++) {
        if (orders[i].type != s->msg.type)
            continue;
        int r = work(s, &orders[i], e);
        if (r < 0 && r != -EBUSY && orders[i].run == make_machine) /* half made at best */
            vm_end(s->vm, CTL_EXIT_ERROR, -1, "%s", e->msg);
        return r;
    }
    return err_set(e, ENOTSUP, "control message %u is not supported", s->msg.type);
}

/* ---- the socket ------------------------------------------------------------------------ */

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

/* Nothing of the last connection may be answered on the next. */
static void closed(struct ctl_server *s)
{
    close(s->sock);
    s->sock = -1;
    s->nlate = 0;
    s->later_id = 0;
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
    if (s->sock >= 0)
        return;
    if (res == -ETIME)
        vm_end(s->vm, CTL_EXIT_STOPPED, -1, "no daemon came back within %u s", CTL_ALONE_S);
    else if (res == -ECANCELED) /* it left again while this was being cancelled */
        ring_timer(s->vm->ring, &s->alone, CTL_ALONE_S * 1000000000ull);
}

static void knocked(struct ring_op *op, int res)
{
    struct ctl_server *s = container_of(op, struct ctl_server, knock);
    (void)res; /* accepting tells what is wrong */
    if (s->sock < 0)
        s->sock = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s->sock < 0) {
        ring_poll(s->vm->ring, &s->knock, s->listener, POLLIN);
        return;
    }
    ring_cancel(s->vm->ring, &s->alone);
    s->greet = s->vm->state == VM_PAUSING; /* which of the two it is shows in a moment */
    if (!s->greet)
        greet(s);
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
    struct err e = ERR_INIT;
    (void)res;
    if (s->vm->state != VM_EMBRYO || s->vm->ndevs)
        return;
    vm_warm(s->vm);
    machine_warm(s->vm);
    if (!s->vm->prepared && !s->vm->gdb && machine_first_fault(s->vm, &e) < 0)
        vm_end(s->vm, CTL_EXIT_ERROR, -1, "%s", e.msg);
}

int ctl_server_start(struct vm *vm, int sock, int listener, struct err *e)
{
    struct ctl_server *s = arena_new(&vm->arena, sizeof *s);
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
