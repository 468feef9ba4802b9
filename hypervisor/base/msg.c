// SPDX-License-Identifier: Apache-2.0
/* Typed messages with descriptors; see msg.h. */
#include "msg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MSG_MAGIC 0x444d5331u /* "DMS1" */

struct wire_header {
    uint32_t magic, type, id, len;
};

int msg_pair(int ret[2], struct err *e)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0)
        return err_sys(e, errno, "make a message socket pair");
    return 0;
}

int msg_send(int sock, uint32_t type, uint32_t id, const void *body, size_t len, const int *fds,
             size_t nfds, struct err *e)
{
    if (len > MSG_BODY_MAX || nfds > MSG_FDS_MAX)
        return err_set(e, EMSGSIZE, "message %u is too large (%zu bytes, %zu fds)", type, len,
                       nfds);
    struct wire_header h = {MSG_MAGIC, type, id, (uint32_t)len};
    struct iovec iov[2] = {{&h, sizeof h}, {(void *)(uintptr_t)body, len}};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * MSG_FDS_MAX)];
    } control;
    struct msghdr mh = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
    if (nfds) {
        memset(&control, 0, sizeof control);
        mh.msg_control = control.space;
        mh.msg_controllen = (__typeof__(mh.msg_controllen))CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = (__typeof__(c->cmsg_len))CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    for (;;) {
        if (sendmsg(sock, &mh, MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return err_sys(e, errno, "send message %u", type);
    }
}

/* musl's CMSG_NXTHDR mixes signs inside. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wsign-compare"
static void collect_fds(struct msghdr *mh, struct msg *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (m->nfds < MSG_FDS_MAX)
                m->fds[m->nfds++] = fd;
            else
                close(fd);
        }
    }
}
#pragma GCC diagnostic pop

int msg_recv(int sock, struct msg *m, struct err *e)
{
    struct wire_header h;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * MSG_FDS_MAX)];
    } control;
    struct iovec iov[2] = {{&h, sizeof h}, {m->body, sizeof m->body}};
    struct msghdr mh = {.msg_iov = iov,
                        .msg_iovlen = 2,
                        .msg_control = control.space,
                        .msg_controllen = sizeof control.space};
    ssize_t n;
    m->type = m->id = m->len = m->nfds = 0;
    do {
        n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(e, errno, "receive a message");
    collect_fds(&mh, m);
    if (n == 0) {
        msg_close_fds(m);
        return err_set(e, ECONNRESET, "the peer closed the message socket");
    }
    if ((size_t)n < sizeof h || h.magic != MSG_MAGIC ||
        (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || h.len != (size_t)n - sizeof h) {
        msg_close_fds(m);
        return err_set(e, EBADMSG, "malformed message of %zd bytes", n);
    }
    m->type = h.type;
    m->id = h.id;
    m->len = h.len;
    return 0;
}

const void *msg_body(const struct msg *m, size_t size)
{
    return m->len == size ? m->body : NULL;
}

int msg_take_fd(struct msg *m, size_t i)
{
    if (i >= m->nfds)
        return -1;
    int fd = m->fds[i];
    m->fds[i] = -1;
    return fd;
}

void msg_close_fds(struct msg *m)
{
    for (size_t i = 0; i < m->nfds; i++) {
        if (m->fds[i] >= 0)
            close(m->fds[i]);
        m->fds[i] = -1;
    }
}
