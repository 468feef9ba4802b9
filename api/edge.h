// SPDX-License-Identifier: Apache-2.0
/*
 * The endpoint proxy: takes a request for <label>.lambda-microvm.<region>.<domain>,
 * checks its token and port, wakes the microVM when need be, and passes bytes
 * both ways unbuffered. The client is a stranger, and so is the application in
 * the guest: what either sends is parsed and framed anew.
 */
#ifndef DORMOUSE_API_EDGE_H
#define DORMOUSE_API_EDGE_H

#include "exchange.h"
#include "fleet.h"
#include "store.h"
#include "token.h"

struct edge;

struct edge_config {
    struct store *store;
    struct fleet *fleet;
    const struct token_key *tokens;
    unsigned per_vm;        /* requests at once to one microVM; more get 429 */
    int silence_ms;         /* a request or response that moves no byte for so long ends */
    int upgrade_silence_ms; /* the same for WebSockets and other upgraded connections */
};

int edge_open(struct edge **ret, const struct edge_config *c, struct err *e);
void edge_close(struct edge *ed);

/* Answers the request; label is the first part of the host name, a UUID. */
void edge_handle(struct edge *ed, struct exchange *x, const char *label);

#endif
