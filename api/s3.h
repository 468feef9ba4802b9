// SPDX-License-Identifier: Apache-2.0
/*
 * The S3-compatible front of the artifact store: path style, below /s3 or at
 * the root. Every request is signed (header or presigned); readers need any
 * right, writers the admin right.
 */
#ifndef DORMOUSE_API_S3_H
#define DORMOUSE_API_S3_H

#include "artifacts.h"
#include "exchange.h"
#include "store.h"

struct s3 {
    struct artifacts *artifacts;
    struct store *store;
    const char *region;
};

/* Is this request for the artifact store? */
bool s3_owns(const struct http_req *r);
void s3_handle(const struct s3 *s, struct exchange *x);

#endif
