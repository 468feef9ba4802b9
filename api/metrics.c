// SPDX-License-Identifier: Apache-2.0
/* Counters and histograms; see metrics.h. */
#include "metrics.h"

#include <inttypes.h>
#include <stdlib.h>

#include "../hypervisor/base/mem.h"

#define OPERATIONS_MAX 128u
#define CLASSES        3u /* of statuses: good, the client's fault, ours */

/* Upper bounds in microseconds. */
static const uint32_t bounds[] = {500,    1000,    2000,    3000,    5000,     7500,
                                  10000,  15000,   25000,   50000,   100000,   250000,
                                  500000, 1000000, 2500000, 5000000, 10000000, 60000000};
#define BOUNDS ARRAY_LEN(bounds)

struct histogram {
    uint64_t in[BOUNDS + 1]; /* the last: above all bounds */
    uint64_t sum_ns;
};

struct metrics {
    struct histogram phases[METRIC_PHASE_COUNT];
    struct histogram doors[DOOR_COUNT];
    uint64_t statuses[DOOR_COUNT][CLASSES];
    struct {
        uint64_t n[FLATTEN_COUNT], layers, bytes, ns;
    } flatten;
    struct {
        uint64_t runs, pages, beyond, recorded, failed;
    } worksets;
    const char *const *names;
    unsigned noperations;
    uint64_t operations[OPERATIONS_MAX][CLASSES];
};

static const struct {
    const char *action, *phase;
} phase_names[] = {
#define PHASE(action, phase) {#action, #phase},
#include "phases.def"
#undef PHASE
};
static const char *const door_names[DOOR_COUNT] = {"api", "s3", "endpoint", "health", "other"};
static const char *const flatten_names[FLATTEN_COUNT] = {"done", "dropped", "failed"};
static const char *const class_names[CLASSES] = {"ok", "client_error", "server_error"};

struct metrics *metrics_new(const char *const *operations, unsigned n)
{
    struct metrics *m = n <= OPERATIONS_MAX ? calloc(1, sizeof *m) : NULL;
    if (m) {
        m->names = operations;
        m->noperations = n;
    }
    return m;
}

void metrics_free(struct metrics *m)
{
    free(m);
}

static void add(uint64_t *to, uint64_t n)
{
    __atomic_add_fetch(to, n, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *from)
{
    return __atomic_load_n(from, __ATOMIC_RELAXED);
}

static void observe(struct histogram *h, uint64_t ns)
{
    size_t i = 0;
    while (i < BOUNDS && ns > (uint64_t)bounds[i] * 1000)
        i++;
    add(&h->in[i], 1);
    add(&h->sum_ns, ns);
}

static unsigned class_of(int status)
{
    return status >= 500 ? 2 : status >= 400 ? 1 : 0;
}

void metrics_phase(struct metrics *m, enum metric_phase p, uint64_t ns)
{
    if (m && p < METRIC_PHASE_COUNT)
        observe(&m->phases[p], ns);
}

void metrics_request(struct metrics *m, enum metric_door d, int status, uint64_t ms)
{
    if (!m || d >= DOOR_COUNT)
        return;
    add(&m->statuses[d][class_of(status)], 1);
    observe(&m->doors[d], ms * 1000000);
}

void metrics_operation(struct metrics *m, unsigned operation, int status)
{
    if (m && operation < m->noperations)
        add(&m->operations[operation][class_of(status)], 1);
}

void metrics_flatten(struct metrics *m, enum metric_flatten how, unsigned layers,
                     uint64_t bytes, uint64_t ns)
{
    if (!m || how >= FLATTEN_COUNT)
        return;
    add(&m->flatten.n[how], 1);
    add(&m->flatten.ns, ns);
    if (how == FLATTEN_DONE) {
        add(&m->flatten.layers, layers);
        add(&m->flatten.bytes, bytes);
    }
}

static void counter(struct buf *b, const char *name, const char *help)
{
    buf_printf(b, "# HELP dormouse_%s %s\n# TYPE dormouse_%s counter\n", name, help, name);
}

static void write_flatten(const struct metrics *m, struct buf *b)
{
    counter(b, "flatten_total",
            "Chains of disk layers that were made shorter in the background.");
    for (unsigned i = 0; i < FLATTEN_COUNT; i++)
        buf_printf(b, "dormouse_flatten_total{outcome=\"%s\"} %" PRIu64 "\n", flatten_names[i],
                   get(&m->flatten.n[i]));
    counter(b, "flatten_layers_total", "Disk layers that were joined to others.");
    buf_printf(b, "dormouse_flatten_layers_total %" PRIu64 "\n", get(&m->flatten.layers));
    counter(b, "flatten_bytes_total", "Bytes of the layers that took their place.");
    buf_printf(b, "dormouse_flatten_bytes_total %" PRIu64 "\n", get(&m->flatten.bytes));
    counter(b, "flatten_seconds_total", "Time that it took.");
    buf_printf(b, "dormouse_flatten_seconds_total %.6f\n", (double)get(&m->flatten.ns) / 1e9);
}

void metrics_touched(struct metrics *m, uint64_t pages, uint64_t beyond)
{
    if (!m)
        return;
    add(&m->worksets.runs, 1);
    add(&m->worksets.pages, pages);
    add(&m->worksets.beyond, beyond);
}

void metrics_recorded(struct metrics *m, bool done)
{
    if (m)
        add(done ? &m->worksets.recorded : &m->worksets.failed, 1);
}

static void write_worksets(const struct metrics *m, struct buf *b)
{
    counter(b, "workset_runs_total", "Runs whose pages were compared with the working set.");
    buf_printf(b, "dormouse_workset_runs_total %" PRIu64 "\n", get(&m->worksets.runs));
    counter(b, "workset_pages_total", "Pages that their working sets had.");
    buf_printf(b, "dormouse_workset_pages_total %" PRIu64 "\n", get(&m->worksets.pages));
    counter(b, "workset_beyond_pages_total",
            "Pages they touched beyond, up to the first answer.");
    buf_printf(b, "dormouse_workset_beyond_pages_total %" PRIu64 "\n",
               get(&m->worksets.beyond));
    counter(b, "workset_recorded_total", "Working sets that were recorded again.");
    buf_printf(b,
               "dormouse_workset_recorded_total{outcome=\"done\"} %" PRIu64 "\n"
               "dormouse_workset_recorded_total{outcome=\"failed\"} %" PRIu64 "\n",
               get(&m->worksets.recorded), get(&m->worksets.failed));
}

static void write_histogram(struct buf *b, const char *name, const char *label,
                            const char *value, const struct histogram *h)
{
    uint64_t below = 0;
    for (size_t i = 0; i < BOUNDS; i++) {
        below += get(&h->in[i]);
        buf_printf(b, "%s_bucket{%s=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, label, value,
                   (double)bounds[i] / 1e6, below);
    }
    below += get(&h->in[BOUNDS]);
    buf_printf(b, "%s_bucket{%s=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, label, value, below);
    buf_printf(b, "%s_sum{%s=\"%s\"} %.9f\n", name, label, value,
               (double)get(&h->sum_ns) / 1e9);
    buf_printf(b, "%s_count{%s=\"%s\"} %" PRIu64 "\n", name, label, value, below);
}

static void write_phases(const struct metrics *m, struct buf *b)
{
    char name[48];
    for (unsigned i = 0; i < METRIC_PHASE_COUNT; i++) {
        const char *action = phase_names[i].action;
        snprintf(name, sizeof name, "dormouse_%s_seconds", action);
        if (i == 0 || action != phase_names[i - 1].action)
            buf_printf(b,
                       "# HELP %s Where the time of a %s went, by phase.\n"
                       "# TYPE %s histogram\n",
                       name, action, name);
        write_histogram(b, name, "phase", phase_names[i].phase, &m->phases[i]);
    }
}

void metrics_write(const struct metrics *m, struct buf *b)
{
    buf_str(b, "# HELP dormouse_requests_total Requests by door and outcome.\n"
               "# TYPE dormouse_requests_total counter\n");
    for (unsigned d = 0; d < DOOR_COUNT; d++)
        for (unsigned c = 0; c < CLASSES; c++)
            buf_printf(b, "dormouse_requests_total{door=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
                       door_names[d], class_names[c], get(&m->statuses[d][c]));
    buf_str(b, "# HELP dormouse_request_seconds Time to answer, by door.\n"
               "# TYPE dormouse_request_seconds histogram\n");
    for (unsigned d = 0; d < DOOR_COUNT; d++)
        write_histogram(b, "dormouse_request_seconds", "door", door_names[d], &m->doors[d]);
    buf_str(b, "# HELP dormouse_operations_total Operations of the control API by outcome.\n"
               "# TYPE dormouse_operations_total counter\n");
    for (unsigned i = 0; i < m->noperations; i++)
        for (unsigned c = 0; c < CLASSES; c++)
            buf_printf(
                b, "dormouse_operations_total{operation=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
                m->names[i], class_names[c], get(&m->operations[i][c]));
    write_flatten(m, b);
    write_worksets(m, b);
    write_phases(m, b);
}
