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

/* Authorization: Basic with an access key's id and secret; any rights will do. */
enum basic_result { BASIC_OK, BASIC_REFUSED, BASIC_BROKEN };
enum basic_result auth_basic(struct store *s, const struct http_req *r);

#endif
