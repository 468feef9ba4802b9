// SPDX-License-Identifier: Apache-2.0
/*
 * What somebody prints byte by byte, as a file that grows in whole lines up to
 * a limit, with the end of it kept in memory. The bytes are a stranger's. No
 * lock of its own.
 */
#ifndef DORMOUSE_BASE_LINELOG_H
#define DORMOUSE_BASE_LINELOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINELOG_LINE 256u
#define LINELOG_TAIL 1024u

struct linelog {
    int fd;                  /* -1: nowhere */
    uint64_t limit;          /* bytes written at most; 0: no limit */
    bool direct;             /* each byte at once, not each line */
    const char *watch;       /* call `seen` once when this is printed, or NULL */
    void (*seen)(void *ctx); /* in linelog_put() */
    void *seen_ctx;

    uint64_t written;
    char line[LINELOG_LINE];
    unsigned line_len;
    char tail[LINELOG_TAIL];
    uint64_t tail_len; /* bytes ever printed */
    unsigned matched;  /* of watch */
};

void linelog_put(struct linelog *l, char ch);
/* Writes out an unfinished line. */
void linelog_flush(struct linelog *l);
/* The last bytes printed, NUL-terminated. */
void linelog_tail(const struct linelog *l, char *ret, size_t size);

#endif
