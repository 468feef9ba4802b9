// SPDX-License-Identifier: Apache-2.0
/*
 * The other side of sigv4.h: signs a request that we make, in header form.
 * Pure. Used by the command line tool, and by the tests of the verifier.
 */
#ifndef DORMOUSE_API_SIGV4_SIGN_H
#define DORMOUSE_API_SIGV4_SIGN_H

#include "sigv4.h"

struct sigv4_signer {
    const char *key_id, *secret, *region, *service;
    bool encode_twice; /* all services but S3 */
};

/* What x-amz-date says at that time. */
void sigv4_date(int64_t epoch, char ret[17]);

/* The value of the Authorization header. Every header of the request is signed; host and
 * x-amz-date must be among them. payload_hash as for sigv4_check(). */
int sigv4_sign(const struct sigv4_signer *k, const struct http_req *r, const char *payload_hash,
               struct buf *ret, struct err *e);

#endif
