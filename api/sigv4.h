// SPDX-License-Identifier: Apache-2.0
/*
 * Verifier of AWS Signature Version 4, header form and presigned query form.
 * Pure: works on a parsed request, looks nothing up, keeps no state. The
 * caller parses, finds the secret, then checks; every field comes from a
 * stranger until sigv4_check() returned SIGV4_OK.
 */
#ifndef DORMOUSE_API_SIGV4_H
#define DORMOUSE_API_SIGV4_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "digest.h"
#include "http.h"

#define SIGV4_SKEW_SECONDS 900
#define SIGV4_SIGNED_MAX   2048u

enum sigv4_fault {
    SIGV4_OK,
    SIGV4_MISSING,    /* not signed at all */
    SIGV4_INCOMPLETE, /* malformed, or a part is missing */
    SIGV4_SERVICE,    /* signed for another service */
    SIGV4_SKEWED,     /* too old, or from the future */
    SIGV4_MISMATCH,   /* the signature is not the one of this request */
    SIGV4_UNSIGNED,   /* a header that must be signed is not */
    SIGV4_UNKNOWN,    /* no such access key (auth.h) */
    SIGV4_INTERNAL,   /* the key could not be looked up (auth.h) */
};

struct sigv4 {
    bool presigned;
    char key_id[132], day[9], region[64], service[32];
    char date[17];   /* 20261120T010203Z */
    int64_t time;    /* the same as epoch seconds */
    int64_t expires; /* presigned: seconds of validity */
    char signed_headers[SIGV4_SIGNED_MAX];
    char signature[65];
};

struct sigv4_rules {
    const char *service;
    bool encode_twice; /* the path's percent signs are encoded again (all but S3) */
    bool sign_all_amz; /* every x-amz-* header must be signed */
    int64_t now;       /* epoch seconds */
};

/* Does the request name this service in its credential scope? Cheap; for routing only. */
bool sigv4_scope_is(const struct http_req *r, const char *service);

/* Takes the signature's parts out of the request. */
enum sigv4_fault sigv4_parse(const struct http_req *r, struct sigv4 *ret, struct err *e);

/* The key that signs for one day, region and service. */
void sigv4_signing_key(const char *secret, const struct sigv4 *s, uint8_t ret[32]);

/* payload_hash: the text that stands for the body in the canonical request: hex of its
 * SHA-256, or the literal that x-amz-content-sha256 holds. */
enum sigv4_fault sigv4_check(const struct sigv4 *s, const struct http_req *r,
                             const uint8_t key[32], const char *payload_hash,
                             const struct sigv4_rules *rules, struct err *e);

/* The signature that the request should have. False: too large, or out of memory. */
bool sigv4_compute(const struct sigv4 *s, const struct http_req *r, const uint8_t key[32],
                   const char *payload_hash, bool encode_twice, bool raw_path, uint8_t ret[32]);

/* The canonical request; for the tests. */
void sigv4_canonical(const struct sigv4 *s, const struct http_req *r, bool encode_twice,
                     bool raw_path, const char *payload_hash, struct buf *ret);

/* "20261120T010203Z" to epoch seconds. */
bool sigv4_time(const char *text, int64_t *ret);

#endif
