// SPDX-License-Identifier: Apache-2.0
/* Who signed a request: the signature's parts, its key and the key's rights. */
#ifndef DORMOUSE_API_AUTH_H
#define DORMOUSE_API_AUTH_H

#include "api.h"
#include "sigv4.h"

struct auth {
    struct sigv4 sig;
    uint8_t key[32]; /* signing key */
    enum rights rights;
};

/* Parses the signature and looks its key up. Nothing is verified yet. */
enum sigv4_fault auth_open(struct store *s, const struct http_req *r, struct auth *ret,
                           struct err *e);

#endif
