// SPDX-License-Identifier: Apache-2.0
/* Events for listeners who come, go and come back; counters as text for a collector. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "../../api/events.h"
#include "../../api/metrics.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

static void tell(struct events *v, const char *id, const char *state)
{
    const struct event x = {.type = "microvm",
                            .id = id,
                            .image = "box",
                            .major = 3,
                            .state = state,
                            .reason = "a \"reason\"\nof two lines"};
    events_tell(v, &x);
}

static bool readable(const struct listener *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (; (text = strstr(text, word)); text++)
        n++;
    return n;
}

TEST(listeners)
{
    struct events *v = events_new();
    struct listener a, b;
    struct buf text = BUF_INIT;
    char last[40];
    tell(v, "microvm-0", "PENDING"); /* before anybody listens */
    CHECK(events_listen(v, NULL, &a, NULL) == 0 && !readable(&a));
    tell(v, "microvm-1", "PENDING");
    tell(v, "microvm-1", "RUNNING");
    CHECK(readable(&a));
    events_take(&a, &text);
    const char *got = buf_cstr(&text);
    CHECK(count(got, "\n\n") == 3 && count(got, "data: {\"type\":\"microvm\"") == 2);
    CHECK(strstr(got, "\"microvmId\":\"microvm-1\",\"image\":\"box\",\"imageVersion\":\"3.0\","
                      "\"state\":\"PENDING\"") != NULL);
    CHECK(strstr(got, "a \\\"reason\\\"\\nof two lines") != NULL);
    CHECK(!readable(&a));
    /* Another one, who had the first of the two. */
    const char *first = strstr(strstr(got, "\n\n"), "id: ") + 4;
    snprintf(last, sizeof last, "%.20s", first);
    last[strcspn(last, "\n")] = '\0';
    CHECK(events_listen(v, last, &b, NULL) == 0);
    buf_reset(&text);
    events_take(&b, &text);
    got = buf_cstr(&text);
    CHECK(count(got, "data: ") == 1 && strstr(got, "RUNNING") && !strstr(got, "reset"));
    events_leave(&b);
    /* Ones who had events of another life, or of none. */
    static const char *const strange[] = {"00000000-1", "x", "", "99999999999999999999-1"};
    for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
        CHECK(events_listen(v, strange[i], &b, NULL) == 0);
        buf_reset(&text);
        events_take(&b, &text);
        got = buf_cstr(&text);
        CHECK(strstr(got, "\n\nevent: reset\nid: ") && count(got, "data: ") == 1);
        events_leave(&b);
    }
    events_leave(&a);
    buf_free(&text);
    events_free(v);
}

TEST(slow_listeners)
{
    struct events *v = events_new();
    struct listener l, more[EVENTS_LISTENERS];
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;
    CHECK(events_listen(v, NULL, &l, NULL) == 0);
    for (unsigned i = 0; i < EVENTS_KEPT + 10; i++)
        tell(v, "microvm-1", "RUNNING");
    unsigned got = 0, resets = 0;
    for (unsigned i = 0; i < 1000 && readable(&l); i++) {
        buf_reset(&text);
        events_take(&l, &text);
        const char *s = buf_cstr(&text);
        resets += count(s, "event: reset");
        got += count(s, "\"RUNNING\"");
        CHECK(text.len < 70000);
    }
    CHECK(got == EVENTS_KEPT && resets == 1);
    for (unsigned i = 0; i + 1 < EVENTS_LISTENERS; i++)
        CHECK(events_listen(v, NULL, &more[i], &e) == 0);
    CHECK(events_listen(v, NULL, &more[EVENTS_LISTENERS - 1], &e) == -ENOSPC);
    events_leave(&l);
    CHECK(events_listen(v, NULL, &l, &e) == 0);
    events_leave(&l);
    for (unsigned i = 0; i + 1 < EVENTS_LISTENERS; i++)
        events_leave(&more[i]);
    buf_free(&text);
    events_free(v);
    events_tell(NULL, NULL);
}

static bool has(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    bool found = at && (at == text || at[-1] == '\n');
    if (!found)
        printf("# missing: %s\n", line);
    return found;
}

TEST(counters)
{
    static const char *const names[] = {"RunMicrovm", "GetHost"};
    struct metrics *m = metrics_new(names, 2);
    struct buf text = BUF_INIT;
    metrics_phase(m, METRIC_run_load, 1500000);
    metrics_phase(m, METRIC_run_load, 2000000);
    metrics_phase(m, METRIC_run_load, 200000000000);
    metrics_phase(m, METRIC_suspend_total, 7000000);
    metrics_request(m, DOOR_API, 200, 3);
    metrics_request(m, DOOR_API, 404, 0);
    metrics_request(m, DOOR_EDGE, 502, 0);
    metrics_operation(m, 0, 200);
    metrics_operation(m, 0, 500);
    metrics_operation(m, 7, 500);
    metrics_flatten(m, FLATTEN_DONE, 2, 4096, 1500000);
    metrics_flatten(m, FLATTEN_DONE, 3, 8192, 500000);
    metrics_flatten(m, FLATTEN_DROPPED, 2, 0, 1000000);
    metrics_touched(m, 1000, 300);
    metrics_touched(m, 1000, 12);
    metrics_recorded(m, true);
    metrics_recorded(m, false);
    metrics_recorded(m, true);
    metrics_write(m, &text);
    const char *s = buf_cstr(&text);
    CHECK(has(s, "dormouse_run_seconds_bucket{phase=\"load\",le=\"0.001\"} 0\n"));
    CHECK(has(s, "dormouse_run_seconds_bucket{phase=\"load\",le=\"0.002\"} 2\n"));
    CHECK(has(s, "dormouse_run_seconds_bucket{phase=\"load\",le=\"60\"} 2\n"));
    CHECK(has(s, "dormouse_run_seconds_bucket{phase=\"load\",le=\"+Inf\"} 3\n"));
    CHECK(has(s, "dormouse_run_seconds_sum{phase=\"load\"} 200.003500000\n"));
    CHECK(has(s, "dormouse_run_seconds_count{phase=\"load\"} 3\n"));
    CHECK(has(s, "dormouse_suspend_seconds_count{phase=\"total\"} 1\n"));
    CHECK(has(s, "dormouse_resume_seconds_count{phase=\"guest\"} 0\n"));
    CHECK(has(s, "dormouse_requests_total{door=\"api\",outcome=\"client_error\"} 1\n"));
    CHECK(has(s, "dormouse_requests_total{door=\"endpoint\",outcome=\"server_error\"} 1\n"));
    CHECK(has(s, "dormouse_operations_total{operation=\"RunMicrovm\",outcome=\"ok\"} 1\n"));
    CHECK(has(
        s, "dormouse_operations_total{operation=\"RunMicrovm\",outcome=\"server_error\"} 1\n"));
    CHECK(has(s, "dormouse_flatten_total{outcome=\"done\"} 2\n"));
    CHECK(has(s, "dormouse_flatten_total{outcome=\"dropped\"} 1\n"));
    CHECK(has(s, "dormouse_flatten_total{outcome=\"failed\"} 0\n"));
    CHECK(has(s, "dormouse_flatten_layers_total 5\n"));
    CHECK(has(s, "dormouse_flatten_bytes_total 12288\n"));
    CHECK(has(s, "dormouse_flatten_seconds_total 0.003000\n"));
    CHECK(has(s, "dormouse_workset_runs_total 2\n"));
    CHECK(has(s, "dormouse_workset_pages_total 2000\n"));
    CHECK(has(s, "dormouse_workset_beyond_pages_total 312\n"));
    CHECK(has(s, "dormouse_workset_recorded_total{outcome=\"done\"} 2\n"));
    CHECK(has(s, "dormouse_workset_recorded_total{outcome=\"failed\"} 1\n"));
    CHECK(count(s, "# TYPE dormouse_run_seconds histogram\n") == 1);
    CHECK(count(s, "# TYPE dormouse_suspend_seconds histogram\n") == 1);
    metrics_phase(NULL, METRIC_run_load, 1);
    buf_free(&text);
    metrics_free(m);
}

int main(void)
{
    RUN(listeners);
    RUN(slow_listeners);
    RUN(counters);
    return TAP_DONE();
}
