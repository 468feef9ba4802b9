// SPDX-License-Identifier: Apache-2.0
/* dormouse run and deploy. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../api/uuid.h"
#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define MICROVMS "/2025-09-09/microvms"
#define IDLE     900u   /* seconds until an unused microVM is suspended */
#define KEEP     28800u /* seconds a suspended one is kept */
#define START_MS 60000
#define RUN_OPTS                                                                       \
    {"idle", 0, "SECONDS", "suspend after so long without a request; 0: never (900)"}, \
        {"keep", 0, "SECONDS", "end one that was suspended for so long (28800)"},      \
        {"max", 0, "SECONDS", "end it after so long in any case"},                     \
    {                                                                                  \
        "payload", 0, "TEXT", "handed to the application's run hook"                   \
    }

const struct opt opts_run[] = {
    RUN_OPTS,
    {"name", 0, "NAME", "a name for people"},
    {"tag", 't', "K=V", "a tag; may be repeated"},
    {"env", 'e', "K=V", "into /run/environment and the run hook; may be repeated"},
    {"wait", 'w', NULL, "until it runs"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_deploy[] = {
    {"name", 0, "NAME", "name of the image (that of the folder)"},
    {"memory", 'm', "MIB", "memory baseline: 512, 1024, 2048, 4096 or 8192"},
    {"env", 'e', "K=V", "environment variable of the application; may be repeated"},
    {"quiet", 'q', NULL, "do not show the build's log unless it fails"},
    RUN_OPTS,
    {NULL, 0, NULL, NULL},
};

static json_t *request(const struct image_ref *ref, const struct run_wish *w)
{
    char token[UUID_CAP];
    uuid_make(token);
    json_t *in = json_pack("{s:s, s:s}", "imageIdentifier", ref->arn, "clientToken", token);
    if (ref->version[0])
        json_object_set_new(in, "imageVersion", json_string(ref->version));
    if (w->idle)
        json_object_set_new(in, "idlePolicy",
                            json_pack("{s:i, s:i, s:b}", "maxIdleDurationSeconds", (int)w->idle,
                                      "suspendedDurationSeconds", (int)w->keep,
                                      "autoResumeEnabled", 1));
    if (w->max_seconds)
        json_object_set_new(in, "maximumDurationInSeconds", json_integer(w->max_seconds));
    if (w->payload)
        json_object_set_new(in, "runHookPayload", json_string(w->payload));
    return in;
}

json_t *pairs_of(struct cli *c, const struct args *a, const char *name)
{
    json_t *all = json_object();
    const char *text;
    for (size_t i = 0; (text = args_nth(a, name, i)); i++) {
        const char *equals = strchr(text, '=');
        if (!equals || equals == text) {
            json_decref(all);
            cli_fail(c, CLI_USAGE, "USAGE", "--%s must be of the form NAME=VALUE", name);
            return NULL;
        }
        AUTO_FREE char *key = strndup(text, (size_t)(equals - text));
        json_object_set_new(all, key ? key : "", json_string(equals + 1));
    }
    return all;
}

/* What the service's own operation does not know. */
static int add_extras(struct cli *c, const struct run_wish *w, json_t *in, const char **path)
{
    json_t *tags = w->extras ? pairs_of(c, w->extras, "tag") : json_object();
    json_t *env = tags && w->extras ? pairs_of(c, w->extras, "env") : json_object();
    bool ok = tags && env;
    if (ok && (w->name || json_object_size(tags) || json_object_size(env))) {
        *path = "/dormouse/v1/run";
        if (w->name)
            json_object_set_new(in, "name", json_string(w->name));
        json_object_set(in, "tags", tags);
        json_object_set(in, "environmentVariables", env);
    }
    json_decref(tags);
    json_decref(env);
    return ok ? CLI_OK : CLI_USAGE;
}

/* Until it is not PENDING any more. */
static int await_start(struct cli *c, struct started *s)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    int64_t deadline = clock_ms() + START_MS;
    cli_path(&path, MICROVMS "/%", s->id);
    const char *p = buf_cstr(&path);
    if (!p)
        return cli_no_memory(c);
    wait_begin(c);
    for (int pause = 2;; pause = MIN(pause * 2, 100)) {
        json_t *v;
        int rc = cli_call(c, "GET", p, NULL, NULL, &v);
        if (rc)
            return rc;
        snprintf(s->state, sizeof s->state, "%s", member(v, "state"));
        snprintf(s->reason, sizeof s->reason, "%s", member(v, "stateReason"));
        json_decref(v);
        if (strcmp(s->state, "PENDING") != 0)
            break;
        if (clock_ms() > deadline)
            return cli_fail(c, CLI_TIMEOUT, "TIMEOUT", "microVM %s is still PENDING after %d s",
                            s->id, START_MS / 1000);
        if ((rc = wait_for(c, pause))) {
            fprintf(stderr, "\nIt goes on starting. See: dormouse ps\n");
            return rc;
        }
    }
    if (strcmp(s->state, "RUNNING") == 0)
        return CLI_OK;
    cli_fail(c, 0, "START_FAILED", "microVM %s is %s: %s", s->id, s->state,
             s->reason[0] ? s->reason : "no reason was given");
    return cli_hint(c, CLI_FAILED, "dormouse logs %s", s->id);
}

static double now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

int run_vm(struct cli *c, const struct run_wish *w, struct started *ret)
{
    struct image_ref ref;
    json_t *v = NULL;
    *ret = (struct started){.id = ""};
    int rc = find_image(c, w->image, &ref);
    if (rc)
        return rc;
    json_t *in = request(&ref, w);
    double begin = now_ms();
    const char *path = MICROVMS;
    rc = add_extras(c, w, in, &path);
    if (rc == CLI_OK)
        rc = cli_call(c, "POST", path, NULL, in, &v);
    json_decref(in);
    if (rc)
        return image_missing(c, ref.name, rc);
    snprintf(ret->id, sizeof ret->id, "%s", member(v, "microvmId"));
    snprintf(ret->endpoint, sizeof ret->endpoint, "%s", member(v, "endpoint"));
    json_decref(v);
    if (w->wait)
        rc = await_start(c, ret);
    ret->ms = now_ms() - begin;
    return rc;
}

static int read_wish(struct cli *c, struct args *a, struct run_wish *w)
{
    struct err e = ERR_INIT;
    uint64_t idle = IDLE, keep = KEEP, max = 0;
    if (args_number(a, "idle", 0, 28800, &idle, &e) < 0 ||
        args_number(a, "keep", 0, INT32_MAX, &keep, &e) < 0 ||
        args_number(a, "max", 1, INT32_MAX, &max, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    if (idle > 0 && idle < 60)
        return cli_fail(c, CLI_USAGE, "USAGE", "--idle must be 0 or at least 60 seconds");
    w->idle = (unsigned)idle;
    w->keep = (unsigned)keep;
    w->max_seconds = (unsigned)max;
    w->payload = args_get(a, "payload");
    return CLI_OK;
}

static int print_started(struct cli *c, const struct started *s)
{
    json_t *v = json_pack("{s:s, s:s}", "microvmId", s->id, "endpoint", s->endpoint);
    if (s->state[0])
        json_object_set_new(v, "state", json_string(s->state));
    int rc = cli_print_json(c, v);
    json_decref(v);
    return rc;
}

int cmd_run(struct cli *c, struct args *a)
{
    struct run_wish w = {.wait = args_has(a, "wait")};
    struct started s;
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "run needs one image");
    w.image = a->pos[0];
    w.name = args_get(a, "name");
    w.extras = a;
    int rc = read_wish(c, a, &w);
    if (rc == CLI_OK)
        rc = run_vm(c, &w, &s);
    if (rc)
        return rc;
    if (c->json)
        return print_started(c, &s);
    fprintf(stderr, "%s in %.0f ms  https://%s/\n", w.wait ? "running" : "accepted", s.ms,
            s.endpoint);
    puts(s.id);
    return CLI_OK;
}

int cmd_deploy(struct cli *c, struct args *a)
{
    struct run_wish w = {.wait = true};
    struct started s;
    struct built b;
    char image[100], id[16];
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "deploy needs one folder or zip file");
    int rc = read_wish(c, a, &w);
    if (rc == CLI_OK)
        rc = build_image(c, a, a->pos[0], &b);
    if (rc)
        return rc;
    snprintf(image, sizeof image, "%s:%s", b.name, b.version);
    w.image = image;
    rc = run_vm(c, &w, &s);
    if (rc)
        return rc;
    short_id(s.id, id);
    cli_step(c, "running", "%s in %.0f ms", s.id, s.ms);
    if (c->json)
        return print_started(c, &s);
    printf("https://%s/\n", s.endpoint);
    fflush(stdout);
    fprintf(stderr, "\n  try it      dormouse curl %s /\n  logs        dormouse logs -f %s\n",
            id, id);
    if (w.idle)
        fprintf(stderr, "  idle        suspends after %u s, wakes on the next request\n",
                w.idle);
    fprintf(stderr, "  end it      dormouse terminate %s\n", id);
    return CLI_OK;
}
