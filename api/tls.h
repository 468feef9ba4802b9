// SPDX-License-Identifier: Apache-2.0
/*
 * TLS server side: 1.3 and 1.2, session tickets, ALPN http/1.1. One set of
 * settings is shared by all connections and replaced as a whole at a reload;
 * connections keep the set they began with. The only file that knows the
 * library's connection interface.
 */
#ifndef DORMOUSE_API_TLS_H
#define DORMOUSE_API_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "conn.h"

struct tls;

/* Once, before any thread starts. */
int tls_library_init(struct err *e);

enum tls_file { TLS_CERT, TLS_KEY, TLS_CLIENT_CA };

/* Where the files come from, at the start and at every reload. */
struct tls_source {
    int (*open)(void *ctx, enum tls_file which, int *ret_fd, struct err *e);
    void *ctx;
    /* Clients must show a certificate that TLS_CLIENT_CA has signed, unless they ask for a
     * server name that this function knows. Sessions are not resumed then. */
    bool client_ca;
    bool (*open_to_all)(void *ctx, const char *server_name);
};

int tls_open_from(struct tls **ret, const struct tls_source *s, struct err *e);
/* From two files. */
int tls_open(struct tls **ret, const char *cert_path, const char *key_path, struct err *e);
void tls_close(struct tls *t);
/* Reads the files again; when that fails the old certificate stays in use. */
int tls_reload(struct tls *t, struct err *e);
/* Reloads when the certificate file has changed. *ret_reloaded may be NULL. */
int tls_reload_if_changed(struct tls *t, bool *ret_reloaded, struct err *e);

/* Wraps a connected socket; takes the fd also on failure. Nothing is exchanged yet. */
int tls_conn(struct tls *t, int fd, struct conn **ret, struct err *e);
/* The handshake, until the deadline. */
int tls_handshake(struct conn *c, int64_t deadline, struct err *e);

#endif
