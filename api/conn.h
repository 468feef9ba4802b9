// SPDX-License-Identifier: Apache-2.0
/*
 * A byte stream to a peer, whatever carries it: plain TCP, a unix socket, or
 * TLS. Protocol code knows only this. The fd is non-blocking; the calls with a
 * deadline wait with poll(). One thread uses a conn at a time.
 */
#ifndef DORMOUSE_API_CONN_H
#define DORMOUSE_API_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../hypervisor/base/err.h"

struct conn;
struct conn_ops {
    ssize_t (*try_read)(struct conn *c, void *data, size_t cap);
    ssize_t (*try_write)(struct conn *c, const void *data, size_t len);
    bool (*pending)(struct conn *c);
    int (*finish)(struct conn *c);
    void (*free)(struct conn *c);
};

struct conn {
    const struct conn_ops *ops;
    int fd;     /* owned */
    short want; /* poll events that the last -EAGAIN waits for */
    void *impl;
    char sni[256];      /* server name the peer asked for, lower case, or "" */
    int64_t idle_since; /* ms; 0 while a request is worked on; read by the server's reaper */
};

/* Wraps a connected socket; takes the fd also on failure. */
int conn_plain(struct conn **ret, int fd, struct err *e);
void conn_close(struct conn *c); /* NULL is fine */

/* At most one step. Bytes moved, 0 at the end of the stream (reading), -EAGAIN, -errno. */
ssize_t conn_try_read(struct conn *c, void *data, size_t cap);
ssize_t conn_try_write(struct conn *c, const void *data, size_t len);
/* Bytes wait inside the conn although poll() may not report the fd readable. */
bool conn_pending(struct conn *c);
/* Says that no more bytes follow. */
void conn_finish(struct conn *c);

/* ms on a clock that never jumps. */
int64_t clock_ms(void);
/* Waits for `events` on the fd. 0, -ETIMEDOUT, -errno. */
int conn_wait(struct conn *c, short events, int64_t deadline);
/* Waits for the first bytes; n > 0, 0 at the end, -ETIMEDOUT, -errno. */
ssize_t conn_read(struct conn *c, void *data, size_t cap, int64_t deadline);
/* Writes all; gives up with -ETIMEDOUT when the peer takes nothing for stall_ms. */
int conn_write(struct conn *c, const void *data, size_t len, int stall_ms);

#endif
