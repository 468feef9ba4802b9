// SPDX-License-Identifier: Apache-2.0
/* Threads and connections; see server.h. */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"

#define STACK_BYTES  (512u << 10)
#define HANDSHAKE_MS 10000
#define ROOM_WAIT_MS 1000
#define STUCK_MS     5000
#define BACKLOG      512

struct slot {
    struct server *server;
    struct conn *c; /* while it may be shut down from another thread */
    int fd;         /* as accepted, for the thread that begins */
    bool used;
};

struct server {
    struct server_config config;
    int fd;
    uint16_t port;
    bool stopping, started;
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t freed; /* a slot became free */
    struct slot *slots;
    unsigned used;
};

static int bind_socket(struct server *s, struct err *e)
{
    const struct server_config *c = &s->config;
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(c->port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(c->port)};
    bool is_v4 = inet_pton(AF_INET, c->address, &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, c->address, &v6.sin6_addr) != 1) {
        err_set(e, EINVAL, "'%s' is not an address to listen on", c->address);
        return err_hint(e, "give an IPv4 or IPv6 address such as 127.0.0.1");
    }
    struct sockaddr *address = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t size = is_v4 ? sizeof v4 : sizeof v6;
    s->fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return err_sys(e, errno, "make a socket");
    int one = 1;
    setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(s->fd, address, size) < 0 || listen(s->fd, BACKLOG) < 0) {
        err_sys(e, errno, "listen on %s port %u", c->address, c->port);
        return err_hint(e, "choose another port, or end the program that uses this one");
    }
    if (getsockname(s->fd, address, &size) < 0)
        return err_sys(e, errno, "listen on %s", c->address);
    s->port = ntohs(is_v4 ? v4.sin_port : v6.sin6_port);
    return 0;
}

static void server_free(struct server *s)
{
    if (s->fd >= 0)
        close(s->fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->freed);
    free(s->slots);
    free(s);
}

int server_open(struct server **ret, const struct server_config *c, struct err *e)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "start the server");
    s->config = *c;
    s->fd = -1;
    pthread_condattr_t attr;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->freed, &attr);
    pthread_condattr_destroy(&attr);
    s->slots = calloc(c->max_conns, sizeof *s->slots);
    int r = s->slots ? bind_socket(s, e) : err_sys(e, ENOMEM, "start the server");
    if (r < 0) {
        server_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

uint16_t server_port(const struct server *s)
{
    return s->port;
}

void server_set_tls(struct server *s, struct tls *tls)
{
    s->config.tls = tls;
}

static void set_conn(struct slot *slot, struct conn *c)
{
    pthread_mutex_lock(&slot->server->lock);
    slot->c = c;
    pthread_mutex_unlock(&slot->server->lock);
}

/* Runs in the connection's thread. */
static void serve_slot(struct slot *slot)
{
    struct server *s = slot->server;
    struct tls *tls = s->config.tls;
    struct conn *c;
    int one = 1;
    setsockopt(slot->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(slot->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if ((tls ? tls_conn(tls, slot->fd, &c, NULL) : conn_plain(&c, slot->fd, NULL)) < 0)
        return;
    /* A peer in its handshake counts as idle, so that silent ones cannot take all slots. */
    c->idle_since = clock_ms();
    set_conn(slot, c);
    /* A peer that cannot do the handshake is its own problem: nothing is reported. */
    if (!tls || tls_handshake(c, clock_ms() + HANDSHAKE_MS, NULL) == 0)
        s->config.serve(s->config.ctx, c, &s->stopping);
    set_conn(slot, NULL);
    conn_close(c);
}

static void *conn_thread(void *arg)
{
    struct slot *slot = arg;
    struct server *s = slot->server;
    serve_slot(slot);
    pthread_mutex_lock(&s->lock);
    slot->used = false;
    s->used--;
    pthread_cond_broadcast(&s->freed);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Waits for a slot to become free. The lock is held. */
static void wait_freed(struct server *s, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&s->freed, &s->lock, &until);
}

/* Ends the connection that has waited longest for its next request. The lock is held. */
static void end_longest_idle(struct server *s)
{
    struct slot *oldest = NULL;
    int64_t since = INT64_MAX;
    for (unsigned i = 0; i < s->config.max_conns; i++) {
        struct slot *slot = &s->slots[i];
        int64_t idle = slot->c ? __atomic_load_n(&slot->c->idle_since, __ATOMIC_RELAXED) : 0;
        if (idle > 0 && idle < since) {
            oldest = slot;
            since = idle;
        }
    }
    if (oldest)
        shutdown(oldest->c->fd, SHUT_RDWR);
}

static struct slot *take_slot(struct server *s, int fd)
{
    struct slot *found = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->used == s->config.max_conns) {
        end_longest_idle(s);
        wait_freed(s, ROOM_WAIT_MS);
    }
    for (unsigned i = 0; i < s->config.max_conns && !found; i++) {
        if (!s->slots[i].used)
            found = &s->slots[i];
    }
    if (found) {
        *found = (struct slot){.server = s, .fd = fd, .used = true};
        s->used++;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

static int start_thread(struct slot *slot)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int r = pthread_create(&thread, &attr, conn_thread, slot);
    pthread_attr_destroy(&attr);
    return r;
}

static void *accept_thread(void *arg)
{
    struct server *s = arg;
    for (;;) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (__atomic_load_n(&s->stopping, __ATOMIC_RELAXED)) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        if (fd < 0) {
            /* Out of descriptors or memory: a connection must end first. */
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                pthread_mutex_lock(&s->lock);
                end_longest_idle(s);
                wait_freed(s, ROOM_WAIT_MS);
                pthread_mutex_unlock(&s->lock);
            }
            continue;
        }
        struct slot *slot = take_slot(s, fd);
        if (!slot) {
            close(fd);
        } else if (start_thread(slot) != 0) {
            pthread_mutex_lock(&s->lock);
            slot->used = false;
            s->used--;
            pthread_mutex_unlock(&s->lock);
            close(fd);
        }
    }
}

int server_start(struct server *s, struct err *e)
{
    int r = pthread_create(&s->acceptor, NULL, accept_thread, s);
    if (r != 0)
        return err_sys(e, r, "start the server's thread");
    s->started = true;
    return 0;
}

/* Wakes idle connections, or all of them. The lock is held. */
static void end_conns(struct server *s, bool all)
{
    for (unsigned i = 0; i < s->config.max_conns; i++) {
        struct slot *slot = &s->slots[i];
        if (slot->c && (all || __atomic_load_n(&slot->c->idle_since, __ATOMIC_RELAXED) > 0))
            shutdown(slot->c->fd, SHUT_RDWR);
    }
}

bool server_stop(struct server *s, int grace_ms)
{
    if (!s)
        return true;
    __atomic_store_n(&s->stopping, true, __ATOMIC_RELAXED);
    shutdown(s->fd, SHUT_RDWR); /* accept() returns */
    if (s->started)
        pthread_join(s->acceptor, NULL);
    int64_t cut = clock_ms() + grace_ms, give_up = cut + STUCK_MS, now;
    pthread_mutex_lock(&s->lock);
    while (s->used > 0 && (now = clock_ms()) < give_up) {
        end_conns(s, now >= cut);
        wait_freed(s, 200);
    }
    bool all = s->used == 0;
    pthread_mutex_unlock(&s->lock);
    if (all)
        server_free(s);
    return all;
}
