// SPDX-License-Identifier: Apache-2.0
/* Samples of the benchmarks, and what becomes of them. */
#ifndef DORMOUSE_TESTS_BENCH_RECORD_H
#define DORMOUSE_TESTS_BENCH_RECORD_H

#include <stdbool.h>
#include <stdint.h>

/* One sample. `params` is a JSON object, `who` the name of the monitor. */
void rec(const char *name, const char *params, const char *metric, const char *unit,
         const char *who, double value);
/* A figure that there should be, and that nothing here can measure: shown as missing until
 * there is a sample. */
void rec_missing(const char *name, const char *params, const char *metric, const char *unit,
                 const char *who);
/* This case is one that peers run too: a peer without samples is shown as missing. */
void rec_compared(const char *name);
/* The table to stdout, the lines to `path`. */
bool rec_write(const char *path, const char *clock, const char *const *peers, unsigned npeers);

uint64_t now_ns(void);
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern unsigned complaints;

#define MS(ns) ((double)(ns) / 1e6)

/* A VMM out of the nursery, with this control socket; -1 on failure. After some of them the
 * nursery is replaced: dormouse_rest() is for that, between two measurements. dormouse.c. */
int dormouse_spawn(int ctl);
void dormouse_rest(void);
/* dormouse-init and an application in it: init.c. `traced`: only what tools/restore-trace.sh
 * looks at. */
void bench_init(const char *kernel, const char *initrd, const char *root, const char *dir,
                unsigned runs, bool traced);
/* From the restored guest's first instruction to the application's: thaw.c. */
void bench_thaw(const char *vmm, const char *kernel, const char *initrd, const char *root,
                const char *dir, unsigned runs, bool traced);

#endif
