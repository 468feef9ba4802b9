// SPDX-License-Identifier: Apache-2.0
/*
 * Decoder of the aws-chunked body coding: chunks with or without a signature
 * each, and trailers. Pure push parser; every byte comes from a stranger until
 * s3_chunked_done().
 */
#ifndef DORMOUSE_API_S3_CHUNKED_H
#define DORMOUSE_API_S3_CHUNKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "digest.h"

#define S3_TRAILER_MAX 1024u

struct s3_chunked_config {
    bool is_signed; /* each chunk carries a signature */
    bool trailer;   /* header lines follow the last chunk */
    /* signed only: */
    uint8_t key[32];         /* signing key */
    char date[17];           /* x-amz-date */
    char scope[144];         /* day/region/service/aws4_request */
    char seed_signature[65]; /* the request's own */
};

struct s3_chunked {
    struct s3_chunked_config config;
    int state;
    uint64_t left;      /* of the chunk at work */
    uint64_t total;     /* data bytes so far */
    char previous[65];  /* signature before the chunk at work */
    char claimed[65];   /* signature of the chunk at work */
    struct digest hash; /* of the chunk at work */
    char line[256];
    size_t line_len;
    char trailer[S3_TRAILER_MAX + 1]; /* "name:value\n" lines, names in lower case */
    size_t trailer_len;
};

void s3_chunked_begin(struct s3_chunked *d, const struct s3_chunked_config *c);
/* Decodes `len` bytes; data goes to out, which has room for len bytes and may be `in`.
 * -EBADMSG malformed, -EACCES a signature does not match. */
int s3_chunked_feed(struct s3_chunked *d, const uint8_t *in, size_t len, uint8_t *out,
                    size_t *ret_len, struct err *e);
/* The last chunk and the trailer have been read and verified. */
bool s3_chunked_done(const struct s3_chunked *d);
/* Value of a trailer line into ret; false when absent or too long. */
bool s3_chunked_trailer(const struct s3_chunked *d, const char *name, char *ret, size_t cap);

#endif
