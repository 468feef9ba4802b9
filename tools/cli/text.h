// SPDX-License-Identifier: Apache-2.0
/*
 * Text for people: tables, sizes, ages, and the filter that keeps a stranger's
 * text from steering the terminal. Pure but for text_print().
 */
#ifndef DORMOUSE_CLI_TEXT_H
#define DORMOUSE_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "../../hypervisor/base/buf.h"

/* Appends the bytes; control characters other than newline and tab become '?'. Letters of all
 * scripts stay; C1 controls do not. */
void text_clean(struct buf *b, const char *data, size_t len);
/* Writes to a terminal cleaned, to anything else as it is. */
void text_print(FILE *to, const char *data, size_t len, bool clean);

void human_size(uint64_t bytes, char ret[24]); /* "31 MB", as disks count: powers of 1000 */
void human_age(double seconds, char ret[24]);  /* "3m", "2h", "5d" */
void human_time(double epoch, char ret[40]);   /* RFC 3339, UTC, with milliseconds */
unsigned text_width(const char *s);            /* characters of UTF-8 */

#define TABLE_COLUMNS 8u
struct table {
    size_t ncols;
    const char *heads[TABLE_COLUMNS];
    char **cells; /* rows * ncols */
    size_t nrows, cap;
    bool bad;
};
/* heads: names of the columns, NULL at the end. */
void table_init(struct table *t, const char *const *heads);
void table_row(struct table *t, const char *const *cells);
/* The columns aligned, two blanks apart, none at the line's end. No rows: nothing. */
void table_format(const struct table *t, struct buf *b);
void table_free(struct table *t);

#endif
