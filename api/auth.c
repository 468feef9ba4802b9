// SPDX-License-Identifier: Apache-2.0
/* Looks the signer up; see auth.h. */
#include "auth.h"

#include <errno.h>
#include <string.h>

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
