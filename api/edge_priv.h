// SPDX-License-Identifier: Apache-2.0
/* Shared by edge*.c only. */
#ifndef DORMOUSE_API_EDGE_PRIV_H
#define DORMOUSE_API_EDGE_PRIV_H

#include "edge.h"

/* The WebSocket subprotocol that is the proxy's own. */
#define EDGE_PROTOCOL "lambda-microvms"

/* What a request says to the proxy itself. */
struct edge_ask {
    char token[TOKEN_TEXT_MAX + 1]; /* "" = none */
    uint16_t port;
    bool force_h2;
    bool upgrade;         /* wants another protocol on this connection */
    bool offers_lambda;   /* subprotocol lambda-microvms was offered */
    struct buf protocols; /* the subprotocols meant for the application, ", " between */
};
void edge_ask_free(struct edge_ask *a);
/* 0, or -EINVAL with a sentence. */
int edge_ask_read(struct edge_ask *a, const struct http_req *r, struct err *e);

/* The request as the application gets it. length: of the body, -1 chunked, 0 none. */
void edge_request_text(struct buf *b, const struct http_req *r, const struct edge_ask *a,
                       int64_t length);
/* The response as the client gets it. */
struct edge_reply_how {
    bool chunked;  /* frame the body in chunks */
    bool close;    /* the connection ends afterwards */
    bool upgraded; /* 101 */
    uint64_t resumed_us;
};
void edge_reply_text(struct buf *b, const struct http_req *r, const struct edge_ask *a,
                     const struct http_reply *reply, const struct edge_reply_how *how);

/* Passes the exchange through to the application at the other end of `app`. 0: done or cut off
 * in the middle (then x->close is set). Negative: nothing was answered yet, e says why. */
int edge_pump(struct exchange *x, const struct edge_ask *a, struct conn *app,
              uint64_t resumed_us, int silence_ms, int upgrade_silence_ms, struct err *e);

#endif
