// SPDX-License-Identifier: Apache-2.0
/* See session.h. init's part: accept and fork; the child's part: read the first message. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/vm_sockets.h>

#include "init.h"

#define FD_BASE 500 /* above what init has open */

int session_read(struct session_env *s, struct req *ret)
{
    uint8_t head[GP_HEADER_SIZE];
    struct gp_header h;
    for (size_t got = 0, want = sizeof(head); got < want;) {
        ssize_t n = read(s->stream, head + got, want - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        got += (size_t)n;
    }
    if (!gp_header_get(head, &h))
        return -EBADMSG;
    if (h.len > s->body_cap) {
        uint8_t *more = realloc(s->body, h.len);
        if (!more)
            return -ENOMEM;
        s->body = more;
        s->body_cap = h.len;
    }
    for (size_t got = 0; got < h.len;) {
        ssize_t n = read(s->stream, s->body + got, h.len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        got += (size_t)n;
    }
    if (!tlv_valid(s->body, h.len))
        return -EBADMSG;
    *ret = (struct req){.type = h.type, .id = h.id, .body = s->body, .len = h.len};
    return 0;
}

int session_send(const struct session_env *s, uint16_t type, const struct tlv_writer *w)
{
    uint8_t head[GP_HEADER_SIZE];
    if (w->bad)
        return -EMSGSIZE;
    gp_header_put(head, type, 0, (uint32_t)w->len);
    int r = write_full(s->stream, head, sizeof(head));
    return r < 0 ? r : write_full(s->stream, w->p, w->len);
}

int session_reply(const struct session_env *s, const struct fail *f)
{
    struct reply rp;
    reply_init(&rp, f);
    return session_send(s, GP_REPLY, &rp.w);
}

int session_enter(const struct session_env *s, struct fail *f)
{
    if (s->app_pidfd < 0)
        return fail_set(f, ESRCH, "the application does not run");
    if (syscall(SYS_setns, s->app_pidfd, CLONE_NEWNS) < 0)
        return fail_sys(f, errno, "enter the application's file system");
    return 0;
}

static void serve(struct session_env *s)
{
    static const struct {
        uint16_t type;
        void (*fn)(struct session_env *s, const struct req *r);
    } table[] = {
        {GP_EXEC, exec_serve},           {GP_FORWARD, forward_serve},
        {GP_FILE_READ, file_read_serve}, {GP_FILE_WRITE, file_write_serve},
        {GP_FILE_LIST, file_list_serve},
    };
    struct req r;
    struct fail f;
    if (session_read(s, &r) < 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].type == r.type) {
            /* the request's fields must outlive the messages read after it */
            uint8_t *own = malloc(r.len + 1);
            if (!own)
                return;
            memcpy(own, r.body, r.len);
            r.body = own;
            table[i].fn(s, &r);
            free(own);
            return;
        }
    }
    fail_set(&f, EOPNOTSUPP, "this guest does not know stream request %u", r.type);
    session_reply(s, &f);
}

struct start {
    const struct init *in;
    int fd;
};

/* The child keeps nothing of init's but what it needs: it must not hold init's streams. */
static void child_main(void *ctx, struct fail *f)
{
    const struct start *st = ctx;
    const struct app *a = &st->in->app;
    struct session_env s = {.app_pidfd = -1, .app_pid = a->proc.pid};
    (void)f;
    prctl(PR_SET_NAME, "dormouse-stream");
    s.stream = fcntl(st->fd, F_DUPFD_CLOEXEC, FD_BASE);
    s.cgroup_dir = fcntl(st->in->freezer.exec_dir, F_DUPFD_CLOEXEC, FD_BASE);
    if (a->running)
        s.app_pidfd = fcntl(a->proc.pidfd, F_DUPFD_CLOEXEC, FD_BASE);
    syscall(SYS_close_range, 3, FD_BASE - 1, 0);
    signal(SIGPIPE, SIG_IGN);
    serve(&s);
    shutdown(s.stream, SHUT_WR);
    _exit(0);
}

static void on_gone(struct proc *p, int status)
{
    struct session *s = container_of(p, struct session, proc);
    (void)status;
    s->used = false;
}

void session_accept(struct init *in, int fd)
{
    struct session *s = NULL;
    for (size_t i = 0; i < SESSIONS_MAX && !s; i++)
        if (!in->sessions[i].used)
            s = &in->sessions[i];
    struct start st = {.in = in, .fd = fd};
    struct fail f = {.num = 0};
    boot_exec_cgroup(in);
    if (s) {
        *s = (struct session){.used = true, .proc = {.exited = on_gone}};
        if (proc_work(&in->procs, &s->proc, child_main, &st, &f) < 0)
            s->used = false;
    }
    close(fd); /* the child has it; without one the host sees the stream end */
}

static void on_connection(struct ev *ev, uint32_t events)
{
    struct init *in = container_of(ev, struct init, listener);
    struct sockaddr_vm peer;
    socklen_t len = sizeof(peer);
    (void)events;
    int fd = accept4(ev->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (peer.svm_cid != GP_HOST_CID)
        close(fd); /* the application may open vsock sockets too */
    else
        session_accept(in, fd);
}

int session_listen(struct init *in)
{
    struct sockaddr_vm self = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = GP_PORT_STREAM};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    in->listener.fn = on_connection;
    if (bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0 || listen(fd, 64) < 0 ||
        loop_add(&in->loop, &in->listener, fd, EPOLLIN) < 0) {
        int err = errno;
        close(fd);
        return -err;
    }
    return 0;
}
