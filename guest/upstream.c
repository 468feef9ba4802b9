// SPDX-License-Identifier: Apache-2.0
/*
 * Upstreams: local sockets that init forwards to servers the image declares
 * (upstream.h). While the machine runs a link is a plain relay. After a restore
 * init drops the old connection and makes a new one; the application's end
 * stays when nothing can have been lost: all it sent was acknowledged and
 * answered, or was never given to a connection. Otherwise it is reset. No byte
 * that was given to a connection is ever sent again.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "init.h"

#define SOCKET_DIR   RUN_DIR "/public/upstream"
#define CHUNK        16384u
#define PAUSE_MIN    (20u * MS)
#define PAUSE_MAX    (1000u * MS)
#define ASK_LIMIT    (1000u * MS) /* for a name server */
#define SYN_LIMIT    (5000u * MS)
#define SETTLE_LIMIT (100u * MS)

enum { DOWN, ASKING, CONNECTING, OPEN };

static void link_try(struct upstream_link *l);
static void link_pump(struct upstream_link *l);

/* Watches exactly these events; none: not at all, so that a hangup does not spin. */
static void watch(struct upstream_link *l, struct ev *ev, int fd, uint32_t events)
{
    if (events == 0 || fd < 0)
        loop_del(l->loop, ev);
    else if (ev->fd >= 0)
        loop_events(l->loop, ev, events);
    else if (loop_add(l->loop, ev, fd, events) < 0)
        complain("cannot watch an upstream");
}

static void listeners_watch(struct upstreams *u, bool on)
{
    for (size_t i = 0; i < u->nlisteners; i++) {
        struct upstream_listener *s = &u->listeners[i];
        if (!on)
            loop_del(u->loop, &s->ev);
        else if (s->ev.fd < 0 && loop_add(u->loop, &s->ev, s->fd, EPOLLIN) < 0)
            complain("cannot watch an upstream");
    }
}

static void remote_close(struct upstream_link *l)
{
    loop_del(l->loop, &l->remote);
    close_fd(&l->remote_fd);
    l->state = DOWN;
}

static void link_close(struct upstream_link *l, bool reset)
{
    /* TCP: a reset instead of an end. A unix socket with unread data does the same. */
    struct linger now = {.l_onoff = 1};
    if (reset)
        setsockopt(l->local_fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    loop_untimer(l->loop, &l->timer);
    remote_close(l);
    loop_del(l->loop, &l->local);
    close_fd(&l->local_fd);
    free(l->out.buf);
    free(l->back.buf);
    l->out.buf = l->back.buf = NULL;
    listeners_watch(l->all, true);
}

/* ---- the new connection ---- */

static void try_later(struct upstream_link *l)
{
    remote_close(l);
    if (now_ns() + l->pause_ns > l->deadline_ns) {
        link_close(l, true);
        return;
    }
    loop_timer(l->loop, &l->timer, l->pause_ns);
    l->pause_ns = l->pause_ns * 2 > PAUSE_MAX ? PAUSE_MAX : l->pause_ns * 2;
    link_pump(l);
}

static void try_soon(struct upstream_link *l)
{
    l->pause_ns = PAUSE_MIN;
    l->deadline_ns = now_ns() + l->spec->wait_s * 1000u * MS;
    loop_timer(l->loop, &l->timer, 0);
}

/* Starts a socket towards an address; what happens next is an event. */
static bool remote_open(struct upstream_link *l, int type, const uint8_t ip[4], uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    memcpy(&to.sin_addr, ip, 4);
    l->remote_fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->remote_fd < 0)
        return false;
    if (type == SOCK_STREAM)
        setsockopt(l->remote_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return connect(l->remote_fd, (struct sockaddr *)&to, sizeof(to)) == 0 ||
           errno == EINPROGRESS;
}

static void link_connect(struct upstream_link *l, const uint8_t ip[4])
{
    remote_close(l);
    if (!remote_open(l, SOCK_STREAM, ip, l->spec->port)) {
        try_later(l);
        return;
    }
    l->state = CONNECTING;
    loop_timer(l->loop, &l->timer, SYN_LIMIT);
    link_pump(l);
}

static void link_ask(struct upstream_link *l)
{
    uint8_t ask[DNS_MSG_MAX];
    const struct init *in = container_of(l->all, struct init, upstreams);
    if (in->ndns == 0 || getrandom(&l->dns_id, sizeof(l->dns_id), 0) != sizeof(l->dns_id)) {
        try_later(l);
        return;
    }
    size_t len = dns_ask(ask, l->spec->host, l->dns_id);
    if (!remote_open(l, SOCK_DGRAM, in->dns[l->turn++ % in->ndns], 53) ||
        send(l->remote_fd, ask, len, 0) < 0) {
        try_later(l);
        return;
    }
    l->state = ASKING;
    loop_timer(l->loop, &l->timer, ASK_LIMIT);
    link_pump(l);
}

static void link_try(struct upstream_link *l)
{
    uint8_t ip[4];
    remote_close(l);
    if (ipv4_parse(l->spec->host, ip))
        link_connect(l, ip);
    else
        link_ask(l);
}

static void on_timer(struct timer *t)
{
    struct upstream_link *l = container_of(t, struct upstream_link, timer);
    if (l->state == DOWN)
        link_try(l);
    else
        try_later(l);
}

static void take_answer(struct upstream_link *l)
{
    uint8_t msg[DNS_MSG_MAX], ip[4];
    ssize_t n = recv(l->remote_fd, msg, sizeof(msg), 0);
    int r = n < 0 ? -errno : dns_answer(msg, (size_t)n, l->dns_id, ip);
    if (r == 0)
        link_connect(l, ip);
    else if (r != -EBADMSG && r != -EAGAIN)
        try_later(l);
}

static void take_connection(struct upstream_link *l)
{
    int err = 0;
    socklen_t len = sizeof(err);
    if (getsockopt(l->remote_fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err != 0) {
        try_later(l);
        return;
    }
    loop_untimer(l->loop, &l->timer);
    l->state = OPEN;
    l->asked = false;
    link_pump(l);
}

/* ---- the relay ---- */

/* Reads when there is room. False when the connection broke. */
static bool lane_fill(struct upstream_lane *lane, int from)
{
    if (lane->ended || lane->len > 0)
        return true;
    if (!lane->buf && !(lane->buf = malloc(CHUNK)))
        return false;
    ssize_t n = recv(from, lane->buf, CHUNK, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    lane->ended = n == 0;
    lane->off = 0;
    lane->len = (size_t)n;
    return true;
}

static bool lane_drain(struct upstream_lane *lane, int to)
{
    if (lane->len > 0) {
        ssize_t n = send(to, lane->buf + lane->off, lane->len, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        lane->off += (size_t)n;
        lane->len -= (size_t)n;
    }
    if (lane->len == 0 && lane->ended && !lane->told) {
        lane->told = true;
        shutdown(to, SHUT_WR);
    }
    return true;
}

/* Nothing is under way that a new connection could not go on with. */
static bool is_quiet(const struct upstream_link *l)
{
    int unsent = 0;
    if (l->state != OPEN)
        return true;
    return (l->spec->oneway || !l->asked) && do_ioctl(l->remote_fd, SIOCOUTQ, &unsent) == 0 &&
           unsent == 0;
}

static void settle(struct upstreams *u, bool anyway)
{
    void (*fn)(void *) = u->settled;
    for (size_t i = 0; fn && !anyway && i < UPSTREAM_LINKS; i++)
        if (u->links[i].local_fd >= 0 && !is_quiet(&u->links[i]))
            return;
    if (!fn)
        return;
    u->settled = NULL;
    loop_untimer(u->loop, &u->limit);
    fn(u->settled_ctx);
}

static bool relay(struct upstream_link *l)
{
    bool open = l->state == OPEN;
    size_t back = l->back.len;
    if (!l->all->paused && !lane_fill(&l->out, l->local_fd))
        return false;
    if (open && l->out.len > 0)
        l->asked = true;
    if (open && (!lane_drain(&l->out, l->remote_fd) || !lane_fill(&l->back, l->remote_fd)))
        return false;
    if (l->back.len > back)
        l->asked = false;
    return lane_drain(&l->back, l->local_fd);
}

static void link_pump(struct upstream_link *l)
{
    bool broken = !relay(l), open = l->state == OPEN;
    /* the client has gone, and nothing is left to send or no connection to send it over */
    bool over = l->out.ended && (l->back.told || (!open && l->out.len == 0));
    if (broken || (over && l->out.len == 0)) {
        link_close(l, broken);
        return;
    }
    bool read_local = !l->out.ended && l->out.len == 0 && !l->all->paused;
    watch(l, &l->local, l->local_fd,
          (read_local ? EPOLLIN : 0u) | (l->back.len > 0 ? EPOLLOUT : 0u));
    uint32_t remote = l->state == CONNECTING ? EPOLLOUT : EPOLLIN;
    if (open)
        remote = (!l->back.ended && l->back.len == 0 ? EPOLLIN : 0u) |
                 (l->out.len > 0 ? EPOLLOUT : 0u);
    watch(l, &l->remote, l->remote_fd, remote);
    settle(l->all, false);
}

static void on_local(struct ev *ev, uint32_t events)
{
    (void)events;
    link_pump(container_of(ev, struct upstream_link, local));
}

static void on_remote(struct ev *ev, uint32_t events)
{
    struct upstream_link *l = container_of(ev, struct upstream_link, remote);
    (void)events;
    if (l->state == ASKING)
        take_answer(l);
    else if (l->state == CONNECTING)
        take_connection(l);
    else
        link_pump(l);
}

/* ---- local sockets ---- */

static void on_client(struct ev *ev, uint32_t events)
{
    struct upstream_listener *s = container_of(ev, struct upstream_listener, ev);
    struct upstreams *u = s->all;
    struct upstream_link *l = u->links, *end = l + UPSTREAM_LINKS;
    (void)events;
    while (l < end && l->local_fd >= 0)
        l++;
    if (l == end) { /* who connects waits until a link is free */
        listeners_watch(u, false);
        return;
    }
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    *l = (struct upstream_link){.all = u,
                                .loop = u->loop,
                                .spec = s->spec,
                                .local = {.fd = -1, .fn = on_local},
                                .remote = {.fd = -1, .fn = on_remote},
                                .timer = {.fn = on_timer},
                                .local_fd = fd,
                                .remote_fd = -1};
    try_soon(l);
}

static int listen_on(struct upstreams *u, const struct upstream_spec *spec,
                     const struct sockaddr *at, socklen_t len)
{
    int one = 1, fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    struct upstream_listener *s = &u->listeners[u->nlisteners];
    *s = (struct upstream_listener){
        .ev = {.fd = -1, .fn = on_client}, .all = u, .spec = spec, .fd = fd};
    if (bind(fd, at, len) < 0 || listen(fd, 64) < 0) {
        int err = errno;
        close(fd);
        return -err;
    }
    u->nlisteners++;
    return 0;
}

static int serve(struct upstreams *u, const struct upstream_spec *spec, struct fail *f)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in port = {.sin_family = AF_INET,
                               .sin_port = htons(spec->listen),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    mkdir(SOCKET_DIR, 0755);
    text_put(path.sun_path, sizeof(path.sun_path), SOCKET_DIR "/%s", spec->name);
    unlink(path.sun_path);
    int r = listen_on(u, spec, (struct sockaddr *)&path, sizeof(path));
    if (r == 0 && chmod(path.sun_path, 0666) < 0)
        r = -errno;
    if (r == 0 && spec->listen)
        r = listen_on(u, spec, (struct sockaddr *)&port, sizeof(port));
    return r < 0 ? fail_sys(f, -r, "listen for the upstream \"%s\"", spec->name) : 0;
}

static void stop_serving(struct upstreams *u)
{
    listeners_watch(u, false);
    while (u->nlisteners > 0)
        close(u->listeners[--u->nlisteners].fd);
    free(u->specs);
    u->specs = NULL;
}

int upstreams_start(struct init *in, char *const *env, struct fail *f)
{
    struct upstreams *u = &in->upstreams;
    const size_t skip = sizeof(UPSTREAM_PREFIX) - 1;
    size_t n = 0;
    stop_serving(u); /* of a start that failed */
    for (; *env; env++) {
        if (strncmp(*env, UPSTREAM_PREFIX, skip) != 0)
            continue;
        if (n == UPSTREAMS_MAX)
            return fail_set(f, E2BIG, "more than %u upstreams (" UPSTREAM_PREFIX "...)",
                            UPSTREAMS_MAX);
        if (!u->specs && !(u->specs = calloc(UPSTREAMS_MAX, sizeof(*u->specs))))
            return fail_set(f, ENOMEM, "out of memory");
        struct upstream_spec *spec = &u->specs[n++];
        int r = upstream_parse(*env + skip, spec, f);
        if (r < 0 || (r = serve(u, spec, f)) < 0)
            return r;
    }
    listeners_watch(u, true);
    return 0;
}

/* ---- before and after a snapshot ---- */

static void on_settle_limit(struct timer *t)
{
    settle(container_of(t, struct upstreams, limit), true);
}

void upstreams_settle(struct init *in, void (*fn)(void *ctx), void *ctx)
{
    struct upstreams *u = &in->upstreams;
    u->paused = true; /* what the frozen application has sent meanwhile waits in its socket */
    u->settled = fn;
    u->settled_ctx = ctx;
    loop_timer(u->loop, &u->limit, SETTLE_LIMIT);
    settle(u, u->nlisteners == 0);
}

void upstreams_go_on(struct init *in)
{
    struct upstreams *u = &in->upstreams;
    u->paused = false;
    u->settled = NULL;
    for (size_t i = 0; u->nlisteners > 0 && i < UPSTREAM_LINKS; i++)
        if (u->links[i].local_fd >= 0)
            link_pump(&u->links[i]);
}

/* What the old connection still holds is taken, and then it must have nothing more. */
static bool outlives(struct upstream_link *l, bool fresh)
{
    int unread = 0;
    if (l->state != OPEN)
        return !fresh || l->out.len == 0; /* clones must not all send it */
    if (!lane_fill(&l->back, l->remote_fd) ||
        (!l->back.ended && (do_ioctl(l->remote_fd, FIONREAD, &unread) < 0 || unread > 0)))
        return false;
    if (l->back.len > 0)
        l->asked = false;
    return is_quiet(l) && !l->out.ended && !(fresh && l->out.len > 0);
}

void upstreams_restored(struct init *in, bool fresh)
{
    struct upstreams *u = &in->upstreams;
    for (size_t i = 0; u->nlisteners > 0 && i < UPSTREAM_LINKS; i++) {
        struct upstream_link *l = &u->links[i];
        if (l->local_fd < 0)
            continue;
        if (!outlives(l, fresh)) {
            link_close(l, true);
        } else if (!l->back.ended) { /* else its end is told, as without a restore */
            remote_close(l);
            try_soon(l);
        }
    }
}

void upstreams_init(struct init *in)
{
    in->upstreams = (struct upstreams){.loop = &in->loop, .limit = {.fn = on_settle_limit}};
    for (size_t i = 0; i < UPSTREAM_LINKS; i++)
        in->upstreams.links[i].local_fd = -1;
}
