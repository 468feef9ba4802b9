// SPDX-License-Identifier: Apache-2.0
/*
 * Where the host is and who we are, from flags and the environment that
 * `. build/run/env` exports. Strings point into the environment or arguments.
 */
#ifndef DORMOUSE_CLI_SETTINGS_H
#define DORMOUSE_CLI_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "../../hypervisor/base/err.h"

struct settings {
    const char *url;     /* https://host[:port] as given */
    char host[256];      /* of the URL, without brackets */
    char authority[300]; /* for the Host header */
    uint16_t port;
    const char *ca; /* file with the authorities to trust, or NULL: the system's */
    const char *client_cert, *client_key;  /* files, or NULL */
    const char *key_id, *secret, *session; /* session may be NULL */
    const char *region;
};

/* "https://name[:port][/]" into host, port and authority. */
int settings_url(struct settings *s, const char *url, struct err *e);
/* url and ca may be NULL: from the environment. Credentials that are missing stay NULL. */
int settings_read(struct settings *s, const char *url, const char *ca, struct err *e);

/* "host[:port]", as microVM endpoints are given; port stays as it is when there is none. */
int authority_split(const char *text, char ret_host[256], uint16_t *port, struct err *e);

#endif
