// SPDX-License-Identifier: Apache-2.0
/* Looks the signer up; see auth.h. */
#include "auth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "digest.h"

enum sigv4_fault auth_open(struct store *s, const struct http_req *r, struct auth *ret,
                           struct err *e)
{
    struct store_key key;
    enum sigv4_fault f = sigv4_parse(r, &ret->sig, e);
    if (f != SIGV4_OK)
        return f;
    int n = store_key_get(s, ret->sig.key_id, &key, e);
    if (n == -ENOENT) {
        err_set(e, EACCES, "The security token included in the request is invalid.");
        return SIGV4_UNKNOWN;
    }
    if (n < 0)
        return SIGV4_INTERNAL;
    if (!strcmp(key.rights, "admin"))
        ret->rights = RIGHTS_ADMIN;
    else if (!strcmp(key.rights, "run"))
        ret->rights = RIGHTS_RUN;
    else
        ret->rights = RIGHTS_READ;
    sigv4_signing_key(key.secret, &ret->sig, ret->key);
    explicit_bzero(&key, sizeof key);
    return SIGV4_OK;
}

enum basic_result auth_basic(struct store *s, const struct http_req *r)
{
    const char *header = http_req_header(r, "authorization");
    struct store_key key, given;
    char text[300], coded[300];
    size_t len = 0, n = 0;
    if (!header || strncasecmp(header, "Basic ", 6) != 0)
        return BASIC_REFUSED;
    /* The padded alphabet, as this scheme has it. */
    for (header += 6; *header && *header != '=' && n < sizeof coded - 1; header++)
        coded[n++] = *header == '+' ? '-' : *header == '/' ? '_' : *header;
    if (!base64url_decode(coded, n, (uint8_t *)text, sizeof text - 1, &len))
        return BASIC_REFUSED;
    text[len] = '\0';
    char *secret = strchr(text, ':');
    if (!secret || memchr(text, 0, len))
        return BASIC_REFUSED;
    *secret++ = '\0';
    memset(&given, 0, sizeof given);
    bool fits = strlen(secret) < sizeof given.secret;
    snprintf(given.secret, sizeof given.secret, "%s", secret);
    int e = store_key_get(s, text, &key, NULL);
    bool same = e == 0 && fits && equal_secret(key.secret, given.secret, sizeof given.secret);
    explicit_bzero(&key, sizeof key);
    explicit_bzero(&given, sizeof given);
    explicit_bzero(text, sizeof text);
    explicit_bzero(coded, sizeof coded);
    return same ? BASIC_OK : e < 0 && e != -ENOENT ? BASIC_BROKEN : BASIC_REFUSED;
}
