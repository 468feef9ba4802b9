// SPDX-License-Identifier: Apache-2.0
/*
 * Makes tables of what tools/tcgtrace.c recorded; called by tools/restore-trace.sh.
 *     tracesum TRACE PHASES NAME=SYMBOLS...
 * SYMBOLS are lines `ADDRESS TYPE NAME`, as nm and /proc/kallsyms write them; the program
 * called `kernel` has all addresses above the middle, and functions that `library` has too are
 * taken for tools of those that call them. PHASES are lines `PHASE [PROGRAM/]FUNCTION`: a
 * phase begins when one of its functions does and ends with the next. The last recording
 * counts.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAMS_MAX 8
#define PHASES_MAX   64
#define KERNEL_BASE  0xffff000000000000u
#define ROWS         40
#define FAR          0x40000u /* no function is as long: there is no symbol */
#define LIBRARY_MAX  8192

struct symbol {
    uint64_t at;
    unsigned program;
    char name[56];
    bool library;
    uint64_t self, below; /* instructions: its own, and on its behalf: kernel, library */
};

static struct symbol *symbols;
static size_t nsymbols;
static struct symbol unknown[2] = {{.name = "(no symbol)"}, {.name = "(no symbol)"}};
static char library[LIBRARY_MAX][56];
static size_t nlibrary;
static const char *programs[PROGRAMS_MAX];
static unsigned nprograms;

static struct phase {
    char name[24], function[56];
    uint64_t self;
    bool known;
} phases[PHASES_MAX];
static unsigned nphases;

static void fail(const char *what)
{
    fprintf(stderr, "error: %s\n", what);
    exit(1);
}

static void read_symbols(const char *arg)
{
    char line[512], name[256], type;
    char *path = strchr(arg, '=');
    uint64_t at;
    if (!path || nprograms == PROGRAMS_MAX)
        fail("symbols are given as NAME=FILE");
    *path++ = '\0';
    bool lib = strcmp(arg, "library") == 0;
    FILE *f = fopen(path, "re");
    if (!f)
        fail("the symbols cannot be read");
    if (!lib)
        programs[nprograms] = arg;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%" SCNx64 " %c %255s", &at, &type, name) != 3 ||
            !strchr("tTwW", type) || name[0] == '$')
            continue;
        if (lib) {
            if (nlibrary < LIBRARY_MAX)
                snprintf(library[nlibrary++], sizeof library[0], "%.55s", name);
            continue;
        }
        if (at == 0)
            continue;
        if (nsymbols % 4096 == 0 &&
            !(symbols = realloc(symbols, (nsymbols + 4096) * sizeof *symbols)))
            fail("out of memory");
        struct symbol *s = &symbols[nsymbols++];
        memset(s, 0, sizeof *s);
        s->at = at;
        s->program = nprograms;
        snprintf(s->name, sizeof s->name, "%.55s", name);
    }
    fclose(f);
    nprograms += !lib;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void mark_library(void)
{
    qsort(library, nlibrary, sizeof library[0], by_name);
    for (size_t i = 0; i < nsymbols; i++)
        symbols[i].library =
            symbols[i].at < KERNEL_BASE &&
            bsearch(symbols[i].name, library, nlibrary, sizeof library[0], by_name) != NULL;
}

static int by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return x->at != y->at ? (x->at > y->at) - (x->at < y->at) : strcmp(x->name, y->name);
}

/* The last symbol at or before; user programs lie apart, so that no name is another's. */
static struct symbol *find(uint64_t at)
{
    size_t lo = 0, hi = nsymbols;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (symbols[mid].at <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    while (lo > 1 && symbols[lo - 2].at == symbols[lo - 1].at)
        lo--; /* of several names the first */
    return lo && at - symbols[lo - 1].at < FAR ? &symbols[lo - 1] : &unknown[at >= KERNEL_BASE];
}

static bool is_called(const struct symbol *s, const char *function)
{
    const char *slash = strchr(function, '/');
    if (!slash)
        return strcmp(s->name, function) == 0;
    size_t n = (size_t)(slash - function);
    const char *program = programs[s->program];
    return strncmp(program, function, n) == 0 && program[n] == '\0' &&
           strcmp(s->name, slash + 1) == 0;
}

static void read_phases(const char *path)
{
    FILE *f = fopen(path, "re");
    char line[256];
    if (!f)
        fail("the phases cannot be read");
    snprintf(phases[nphases++].name, sizeof phases[0].name, "before");
    while (nphases < PHASES_MAX && fgets(line, sizeof line, f)) {
        struct phase *p = &phases[nphases];
        if (line[0] == '#' || sscanf(line, "%23s %55s", p->name, p->function) != 2)
            continue;
        for (size_t i = 0; i < nsymbols && !p->known; i++)
            p->known = is_called(&symbols[i], p->function);
        if (!p->known)
            printf("note: there is no function %s: phase %s is part of the one before\n",
                   p->function, p->name);
        nphases++;
    }
    fclose(f);
}

/* A phase begins where its function does, not where it goes on. */
static unsigned phase_of(const struct symbol *s, uint64_t at, unsigned now)
{
    for (unsigned i = 1; s && at == s->at && i < nphases; i++) {
        if (is_called(s, phases[i].function))
            return i;
    }
    return now;
}

static uint64_t sum_up(FILE *f)
{
    char line[128];
    uint64_t at, n, total = 0;
    unsigned phase = 0;
    struct symbol *user = NULL;
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "begin", 5) == 0) {
            total = 0;
            phase = 0;
            user = NULL;
            for (size_t i = 0; i < nsymbols; i++)
                symbols[i].self = symbols[i].below = 0;
            unknown[0].self = unknown[1].self = unknown[0].below = 0;
            for (unsigned i = 0; i < nphases; i++)
                phases[i].self = 0;
            continue;
        }
        if (sscanf(line, "%" SCNx64 " %" SCNu64, &at, &n) != 2 || strncmp(line, "end", 3) == 0)
            continue;
        struct symbol *s = find(at);
        bool kernel = at >= KERNEL_BASE;
        total += n;
        s->self += n;
        phase = phase_of(s, at, phase);
        phases[phase].self += n;
        if (!kernel && !s->library)
            user = s;
        else if (user)
            user->below += n;
    }
    return total;
}

static int by_self(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return (x->self < y->self) - (x->self > y->self);
}

static int by_both(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    uint64_t p = x->self + x->below, q = y->self + y->below;
    return (p < q) - (p > q);
}

static void print_phases(uint64_t total)
{
    printf("%-24s %12s %6s\n", "phase", "instructions", "%");
    for (unsigned i = 0; i < nphases; i++) {
        uint64_t sum = 0;
        bool first = true;
        for (unsigned k = 0; k < nphases; k++) {
            if (strcmp(phases[k].name, phases[i].name) != 0)
                continue;
            sum += phases[k].self;
            first = first && k >= i;
        }
        if (first && sum)
            printf("%-24s %12" PRIu64 " %6.1f\n", phases[i].name, sum,
                   100.0 * (double)sum / (double)total);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4)
        fail("usage: tracesum TRACE PHASES NAME=SYMBOLS...");
    for (int i = 3; i < argc; i++)
        read_symbols(argv[i]);
    qsort(symbols, nsymbols, sizeof *symbols, by_address);
    mark_library();
    read_phases(argv[2]);
    FILE *f = fopen(argv[1], "re");
    uint64_t total = f ? sum_up(f) : 0;
    if (total == 0)
        fail("nothing was recorded");
    printf("%" PRIu64 " instructions in all\n\n", total);
    print_phases(total);
    qsort(symbols, nsymbols, sizeof *symbols, by_both);
    printf("\n%-10s %-44s %12s %12s %6s\n", "program", "function of a program", "own",
           "below it", "%");
    size_t rows = 0;
    for (size_t i = 0; i < nsymbols && rows < ROWS; i++) {
        const struct symbol *s = &symbols[i];
        if (s->at >= KERNEL_BASE || s->library || s->self + s->below == 0)
            continue;
        printf("%-10s %-44s %12" PRIu64 " %12" PRIu64 " %6.1f\n", programs[s->program], s->name,
               s->self, s->below, 100.0 * (double)(s->self + s->below) / (double)total);
        rows++;
    }
    qsort(symbols, nsymbols, sizeof *symbols, by_self);
    printf("\n%-10s %-44s %12s %6s\n", "", "function of the kernel", "own", "%");
    rows = 0;
    for (size_t i = 0; i < nsymbols && rows < ROWS && symbols[i].self; i++) {
        if (symbols[i].at < KERNEL_BASE)
            continue;
        printf("%-10s %-44s %12" PRIu64 " %6.1f\n", programs[symbols[i].program],
               symbols[i].name, symbols[i].self,
               100.0 * (double)symbols[i].self / (double)total);
        rows++;
    }
    printf("%-10s %-44s %12" PRIu64 "\n", "kernel", unknown[1].name, unknown[1].self);
    return 0;
}
