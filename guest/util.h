// SPDX-License-Identifier: Apache-2.0
/* Small helpers shared by all of dormouse-init. */
#ifndef DORMOUSE_GUEST_UTIL_H
#define DORMOUSE_GUEST_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "text.h"

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void auto_free_(void *p)
{
    free(*(void **)p);
}

static inline void auto_close_(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define AUTO_FREE  __attribute__((cleanup(auto_free_)))
#define AUTO_CLOSE __attribute__((cleanup(auto_close_)))

/* An error for people: positive errno and one sentence. */
struct fail {
    int num;
    char text[256];
};

/* Fills it in and returns -num. fail_sys adds ": strerror(num)". */
int fail_set(struct fail *f, int num, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int fail_sys(struct fail *f, int num, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static inline void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Whole writes over EINTR and short counts; 0 or -errno. For blocking descriptors. */
int write_full(int fd, const void *data, size_t len);
/* Replaces the content of an existing small file (sysfs, procfs, tmpfs). 0 or -errno. */
int write_file(const char *path, const char *text);
/* The same through an open descriptor: at offset 0, cut to the new length. */
int rewrite_fd(int fd, const void *data, size_t len);
/* Reads up to size - 1 bytes, NUL-terminated. Bytes read or -errno. */
ssize_t read_file(const char *path, char *buf, size_t size);
ssize_t read_fd(int fd, char *buf, size_t size);
/* mkdir -p; 0 or -errno. */
int make_dirs(const char *path, unsigned mode);
/* Decimal number in text that ends at NUL or white space. */
bool parse_u64(const char *s, uint64_t max, uint64_t *ret);
/* One line on the console: only for what the host cannot be told otherwise. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t realtime_ns(void);
/* ioctl() with the same type for the request in every libc. */
int do_ioctl(int fd, unsigned long op, void *arg);

#endif
