// SPDX-License-Identifier: Apache-2.0
/*
 * One HTTPS connection to one host, kept between requests and made again when
 * the peer has closed it. Replies are parsed by api/http1.h: the peer may be
 * an application in a guest.
 */
#ifndef DORMOUSE_CLI_HTTP_CLIENT_H
#define DORMOUSE_CLI_HTTP_CLIENT_H

#include <stdbool.h>

#include "../../api/http1.h"
#include "tls_client.h"

struct http_client {
    struct tls_client *tls; /* the caller's */
    char host[256], authority[300];
    uint16_t port;
    struct conn *c;
    struct http1 *h;
    bool used;   /* a reply came over this connection */
    int wake_fd; /* ends a wait for a reply with -EINTR when readable; -1: none */
};

/* A body is bytes in memory, or `size` bytes of a file from its start. */
struct http_body {
    const void *data;
    int fd; /* -1: data */
    uint64_t size;
};

/* authority: "host[:port]". */
int http_client_init(struct http_client *hc, struct tls_client *tls, const char *authority,
                     struct err *e);
void http_client_close(struct http_client *hc);

/* Sends the request and reads the head of its reply, which lives until the next call; then the
 * body is read with http1_body(hc->h, …). Host, content-length and connection headers are
 * added here unless the request has a Host. body may be NULL.
 * -ETIMEDOUT: no reply within limit_ms. */
int http_client_send(struct http_client *hc, const struct http_req *req,
                     const struct http_body *body, int limit_ms, struct http_reply *ret,
                     struct err *e);
/* After the body: closes the connection when it cannot be used again. */
void http_client_done(struct http_client *hc);

/* Makes the connection when there is none. */
int http_client_connect(struct http_client *hc, int limit_ms, struct err *e);

#endif
