// SPDX-License-Identifier: Apache-2.0
/*
 * System call filters from tables of allowed calls, each with its reason. The
 * VMM (hypervisor/seccomp.c) and the daemon's network-facing process
 * (api/confine_calls.c) have their tables; a call that is not in the table, or
 * has other arguments, raises SIGSYS.
 */
#ifndef DORMOUSE_BASE_FILTER_H
#define DORMOUSE_BASE_FILTER_H

#include <linux/filter.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"

#define FILTER_RULES_MAX 128u

/* At most one of `values`, `with` and `without` looks at the low half of argument `arg`. */
struct filter_rule {
    int nr;
    const char *why;
    int error; /* not 0: the call fails with this errno, and nothing else happens */
    unsigned arg;
    const uint32_t *values; /* it is one of these */
    unsigned nvalues;
    uint32_t with;    /* it has all of these bits */
    uint32_t without; /* it has none of these bits */
};

/* A row of a table: CALL(read, "files"), CALL(mmap, "heap", .arg = 2, .without = PROT_EXEC). */
#define CALL(name, reason, ...)                                    \
    {                                                              \
        .nr = SYS_##name, .why = reason __VA_OPT__(, ) __VA_ARGS__ \
    }

/* Filters the calling thread and those it starts, for good. Needs no_new_privs. */
int filter_enter(const struct filter_rule *rules, unsigned n, struct err *e);
/* Of what an earlier filter lets through, only these calls (`keep`), or all but these. Short,
 * so that it costs little to install. Rules may have values; the first one is the dearest to
 * check. `apart`: all other calls that the earlier filter lets through; those which it refuses
 * anyway may count as listed, so that ranges take the place of numbers. */
#define FILTER_NARROW_MAX 64u
struct filter_narrow {
    unsigned short n;
    struct sock_filter ins[FILTER_NARROW_MAX];
};
int filter_narrow(struct filter_narrow *res, const struct filter_rule *rules, unsigned n,
                  bool keep, const struct filter_rule *apart, unsigned napart, struct err *e);
int filter_narrow_enter(const struct filter_narrow *f, struct err *e);
/* For a handler of SIGSYS: one line on stderr that names the call, then the process ends with
 * status 128 + SIGSYS. */
_Noreturn void filter_refused(const char *program, const siginfo_t *info);

#endif
