// SPDX-License-Identifier: Apache-2.0
/*
 * The installation's own certificate authority: made at first start, signs the
 * server certificate, renews it before it runs out or when the names change.
 * ECDSA P-256. Called by dormoused before it listens, and daily.
 *
 * Files in <dir>: ca.key ca.pem server.key server.pem server.names; keys 0600.
 */
#ifndef DORMOUSE_API_CA_H
#define DORMOUSE_API_CA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

#define CA_NAMES_MAX 16u

struct ca_config {
    const char *dir;
    const char *export_path;         /* a copy of ca.pem for clients; NULL: none */
    const char *names[CA_NAMES_MAX]; /* DNS names, wildcards, IPv4 and IPv6 addresses */
    size_t nnames;
    int64_t now; /* epoch seconds */
};

/* Makes or renews what is missing. *ret_renewed: the server certificate is new. */
int ca_ensure(const struct ca_config *c, bool *ret_renewed, struct err *e);

#endif
