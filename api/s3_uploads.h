// SPDX-License-Identifier: Apache-2.0
/*
 * A page of ListMultipartUploads, made of all uploads of a bucket: prefix,
 * delimiter and markers as S3 has them. Pure, for s3_uploads.c and its test.
 */
#ifndef DORMOUSE_API_S3_UPLOADS_H
#define DORMOUSE_API_S3_UPLOADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"
#include "artifacts.h"

struct s3_upload {
    char id[UPLOAD_ID_CAP];
    char *key;
    double begun;
};

/* "" where the request does not say. */
struct s3_uploads_ask {
    const char *bucket, *prefix, *delimiter, *key_marker, *id_marker;
    bool url; /* names are answered percent-encoded */
    uint64_t max;
};

/* Sorts them, and appends the answer. */
void s3_uploads_xml(struct buf *xml, const struct s3_uploads_ask *ask, struct s3_upload *all,
                    size_t n);

#endif
