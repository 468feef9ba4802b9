// SPDX-License-Identifier: Apache-2.0
/* Clients that remember; see fault_load.h. */
#include "fault_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"
#include "fault_host.h"

#define ASK_MS   60000
#define IDLE_S   600
#define KEEP_S   3600
#define SETTLE_S 90

bool client_tells;

bool client_open(struct client *c, unsigned number, const char *image)
{
    *c = (struct client){.cli = {.program = "fault", .sigfd = -1}};
    c->image = image;
    c->number = number;
    c->since = (long long)time(NULL);
    if (cli_open(&c->cli) == CLI_OK)
        return true;
    printf("# %s\n", c->cli.fail.e.msg);
    return false;
}

static void forget(struct client *c)
{
    if (c->edge.tls)
        http_client_close(&c->edge);
    c->edge.tls = NULL;
    c->id[0] = c->token[0] = c->name[0] = '\0';
    c->counted = 0;
    c->there = THERE_NOT;
    c->must = NULL;
}

void client_close(struct client *c)
{
    forget(c);
    http_client_close(&c->cli.api);
}

static void lost(struct client *c, const char *what, const char *more)
{
    printf("# client %u, %s: %s %s\n", c->number, c->id, what, more);
    c->lost++;
}

json_t *client_get(struct client *c, const char *path, const char *query)
{
    json_t *v = NULL;
    return cli_call(&c->cli, "GET", path, query, NULL, &v) == CLI_OK ? v : NULL;
}

void client_state(struct client *c, char ret[24])
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *v = NULL;
    ret[0] = '\0';
    cli_path(&path, MICROVMS "/%", c->id);
    int rc = cli_call(&c->cli, "GET", buf_cstr(&path), NULL, NULL, &v);
    const char *state = json_string_value(json_object_get(v, "state"));
    const char *why = json_string_value(json_object_get(v, "stateReason"));
    if (rc == CLI_NOT_FOUND)
        snprintf(ret, 24, "GONE");
    else if (rc == CLI_OK && state)
        snprintf(ret, 24, "%s", state);
    if (why && *why)
        printf("# %s is %s: %s\n", c->id, state, why);
    json_decref(v);
}

bool client_run(struct client *c)
{
    struct image_ref ref;
    struct err e = ERR_INIT;
    char once[48];
    json_t *v = NULL;
    forget(c);
    if (!c->arn[0] && find_image(&c->cli, c->image, &ref) != CLI_OK)
        return false;
    if (!c->arn[0])
        snprintf(c->arn, sizeof c->arn, "%s", ref.arn);
    /* When the answer was lost, the next attempt gets the same microVM. */
    snprintf(once, sizeof once, "fault-%lld-%u-%u", c->since, c->number, c->runs);
    json_t *in = json_pack("{s:s, s:s, s:{s:i, s:i, s:b}}", "imageIdentifier", c->arn,
                           "clientToken", once, "idlePolicy", "maxIdleDurationSeconds", IDLE_S,
                           "suspendedDurationSeconds", KEEP_S, "autoResumeEnabled", 1);
    int rc = cli_call(&c->cli, "POST", MICROVMS, NULL, in, &v);
    json_decref(in);
    const char *id = json_string_value(json_object_get(v, "microvmId"));
    const char *endpoint = json_string_value(json_object_get(v, "endpoint"));
    bool ok = rc == CLI_OK && id && endpoint &&
              http_client_init(&c->edge, c->cli.tls, endpoint, &e) == 0;
    if (ok) {
        snprintf(c->id, sizeof c->id, "%s", id);
        c->there = THERE;
        c->runs++;
    }
    json_decref(v);
    return ok;
}

int client_count(struct client *c)
{
    json_t *items = NULL;
    int n = 0;
    if (cli_list(&c->cli, MICROVMS, NULL, &items) != CLI_OK)
        return -1;
    for (size_t i = 0; i < json_array_size(items); i++) {
        const char *state =
            json_string_value(json_object_get(json_array_get(items, i), "state"));
        n += state && strcmp(state, "TERMINATED") != 0 && strcmp(state, "SUSPENDED") != 0;
    }
    json_decref(items);
    return n;
}

static bool token(struct client *c)
{
    json_t *ports = ports_list(&c->cli, "8080");
    bool ok = c->token[0] ||
              mint_token(&c->cli, c->id, ports, 60, c->token, sizeof c->token) == CLI_OK;
    json_decref(ports);
    if (!ok)
        c->token[0] = '\0';
    return ok;
}

/* One answer of the application, compared with the last. */
static void judge(struct client *c, const char *body)
{
    char name[24] = "";
    unsigned long count = 0, kept = 0;
    if (sscanf(body, "%23s %lu %lu", name, &count, &kept) != 3)
        lost(c, "the application answers", body);
    else if (c->name[0] && strcmp(name, c->name) != 0)
        lost(c, "it is not the same application any more:", body);
    else if (count <= c->counted)
        lost(c, "it has forgotten requests:", body);
    else if (kept != count)
        lost(c, "its disk and its memory differ:", body);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->counted = count;
}

bool client_ask(struct client *c)
{
    struct http_header headers[4];
    struct http_req req = {.path = (char *)(uintptr_t) "/", .query = (char *)(uintptr_t) ""};
    struct http_reply reply;
    struct err e = ERR_INIT;
    char body[256] = "";
    size_t len = 0;
    if (!c->id[0] || !token(c))
        return false;
    snprintf(req.method, sizeof req.method, "GET");
    headers[0] =
        (struct http_header){.name = (char *)(uintptr_t) "X-aws-proxy-auth", .value = c->token};
    headers[1] = (struct http_header){.name = (char *)(uintptr_t) "X-aws-proxy-port",
                                      .value = (char *)(uintptr_t) "8080"};
    memcpy(req.headers, headers, 2 * sizeof headers[0]);
    req.nheaders = 2;
    if (http_client_connect(&c->edge, ASK_MS, &e) < 0)
        return false;
    if (c->there == THERE)
        c->must = NULL; /* what is sent wakes it, answered or not */
    if (http_client_send(&c->edge, &req, NULL, ASK_MS, &reply, &e) < 0) {
        http_client_close(&c->edge);
        return false;
    }
    ssize_t n;
    while (len < sizeof body - 1 &&
           (n = http1_body(c->edge.h, body + len, sizeof body - 1 - len, ASK_MS)) != 0) {
        if (n < 0) { /* the daemon was killed in the middle of the answer */
            http_client_close(&c->edge);
            return false;
        }
        len += (size_t)n;
    }
    int status = reply.status;
    const char *why = status == 200 ? NULL : http_reply_header(&reply, "x-aws-proxy-error");
    if (status != 200 && client_tells)
        printf("# %s: status %d %s\n", c->id, status, why ? why : "");
    http_client_done(&c->edge);
    if (status != 200)
        return false;
    judge(c, body);
    return true;
}

bool client_act(struct client *c, const char *verb)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    bool end = strcmp(verb, "terminate") == 0;
    if (!c->id[0])
        return false;
    if (end)
        cli_path(&path, MICROVMS "/%", c->id);
    else
        cli_path(&path,
                 strcmp(verb, "suspend") == 0 ? MICROVMS "/%/suspend" : MICROVMS "/%/resume",
                 c->id);
    c->must = NULL;
    if (end)
        c->there = THERE_MAYBE;
    int rc = cli_call(&c->cli, end ? "DELETE" : "POST", buf_cstr(&path), NULL, NULL, NULL);
    if (rc != CLI_OK)
        return false;
    c->must = end ? "TERMINATED" : strcmp(verb, "suspend") == 0 ? "SUSPENDED" : "RUNNING";
    if (end)
        c->there = THERE_NOT;
    return true;
}

static bool list(struct client *c)
{
    json_t *items = NULL;
    bool found = false;
    if (cli_list(&c->cli, MICROVMS, NULL, &items) != CLI_OK)
        return false;
    for (size_t i = 0; i < json_array_size(items); i++) {
        const char *id =
            json_string_value(json_object_get(json_array_get(items, i), "microvmId"));
        found |= id && strcmp(id, c->id) == 0;
    }
    json_decref(items);
    if (!found && c->there == THERE)
        lost(c, "it is not in the list", "");
    return true;
}

bool client_step(struct client *c)
{
    c->ops++;
    uint32_t dice = draw(100);
    bool ok;
    c->cli.fail = (struct cli_fail){.e = ERR_INIT};
    if (c->there != THERE)
        ok = client_run(c);
    else if (dice < 50)
        ok = client_ask(c);
    else if (dice < 70)
        ok = client_act(c, "suspend");
    else if (dice < 80)
        ok = client_act(c, "resume");
    else if (dice < 90)
        ok = list(c);
    else
        ok = client_act(c, "terminate");
    /* An answer is an answer: it may be in another state by now. */
    if (!ok && strcmp(c->cli.fail.code, "ConflictException") == 0)
        ok = true;
    if (!ok && client_tells)
        printf("# client %u: %s: %s\n", c->number, c->cli.fail.code, c->cli.fail.e.msg);
    c->failed += !ok;
    return ok;
}

bool client_check(struct client *c)
{
    char state[24];
    unsigned before = c->lost;
    if (!c->id[0])
        return true;
    client_state(c, state);
    bool over = strcmp(state, "TERMINATED") == 0 || strcmp(state, "GONE") == 0 ||
                strcmp(state, "TERMINATING") == 0;
    if (!state[0])
        lost(c, "the API does not tell its state:", c->cli.fail.e.msg);
    else if (c->there == THERE_NOT && !over)
        lost(c, "it was terminated and is", state);
    else if (c->there == THERE && over)
        lost(c, "it was alive and is", state);
    else if (c->there == THERE && c->must && strcmp(c->must, state) != 0)
        lost(c, "it was acknowledged as another state than", state);
    if (c->there == THERE_MAYBE && !over) { /* the order to end it was not heard */
        c->there = THERE;
        c->must = NULL;
    }
    if (c->there == THERE && !over && !client_ask(c)) {
        uint64_t end = now_ms() + SETTLE_S * 1000;
        while (!client_ask(c) && now_ms() < end)
            client_state(c, state);
        if (now_ms() >= end)
            lost(c, "it does not answer in state", state);
    }
    if (over)
        forget(c);
    return c->lost == before;
}

/* ---- many ---- */

struct crowd {
    unsigned n, idle, pace_ms, steps;
    bool stop, over;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    pthread_t *threads;
    struct client *clients;
};

struct member {
    struct crowd *w;
    struct client *c;
};

static void *member_main(void *arg)
{
    struct member m = *(struct member *)arg;
    free(arg);
    pthread_mutex_lock(&m.w->lock);
    while (!m.w->over) {
        if (m.w->stop) {
            m.w->idle++;
            pthread_cond_broadcast(&m.w->cond);
            while (m.w->stop && !m.w->over)
                pthread_cond_wait(&m.w->cond, &m.w->lock);
            m.w->idle--;
            continue;
        }
        pthread_mutex_unlock(&m.w->lock);
        bool ok = client_step(m.c);
        pthread_mutex_lock(&m.w->lock);
        m.w->steps++;
        unsigned pause = !ok ? 50 : m.w->pace_ms ? draw(2 * m.w->pace_ms) : 0;
        if (pause && !m.w->stop) { /* nobody is there, or it has a pace: or somebody stops it */
            struct timespec ts;
            clock_gettime(CLOCK_REALTIME, &ts);
            ts.tv_nsec += (long)(pause % 1000) * 1000000;
            ts.tv_sec += pause / 1000 + ts.tv_nsec / 1000000000;
            ts.tv_nsec %= 1000000000;
            pthread_cond_timedwait(&m.w->cond, &m.w->lock, &ts);
        }
    }
    pthread_mutex_unlock(&m.w->lock);
    return NULL;
}

struct crowd *crowd_start(unsigned n, const char *image)
{
    struct crowd *w = calloc(1, sizeof *w);
    *w = (struct crowd){.n = n, .stop = true};
    w->threads = calloc(n, sizeof *w->threads);
    w->clients = calloc(n, sizeof *w->clients);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
    for (unsigned i = 0; i < n; i++) {
        struct member *m = malloc(sizeof *m);
        *m = (struct member){w, &w->clients[i]};
        if (!client_open(m->c, i, image) ||
            pthread_create(&w->threads[i], NULL, member_main, m) != 0)
            exit(1);
    }
    return w;
}

void crowd_pace(struct crowd *w, unsigned ms)
{
    pthread_mutex_lock(&w->lock);
    w->pace_ms = ms;
    pthread_mutex_unlock(&w->lock);
}

void crowd_stop(struct crowd *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->cond);
    while (w->idle < w->n)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

void crowd_go(struct crowd *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = false;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

bool crowd_check(struct crowd *w)
{
    bool ok = true;
    for (unsigned i = 0; i < w->n; i++)
        ok &= client_check(&w->clients[i]);
    return ok;
}

unsigned crowd_steps(struct crowd *w)
{
    pthread_mutex_lock(&w->lock);
    unsigned steps = w->steps;
    pthread_mutex_unlock(&w->lock);
    return steps;
}

void crowd_end(struct crowd *w, unsigned *ret_ops, unsigned *ret_failed, unsigned *ret_lost)
{
    pthread_mutex_lock(&w->lock);
    w->over = true;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->lock);
    *ret_ops = *ret_failed = *ret_lost = 0;
    for (unsigned i = 0; i < w->n; i++) {
        pthread_join(w->threads[i], NULL);
        *ret_ops += w->clients[i].ops;
        *ret_failed += w->clients[i].failed;
        *ret_lost += w->clients[i].lost;
        client_close(&w->clients[i]);
    }
    free(w->threads);
    free(w->clients);
    free(w);
}
