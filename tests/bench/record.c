// SPDX-License-Identifier: Apache-2.0
/* Samples, and what becomes of them: a table for people, a line of JSON for programs. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"
#include "record.h"

#define SERIES_MAX  1024
#define SAMPLES_MAX 64

static struct series {
    char name[32], params[128], metric[24], unit[16], who[16];
    double v[SAMPLES_MAX];
    unsigned n;
} series[SERIES_MAX];
static unsigned nseries;

static struct series *find(const char *name, const char *params, const char *metric,
                           const char *who)
{
    for (unsigned i = 0; i < nseries; i++) {
        struct series *s = &series[i];
        if (strcmp(s->name, name) == 0 && strcmp(s->params, params) == 0 &&
            strcmp(s->metric, metric) == 0 && strcmp(s->who, who) == 0)
            return s;
    }
    return NULL;
}

static struct series *make(const char *name, const char *params, const char *metric,
                           const char *unit, const char *who)
{
    struct series *s = find(name, params, metric, who);
    if (!s) {
        if (nseries == SERIES_MAX)
            return NULL;
        s = &series[nseries++];
        snprintf(s->name, sizeof s->name, "%s", name);
        snprintf(s->params, sizeof s->params, "%s", params);
        snprintf(s->metric, sizeof s->metric, "%s", metric);
        snprintf(s->unit, sizeof s->unit, "%s", unit);
        snprintf(s->who, sizeof s->who, "%s", who);
    }
    return s;
}

void rec(const char *name, const char *params, const char *metric, const char *unit,
         const char *who, double value)
{
    struct series *s = make(name, params, metric, unit, who);
    if (s && s->n < SAMPLES_MAX)
        s->v[s->n++] = value;
}

void rec_missing(const char *name, const char *params, const char *metric, const char *unit,
                 const char *who)
{
    make(name, params, metric, unit, who);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const struct series *s)
{
    return s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2;
}

static void missing(FILE *f, const struct series *s, const char *clock)
{
    fprintf(f,
            "{\"case\":\"%s\",\"params\":%s,\"metric\":\"%s\",\"unit\":\"%s\","
            "\"median\":null,\"min\":null,\"max\":null,\"runs\":0,\"clock\":\"%s\","
            "\"peer\":null,\"peer_median\":null,\"ratio\":null}\n",
            s->name, s->params, s->metric, s->unit, clock);
    printf("%-16s %-46s %-9s    missing\n", s->name, s->params, s->metric);
}

static void line(FILE *f, const struct series *s, const char *clock, const char *peer,
                 const struct series *p)
{
    fprintf(f,
            "{\"case\":\"%s\",\"params\":%s,\"metric\":\"%s\",\"unit\":\"%s\",\"median\":%.6g,"
            "\"min\":%.6g,\"max\":%.6g,\"runs\":%u,\"clock\":\"%s\",",
            s->name, s->params, s->metric, s->unit, median(s), s->v[0], s->v[s->n - 1], s->n,
            clock);
    if (!peer)
        fprintf(f, "\"peer\":null,\"peer_median\":null,\"ratio\":null}\n");
    else if (!p || median(p) == 0)
        fprintf(f, "\"peer\":\"%s\",\"peer_median\":null,\"ratio\":null}\n", peer);
    else
        fprintf(f, "\"peer\":\"%s\",\"peer_median\":%.6g,\"ratio\":%.4g}\n", peer, median(p),
                median(s) / median(p));
}

static void row(const struct series *s, const char *peer, const struct series *p)
{
    char other[64] = "";
    if (p)
        snprintf(other, sizeof other, "%s %.4g (%.3gx)", peer, median(p),
                 median(s) / median(p));
    else if (peer)
        snprintf(other, sizeof other, "%s missing", peer);
    printf("%-16s %-46s %-9s %10.5g %-6s %10.5g %10.5g %3u  %s\n", s->name, s->params,
           s->metric, median(s), s->unit, s->v[0], s->v[s->n - 1], s->n, other);
}

static char compared[32][32];
static unsigned ncompared;

static bool is_compared(const char *name)
{
    for (unsigned i = 0; i < ncompared; i++) {
        if (strcmp(compared[i], name) == 0)
            return true;
    }
    return false;
}

void rec_compared(const char *name)
{
    if (!is_compared(name) && ncompared < ARRAY_LEN(compared))
        snprintf(compared[ncompared++], sizeof compared[0], "%s", name);
}

/* A peer that ran this case has its figure; one that was not there shows as missing. */
static bool has_line(const struct series *s, const char *peer, const struct series *p)
{
    if (p)
        return true;
    for (unsigned i = 0; i < nseries; i++) {
        if (strcmp(series[i].who, peer) == 0)
            return false; /* it is there, but has no such figure */
    }
    return is_compared(s->name);
}

bool rec_write(const char *path, const char *clock, const char *const *peers, unsigned npeers)
{
    AUTO_FCLOSE FILE *f = fopen(path, "we");
    if (!f)
        return false;
    for (unsigned i = 0; i < nseries; i++)
        qsort(series[i].v, series[i].n, sizeof(double), by_value);
    printf("%-16s %-46s %-9s %10s %-6s %10s %10s %3s  %s\n", "case", "params", "metric",
           "median", "unit", "min", "max", "n", "peer median (ours/peer)");
    for (unsigned i = 0; i < nseries; i++) {
        const struct series *s = &series[i];
        unsigned lines = 0;
        if (strcmp(s->who, "dormouse") != 0)
            continue;
        if (s->n == 0) {
            missing(f, s, clock);
            continue;
        }
        for (unsigned k = 0; k < npeers; k++) {
            const struct series *p = find(s->name, s->params, s->metric, peers[k]);
            if (p && p->n == 0)
                p = NULL;
            if (!has_line(s, peers[k], p))
                continue;
            line(f, s, clock, peers[k], p);
            row(s, peers[k], p);
            lines++;
        }
        if (!lines) {
            line(f, s, clock, NULL, NULL);
            row(s, NULL, NULL);
        }
    }
    return !ferror(f);
}

/* ---- what all parts of a driver need ---- */

uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

unsigned complaints;

void complain(const char *fmt, ...)
{
    va_list ap;
    printf("# ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
    complaints++;
}
