// SPDX-License-Identifier: Apache-2.0
/* Shared by artifacts*.c only. */
#ifndef DORMOUSE_API_ARTIFACTS_PRIV_H
#define DORMOUSE_API_ARTIFACTS_PRIV_H

#include <pthread.h>

#include "../hypervisor/base/buf.h"
#include "artifacts.h"
#include "uuid.h"

struct artifacts {
    int dir, tmp, data, buckets, uploads; /* directories */
    uint64_t quota, object_max;
    pthread_mutex_t lock; /* publishing, removing, `used` */
    uint64_t used;        /* bytes in data/, uploads/ and tmp/ */
};

struct artifact_put {
    struct artifacts *a;
    int fd;
    char name[UUID_CAP]; /* in tmp/ */
    uint64_t size;
};

/* 255 bytes is what file systems take; a longer encoded key becomes a hash. */
#define FILE_NAME_CAP 256

bool bucket_valid(const char *bucket);
bool key_valid(const char *key);
/* The file name that stands for a key. */
void key_encode(const char *key, char ret[FILE_NAME_CAP]);
/* -EINVAL not a name, -ENOTDIR no such bucket. */
int bucket_open(struct artifacts *a, const char *bucket, int *ret_fd, struct err *e);

/* The text file of an object. */
struct meta {
    char data[UUID_CAP];
    char *key;
    struct artifact_info info;
};
void meta_free(struct meta *m);
int meta_read(int bucket_fd, const char *name, struct meta *ret, struct err *e);
void meta_text(struct buf *b, const char *data, const char *key,
               const struct artifact_info *info);

/* Counts bytes against the quota; -EDQUOT. */
int quota_take(struct artifacts *a, uint64_t bytes, struct err *e);
void quota_give(struct artifacts *a, uint64_t bytes);
/* Removes a file and gives its bytes back. */
void remove_counted(struct artifacts *a, int dir, const char *name);

/* Calls fn for each entry but dot files; fn returns false to stop. */
int each_entry(int dirfd, bool (*fn)(void *ctx, int dirfd, const char *name), void *ctx,
               struct err *e);
double now_seconds(void);

#endif
