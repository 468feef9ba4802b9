// SPDX-License-Identifier: Apache-2.0
/*
 * The error object. A function that can fail takes `struct err *e` last and
 * returns a negative errno; on success it leaves `e` alone. `e` may be NULL.
 * Fixed size: reporting an error never allocates. Libraries fill it in, only
 * programs print it.
 */
#ifndef DORMOUSE_BASE_ERR_H
#define DORMOUSE_BASE_ERR_H

struct err {
    int num;        /* positive errno, 0 when empty */
    char msg[400];  /* what failed, outermost context first */
    char hint[200]; /* what the user can do about it, or empty */
};

#define ERR_INIT \
    {            \
        .num = 0 \
    }

/* Sets the error and returns -errnum (errnum is positive). With errnum from a
 * system call ": strerror" is appended to the message. */
int err_sys(struct err *e, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same without strerror: for findings of our own. */
int err_set(struct err *e, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "context: " in front of the message; returns the error's -errno. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a remedy; returns the error's -errno. */
int err_hint(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_clear(struct err *e);

#endif
