// SPDX-License-Identifier: Apache-2.0
/* From a table to a program for the kernel; see filter.h. */
#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __aarch64__
#define OUR_ARCH AUDIT_ARCH_AARCH64
#elif defined __x86_64__
#define OUR_ARCH AUDIT_ARCH_X86_64
#endif

#define FILTER_MAX 640u
#define NEAR_RULES 40u
#define TO_LISTED  255u

struct filter {
    struct sock_filter ins[FILTER_MAX];
    unsigned short n;
};

static void emit(struct filter *f, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    if (f->n < FILTER_MAX)
        f->ins[f->n++] = (struct sock_filter){code, yes, no, k};
}

static void ret(struct filter *f, uint32_t action)
{
    emit(f, BPF_RET | BPF_K, action, 0, 0);
}

static void load_arg(struct filter *f, unsigned arg)
{
    emit(f, BPF_LD | BPF_W | BPF_ABS, /* the low half: little-endian */
         (uint32_t)(offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t)), 0, 0);
}

/* What follows when the call is rule's: most are allowed, some depend on an argument. */
static void one_rule(struct filter *f, const struct filter_rule *rule)
{
    if (rule->nvalues || rule->with || rule->without)
        load_arg(f, rule->arg);
    if (rule->error) {
        ret(f, SECCOMP_RET_ERRNO | ((uint32_t)rule->error & SECCOMP_RET_DATA));
    } else if (rule->nvalues) {
        for (unsigned k = 0; k < rule->nvalues; k++) {
            emit(f, BPF_JMP | BPF_JEQ | BPF_K, rule->values[k], 0, 1);
            ret(f, SECCOMP_RET_ALLOW);
        }
        ret(f, SECCOMP_RET_TRAP);
    } else if (rule->with) {
        emit(f, BPF_ALU | BPF_AND | BPF_K, rule->with, 0, 0);
        emit(f, BPF_JMP | BPF_JEQ | BPF_K, rule->with, 1, 0);
        ret(f, SECCOMP_RET_TRAP);
    } else if (rule->without) {
        emit(f, BPF_JMP | BPF_JSET | BPF_K, rule->without, 0, 1);
        ret(f, SECCOMP_RET_TRAP);
    }
    ret(f, SECCOMP_RET_ALLOW);
}

/* A binary search: the kernel tries each filter with every call's number when it is installed,
 * so a long chain costs at start-up, too. rules[0..n) are sorted. */
static void search(struct filter *f, const struct filter_rule *rules, unsigned n)
{
    unsigned short at = f->n;
    if (n == 1) {
        emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rules->nr, 1, 0);
        ret(f, SECCOMP_RET_TRAP);
        one_rule(f, rules);
        return;
    }
    /* Conditional jumps reach 255 instructions; in a long table one more goes any distance. */
    bool far = n > NEAR_RULES;
    emit(f, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)rules[n / 2].nr, 0, far);
    if (far)
        emit(f, BPF_JMP | BPF_JA, 0, 0, 0);
    search(f, rules, n / 2);
    unsigned distance = f->n - at - 1u;
    if (far && at + 1u < FILTER_MAX)
        f->ins[at + 1].k = distance - 1;
    else if (!far && distance <= UINT8_MAX)
        f->ins[at].jt = (uint8_t)distance;
    else
        f->n = FILTER_MAX; /* told as too long */
    search(f, rules + n / 2, n - n / 2);
}

static int by_number(const void *a, const void *b)
{
    return ((const struct filter_rule *)a)->nr - ((const struct filter_rule *)b)->nr;
}

static int install(const struct sock_filter *ins, unsigned short n, struct err *e)
{
    struct sock_fprog prog = {.len = n, .filter = (struct sock_filter *)(uintptr_t)ins};
    if (n == FILTER_MAX)
        return err_set(e, E2BIG, "the system call filter is too long");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
        return err_sys(e, errno, "install the system call filter");
    return 0;
}

int filter_enter(const struct filter_rule *rules, unsigned n, struct err *e)
{
    struct filter_rule sorted[FILTER_RULES_MAX];
    struct filter f = {.n = 0};
    if (n == 0 || n > FILTER_RULES_MAX)
        return err_set(e, E2BIG, "the table of system calls is too long");
    memcpy(sorted, rules, n * sizeof sorted[0]);
    qsort(sorted, n, sizeof sorted[0], by_number);
    for (unsigned i = 1; i < n; i++) {
        if (sorted[i].nr == sorted[i - 1].nr)
            return err_set(e, EINVAL, "system call %d is listed twice", sorted[i].nr);
    }
    emit(&f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    emit(&f, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
    ret(&f, SECCOMP_RET_KILL_PROCESS);
    emit(&f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    search(&f, sorted, n);
    return install(f.ins, f.n, e);
}

static bool any_between(const struct filter_rule *rules, unsigned n, int from, int to)
{
    for (unsigned i = 0; i < n; i++) {
        if (rules[i].nr > from && rules[i].nr < to)
            return true;
    }
    return false;
}

/* The next number of `rules` after `nr` that has no values, or -1. */
static int number_after(const struct filter_rule *rules, unsigned n, int nr)
{
    int best = -1;
    for (unsigned i = 0; i < n; i++) {
        if (!rules[i].nvalues && rules[i].nr > nr && (best < 0 || rules[i].nr < best))
            best = rules[i].nr;
    }
    return best;
}

/* Calls with values first, then one comparison for each of the others, or two for all between
 * which is none of `apart`. Jumps to the verdicts get their distance at the end. */
int filter_narrow(struct filter_narrow *res, const struct filter_rule *rules, unsigned n,
                  bool keep, const struct filter_rule *apart, unsigned napart, struct err *e)
{
    struct filter f = {.n = 0};
    const uint32_t listed = keep ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP;
    const uint32_t other = keep ? SECCOMP_RET_TRAP : SECCOMP_RET_ALLOW;
    emit(&f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    for (unsigned i = 0; i < n; i++) {
        if (!rules[i].nvalues)
            continue;
        emit(&f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rules[i].nr, 0,
             (uint8_t)(rules[i].nvalues + 2));
        load_arg(&f, rules[i].arg);
        for (unsigned k = 0; k < rules[i].nvalues; k++)
            emit(&f, BPF_JMP | BPF_JEQ | BPF_K, rules[i].values[k], TO_LISTED, 0);
        ret(&f, other);
    }
    for (int from = number_after(rules, n, -1), to; from >= 0;
         from = number_after(rules, n, to)) {
        int next = to = from;
        while (napart && (next = number_after(rules, n, to)) >= 0 &&
               !any_between(apart, napart, to, next))
            to = next;
        if (to > from)
            emit(&f, BPF_JMP | BPF_JGT | BPF_K, (uint32_t)to, 1, 0);
        emit(&f, BPF_JMP | (to > from ? BPF_JGE : BPF_JEQ) | BPF_K, (uint32_t)from, TO_LISTED,
             0);
    }
    ret(&f, other);
    for (unsigned i = 0; i < f.n; i++) {
        if (f.ins[i].jt == TO_LISTED)
            f.ins[i].jt = (uint8_t)(f.n - i - 1);
    }
    ret(&f, listed);
    if (f.n > FILTER_NARROW_MAX)
        return err_set(e, E2BIG, "the system call filter is too long");
    res->n = f.n;
    memcpy(res->ins, f.ins, f.n * sizeof f.ins[0]);
    return 0;
}

int filter_narrow_enter(const struct filter_narrow *f, struct err *e)
{
    return install(f->ins, f->n, e);
}

void filter_refused(const char *program, const siginfo_t *info)
{
    char line[96] = "";
    static const char middle[] = ": refused system call ";
    size_t len = strnlen(program, 32);
    unsigned nr = (unsigned)info->si_syscall;
    memcpy(line, program, len);
    memcpy(line + len, middle, sizeof middle - 1);
    len += sizeof middle - 1;
    for (unsigned i = 0; i < 3; i++, nr /= 10)
        line[len + 2 - i] = (char)('0' + nr % 10);
    line[len + 3] = '\n';
    ssize_t n = write(STDERR_FILENO, line, len + 4);
    (void)n;
    _exit(128 + SIGSYS);
}
