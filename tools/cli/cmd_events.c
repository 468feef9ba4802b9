// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse events: the host's stream of events, connected to again when it
 * breaks, without losing one. Ended by an interrupt.
 */
#include <string.h>

#include "../../api/digest.h"
#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define SILENCE_MS 45000 /* the host says something every 15 s */
#define LINE_MAX   65536u

const struct opt opts_events[] = {
    {"since", 0, "ID", "go on behind this event, as --json shows them"},
    {"count", 'n', "N", "end after so many"},
    {NULL, 0, NULL, NULL},
};

struct stream {
    char id[40]; /* of the last event */
    struct buf line;
    char data[LINE_MAX];
    uint64_t left; /* events to show */
};

static int show(struct cli *c, struct stream *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    char time[40];
    json_t *v = json_loads(s->data, 0, NULL);
    if (!v)
        return cli_fail(c, CLI_FAILED, "BAD_ANSWER", "the host sent an event that is not JSON");
    if (strcmp(member(v, "type"), "reset") == 0) {
        fprintf(stderr, "(events were missed: see dormouse ps)\n");
    } else if (c->json) {
        json_object_set_new(v, "id", json_string(s->id));
        char *text = json_dumps(v, JSON_COMPACT | JSON_REAL_PRECISION(13));
        buf_printf(&b, "%s\n", text ? text : "");
        free(text);
    } else {
        human_time(json_number_value(json_object_get(v, "time")), time);
        const char *id = member(v, "microvmId"), *reason = member(v, "stateReason");
        buf_printf(&b, "%s  %-7s  %s  %s:%s  %s%s%s\n", time, member(v, "type"),
                   id[0] ? id : "-", member(v, "image"), member(v, "imageVersion"),
                   member(v, "state"), reason[0] ? "  " : "", reason);
    }
    if (b.len && !b.bad)
        text_print(stdout, (const char *)b.data, b.len, c->safe_out);
    s->left -= b.len > 0 && s->left != UINT64_MAX;
    json_decref(v);
    return cli_flush(c);
}

static int take_line(struct cli *c, struct stream *s, const char *line)
{
    if (strncmp(line, "id: ", 4) == 0)
        snprintf(s->id, sizeof s->id, "%s", line + 4);
    else if (strncmp(line, "data: ", 6) == 0)
        snprintf(s->data, sizeof s->data, "%s", line + 6);
    if (*line || !s->data[0]) /* an empty line ends an event */
        return CLI_OK;
    int rc = show(c, s);
    s->data[0] = '\0';
    return rc;
}

/* Until the stream breaks. */
static int take(struct cli *c, void *ctx)
{
    struct stream *s = ctx;
    char data[4096];
    ssize_t n;
    s->data[0] = '\0';
    buf_reset(&s->line);
    while (s->left && (n = http1_body(c->api.h, data, sizeof data, SILENCE_MS)) > 0) {
        for (ssize_t i = 0; i < n && s->left; i++) {
            if (data[i] != '\n') {
                if (s->line.len < LINE_MAX - 1)
                    buf_add(&s->line, &data[i], 1);
                continue;
            }
            const char *line = buf_cstr(&s->line);
            int rc = line ? take_line(c, s, line) : cli_no_memory(c);
            if (rc)
                return rc;
            buf_reset(&s->line);
        }
    }
    return CLI_OK;
}

int cmd_events(struct cli *c, struct args *a)
{
    static struct stream s; /* one a program */
    struct err e = ERR_INIT;
    char hash[65];
    const char *since = args_get(a, "since");
    s.left = UINT64_MAX;
    if (a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "events takes no names");
    if (args_number(a, "count", 1, INT64_MAX, &s.left, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    snprintf(s.id, sizeof s.id, "%s", since ? since : "");
    sha256_hex("", 0, hash);
    int rc = CLI_OK;
    while (rc == CLI_OK && s.left) {
        AUTO(api_answer_free) struct api_answer answer = {.body = BUF_INIT};
        const struct api_request r = {.service = "lambda",
                                      .method = "GET",
                                      .path = "/dormouse/v1/events",
                                      .payload_hash = hash,
                                      .last_event = s.id[0] ? s.id : NULL,
                                      .take = take,
                                      .ctx = &s};
        rc = cli_request(c, &r, &answer);
        if (rc == CLI_OK && s.left)
            rc = wait_for(c, 1000);
    }
    buf_free(&s.line);
    return rc;
}
