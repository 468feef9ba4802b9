// SPDX-License-Identifier: Apache-2.0
/* Streams with deadlines, and the plain socket kind; see conn.h. */
#include "conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"

static ssize_t plain_try_read(struct conn *c, void *data, size_t cap)
{
    for (;;) {
        ssize_t n = recv(c->fd, data, cap, 0);
        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        c->want = POLLIN;
        return -errno;
    }
}

static ssize_t plain_try_write(struct conn *c, const void *data, size_t len)
{
    for (;;) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        c->want = POLLOUT;
        return -errno;
    }
}

static bool plain_pending(struct conn *c)
{
    (void)c;
    return false;
}

static int plain_finish(struct conn *c)
{
    return shutdown(c->fd, SHUT_WR) < 0 ? -errno : 0;
}

static void plain_free(struct conn *c)
{
    (void)c;
}

static const struct conn_ops plain_ops = {
    .try_read = plain_try_read,
    .try_write = plain_try_write,
    .pending = plain_pending,
    .finish = plain_finish,
    .free = plain_free,
};

int conn_plain(struct conn **ret, int fd, struct err *e)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return err_sys(e, ENOMEM, "open a connection");
    }
    c->ops = &plain_ops;
    c->fd = fd;
    int r = fd_set_nonblock(fd, 1);
    if (r < 0) {
        conn_close(c);
        return err_sys(e, -r, "make a socket non-blocking");
    }
    *ret = c;
    return 0;
}

void conn_close(struct conn *c)
{
    if (!c)
        return;
    c->ops->free(c);
    close(c->fd);
    free(c);
}

ssize_t conn_try_read(struct conn *c, void *data, size_t cap)
{
    return c->ops->try_read(c, data, cap);
}

ssize_t conn_try_write(struct conn *c, const void *data, size_t len)
{
    return c->ops->try_write(c, data, len);
}

bool conn_pending(struct conn *c)
{
    return c->ops->pending(c);
}

void conn_finish(struct conn *c)
{
    c->ops->finish(c);
}

int64_t clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int conn_wait(struct conn *c, short events, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline - clock_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd p = {.fd = c->fd, .events = events};
        int n = poll(&p, 1, left > 3600000 ? 3600000 : (int)left);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

ssize_t conn_read(struct conn *c, void *data, size_t cap, int64_t deadline)
{
    for (;;) {
        ssize_t n = conn_try_read(c, data, cap);
        if (n != -EAGAIN)
            return n;
        int r = conn_wait(c, c->want, deadline);
        if (r < 0)
            return r;
    }
}

int conn_write(struct conn *c, const void *data, size_t len, int stall_ms)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = conn_try_write(c, p, len);
        if (n == -EAGAIN) {
            int r = conn_wait(c, c->want, clock_ms() + stall_ms);
            if (r < 0)
                return r;
            continue;
        }
        if (n < 0)
            return (int)n;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}
