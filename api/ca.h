// SPDX-License-Identifier: Apache-2.0
/*
 * The installation's own certificate authority: made at first start, signs the
 * server certificate, renews it before it runs out or when the names change.
 * ECDSA P-256. Called by certs.c, as root.
 *
 * Files in the directory: ca.key ca.pem server.key server.pem server.names; keys 0600.
 */
#ifndef DORMOUSE_API_CA_H
#define DORMOUSE_API_CA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

#define CA_NAMES_MAX 16u

struct ca_config {
    int export_dir;                  /* gets a copy of ca.pem for clients; -1: none */
    const char *names[CA_NAMES_MAX]; /* DNS names, wildcards, IPv4 and IPv6 addresses */
    size_t nnames;
    int64_t now; /* epoch seconds */
};

/* Makes or renews what is missing in the directory. *ret_renewed: the server certificate is
 * new.
 */
int ca_ensure(int dir, const struct ca_config *c, bool *ret_renewed, struct err *e);

#endif
