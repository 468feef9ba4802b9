// SPDX-License-Identifier: Apache-2.0
/*
 * Upstreams: servers the image declares, for applications whose client cannot
 * connect again after a restore. What can be said about them without a machine:
 * the declaration, and the question to a name server and its answer, which is
 * not trusted. The sockets are in upstream.c.
 */
#ifndef DORMOUSE_GUEST_UPSTREAM_H
#define DORMOUSE_GUEST_UPSTREAM_H

#include "util.h"

#define UPSTREAM_PREFIX "DORMOUSE_UPSTREAM_"
#define DNS_MSG_MAX     512u

struct upstream_spec {
    char name[32];         /* of the socket: the variable's, in small letters */
    char host[254];        /* a name or an IPv4 address */
    uint16_t port, listen; /* listen 0: only the unix socket */
    uint32_t wait_s;       /* how long to try */
    bool oneway;           /* the application expects no answers */
};

/* Reads "NAME=tcp:HOST:PORT[,listen=PORT][,wait=SECONDS][,oneway]". 0 or -errno. */
int upstream_parse(const char *text, struct upstream_spec *ret, struct fail *f);
bool ipv4_parse(const char *text, uint8_t ret[4]);
/* A question for the IPv4 address of a name into DNS_MSG_MAX bytes; its length, 0: no name. */
size_t dns_ask(uint8_t *buf, const char *host, uint16_t id);
/* 0 with an address, -ENOENT when there is none, -EBADMSG for what is no answer to it. */
int dns_answer(const uint8_t *p, size_t len, uint16_t id, uint8_t ret[4]);

#endif
