// SPDX-License-Identifier: Apache-2.0
/*
 * The control API's operations, behind one call: the front end has parsed the
 * request, read the body and verified the signature.
 */
#ifndef DORMOUSE_API_API_H
#define DORMOUSE_API_API_H

#include "fleet.h"
#include "http.h"
#include "store.h"
#include "token.h"

struct api {
    struct store *store;
    struct fleet *fleet;
    struct token_key *tokens;
    const char *region, *account, *domain;
    uint16_t public_port;
    /* The operator's choices; 0 or NULL take the default in brackets. */
    const char *chipset_generation;    /* shown with builds ["3"] */
    uint32_t max_duration_s;           /* of a microVM's life, UINT32_MAX none [28800] */
    uint32_t max_images, max_versions; /* quotas [none] */
    /* NULL: nothing is counted, nobody is told. */
    struct throttle *throttle; /* of the service's operations */
    struct metrics *metrics;
    struct events *events;
};

enum rights { RIGHTS_READ, RIGHTS_RUN, RIGHTS_ADMIN };

/* True when the path belongs to the control API (else the caller answers 404/403 itself). */
bool api_owns_path(const char *raw_path);
/* True when the operation's body is not JSON. */
bool api_takes_bytes(const struct http_req *req);
/* Runs the operation and fills in the response, errors included. */
void api_handle(struct api *a, const struct http_req *req, enum rights who, const void *body,
                size_t len, struct http_res *res);
/* All there is to measure, as text for Prometheus. */
void api_metrics(struct api *a, struct http_res *res);
/* Names of the operations, by their number. */
const char *const *api_operations(unsigned *ret_n);
/* Fills in an AWS-shaped error: status and name from errors.def. */
void api_error(struct http_res *res, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
