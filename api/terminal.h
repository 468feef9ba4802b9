// SPDX-License-Identifier: Apache-2.0
/*
 * A terminal in a microVM over a WebSocket: what is typed goes in as binary or
 * text frames, what the terminal shows comes as binary ones. Text frames with
 * JSON of a known form are orders: {"type":"resize","rows":R,"cols":C} and
 * {"type":"eof"}; any other text is typed. Ours are {"type":"session_init"},
 * and at the end {"type":"exit"} with exitCode or signal, or {"type":"error"}.
 * Both ends are hostile: the client, and the guest behind the link.
 */
#ifndef DORMOUSE_API_TERMINAL_H
#define DORMOUSE_API_TERMINAL_H

#include "exchange.h"
#include "guest_link.h"

/* Does the request ask for a WebSocket as RFC 6455 says? */
bool terminal_asked(const struct http_req *req);
enum terminal_kind {
    TERMINAL_ORDERED, /* the client's first message says what to run */
    TERMINAL_SHELL,   /* root's shell at once, and no word about how it ended but the close */
};
/* Makes the handshake, answering with the subprotocol unless it is NULL, and runs the command
 * until one of both ends ends it. The link is a fresh stream to init. The connection is over
 * afterwards. */
void terminal_serve(struct exchange *x, struct glink *g, enum terminal_kind kind,
                    const char *protocol);

#endif
