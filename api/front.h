// SPDX-License-Identifier: Apache-2.0
/*
 * One connection's requests, one after the other: routed by host name, then by
 * path, to the endpoint proxy, the artifact store, or the control API behind
 * its signature check. Called by the server in the connection's thread.
 */
#ifndef DORMOUSE_API_FRONT_H
#define DORMOUSE_API_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"
#include "conn.h"
#include "edge.h"
#include "s3.h"

struct front_event { /* one finished request, for the log */
    const char *id, *method, *path, *kind;
    int status;
    int64_t took_ms;
};

struct front {
    struct api *api;
    struct s3 s3;
    struct edge *edge;
    const char *region, *domain;
    bool ready; /* atomic; /readyz */
    void (*done)(void *ctx, const struct front_event *ev);
    void *ctx;
};

/* struct server_config's serve(); ctx is a struct front. */
void front_serve(void *ctx, struct conn *c, const bool *stopping);

/* The label of an endpoint host name ("<uuid>.lambda-microvm.<region>.<domain>[:port]", any
 * case), or false. */
bool front_host_label(const char *host, const char *region, const char *domain,
                      char ret_label[40]);
/* Nesting of a JSON text, so that no parser recurses deeply for a stranger. */
bool json_depth_ok(const char *text, size_t len, unsigned max);

#endif
