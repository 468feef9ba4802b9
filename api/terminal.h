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
/* Makes the handshake, waits for the order what to run, runs it, until one of both ends ends
 * it. The link is a fresh stream to init. The connection is over afterwards. */
void terminal_serve(struct exchange *x, struct glink *g);

#endif
