// SPDX-License-Identifier: Apache-2.0
/*
 * Listens and gives each connection a thread of its own: bounded in number,
 * with a small stack. The TLS handshake is done in that thread. When all are
 * taken, the connection that has been idle longest makes room.
 */
#ifndef DORMOUSE_API_SERVER_H
#define DORMOUSE_API_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "conn.h"
#include "tls.h"

struct server;

struct server_config {
    const char *address; /* IPv4 or IPv6 literal */
    uint16_t port;       /* 0: any free one */
    unsigned max_conns;
    struct tls *tls; /* NULL: plain HTTP */
    /* Serves the connection until it ends; *stopping turns true when the server wants to stop.
     * The server closes the conn afterwards. */
    void (*serve)(void *ctx, struct conn *c, const bool *stopping);
    void *ctx;
};

/* Binds, so that a taken port is an error at start. */
int server_open(struct server **ret, const struct server_config *c, struct err *e);
/* Before the start, when TLS was not ready yet as the port was bound. */
void server_set_tls(struct server *s, struct tls *tls);
uint16_t server_port(const struct server *s);
/* Begins to accept, in a thread. */
int server_start(struct server *s, struct err *e);
/* Accepts no more, lets requests finish for grace_ms, then cuts them. True: all have ended and
 * the server is freed. False: a thread is stuck, so nothing that it uses may be freed. */
bool server_stop(struct server *s, int grace_ms);

#endif
