// SPDX-License-Identifier: Apache-2.0
/* GP_FORWARD: after a GP_REPLY the stream is one TCP connection to the application. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "session.h"

/* One direction: bytes read from one end wait for the other. */
struct lane {
    int from, to;
    uint8_t *buf;
    size_t off, len;
    bool ended; /* `from` has no more, and `to` was told */
};

/* False when the connection broke. */
static bool lane_read(struct lane *l)
{
    ssize_t n = recv(l->from, l->buf, SESSION_CHUNK, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0) {
        l->ended = true;
        shutdown(l->to, SHUT_WR);
    }
    l->off = 0;
    l->len = (size_t)n;
    return true;
}

static bool lane_write(struct lane *l)
{
    ssize_t n = send(l->to, l->buf + l->off, l->len - l->off, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    l->off += (size_t)n;
    return true;
}

static bool lane_full(const struct lane *l)
{
    return l->off < l->len;
}

static void pump(struct lane lanes[2])
{
    while (!lanes[0].ended || !lanes[1].ended) {
        struct pollfd p[2];
        for (int i = 0; i < 2; i++) {
            const struct lane *in = &lanes[i], *out = &lanes[1 - i];
            short events = (short)((!in->ended && !lane_full(in) ? POLLIN : 0) |
                                   (lane_full(out) ? POLLOUT : 0));
            p[i] = (struct pollfd){.fd = events ? in->from : -1, .events = events};
        }
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < 2; i++) {
            struct lane *in = &lanes[i], *out = &lanes[1 - i];
            if (p[i].revents & (POLLOUT | POLLERR) && lane_full(out) && !lane_write(out))
                return;
            if (p[i].revents & (POLLIN | POLLHUP | POLLERR) && !in->ended && !lane_full(in) &&
                !lane_read(in))
                return;
        }
    }
}

void forward_serve(struct session_env *s, const struct req *r)
{
    struct fail f = {.num = 0};
    uint32_t port;
    AUTO_CLOSE int fd = -1;
    if (!req_u32(r, GP_T_PORT, 0, &port) || port == 0 || port > 65535) {
        fail_set(&f, EINVAL, "PORT must be 1 to 65535");
    } else {
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
            fail_sys(&f, errno, "connect to port %u of the application", port);
    }
    if (session_reply(s, &f) < 0 || f.num)
        return;
    struct lane lanes[2] = {
        {.from = s->stream, .to = fd, .buf = malloc(SESSION_CHUNK)},
        {.from = fd, .to = s->stream, .buf = malloc(SESSION_CHUNK)},
    };
    if (lanes[0].buf && lanes[1].buf)
        pump(lanes);
    free(lanes[0].buf);
    free(lanes[1].buf);
}
