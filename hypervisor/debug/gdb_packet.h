// SPDX-License-Identifier: Apache-2.0
/*
 * The GDB remote protocol as text: framing, numbers, thread ids, the commands
 * with a grammar of their own. Pure functions, used by gdb.c. Whoever reaches
 * the debugger's socket controls the guest, but not the VMM: every byte is
 * checked.
 */
#ifndef DORMOUSE_DEBUG_GDB_PACKET_H
#define DORMOUSE_DEBUG_GDB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/buf.h"

#define GDB_PACKET_MAX 4096u

enum gdb_event {
    GDB_NOTHING,   /* more bytes are needed */
    GDB_PACKET,    /* text[0..len) is one, NUL-terminated */
    GDB_INTERRUPT, /* ctrl-C */
    GDB_REJECTED,  /* a wrong checksum, or too long: ask for it again */
    GDB_RESEND,    /* the other side asks for the last packet again */
};

struct gdb_input {
    char text[GDB_PACKET_MAX + 1];
    size_t len;
    enum { GDB_OUTSIDE, GDB_INSIDE, GDB_ESCAPED, GDB_SUM_1, GDB_SUM_2 } state;
    uint8_t sum, want;
    bool bad;
};

enum gdb_event gdb_feed(struct gdb_input *in, uint8_t byte);
/* Appends "$text#sum". */
void gdb_frame(struct buf *out, const void *text, size_t len);

/* A hexadecimal number of 1 to 16 digits; moves *p behind it. */
bool gdb_number(const char **p, uint64_t *ret);
/* "a<sep>b" */
bool gdb_pair(const char **p, char sep, uint64_t *a, uint64_t *b);
/* Exactly `len` bytes as 2 * len digits; moves *p behind them. */
bool gdb_bytes(const char **p, uint8_t *ret, size_t len);
void gdb_put_bytes(struct buf *out, const void *data, size_t len);

#define GDB_ALL_THREADS (-1)
/* A thread: its number (from 1), 0: any, GDB_ALL_THREADS. */
bool gdb_thread(const char **p, int *ret);

enum gdb_action { GDB_STAY, GDB_CONTINUE, GDB_STEP };
/* What vCont wants of each of n threads: the first action that names it, else GDB_STAY.
 * `text` is behind "vCont". */
bool gdb_vcont(const char *text, enum gdb_action *ret, unsigned n);

#endif
