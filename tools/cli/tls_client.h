// SPDX-License-Identifier: Apache-2.0
/*
 * TLS client side of api/conn.h: the peer's certificate must be signed by the
 * given authorities and made for the name asked for.
 */
#ifndef DORMOUSE_CLI_TLS_CLIENT_H
#define DORMOUSE_CLI_TLS_CLIENT_H

#include <stdint.h>

#include "../../api/conn.h"
#include "../../hypervisor/base/err.h"

struct tls_client;

/* ca: a PEM file, or NULL for the system's. */
int tls_client_open(struct tls_client **ret, const char *ca, struct err *e);
/* The certificate and key that it shows when it is asked for one: PEM files. */
int tls_client_identity(struct tls_client *t, const char *cert, const char *key, struct err *e);
void tls_client_close(struct tls_client *t);

/* Handshake on a connected socket until the deadline; takes the fd also on failure.
 * -EKEYREJECTED: the certificate is not to be trusted. */
int tls_connect(struct tls_client *t, int fd, const char *name, int64_t deadline,
                struct conn **ret, struct err *e);

#endif
