// SPDX-License-Identifier: Apache-2.0
/*
 * Whole requests against the control API with a real store and a fake fleet:
 * the first line is "METHOD path?query", the rest is the body. Every answer is
 * JSON, every error has a name, and the state stays readable.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/ops_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void unlink_all(const char *base)
{
    static const char *const tails[] = {"", "-wal", "-shm"};
    char name[80];
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        snprintf(name, sizeof name, "%s%s", base, tails[i]);
        unlink(name);
    }
}

static char db[64];

static void tidy(void)
{
    unlink_all(db);
}

/* A fresh state now and then, so that a run of hours neither grows nor hides what is left. */
static struct client *state(void)
{
    static struct client c;
    static unsigned calls;
    if (calls++ % 2000 == 0) {
        if (calls > 1) {
            client_close(&c);
            unlink_all(db);
        } else {
            atexit(tidy);
        }
        snprintf(db, sizeof db, "%s/dormouse-fuzz-%d.db",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
        unlink_all(db);
        client_open(&c, db);
        c.api.max_images = 20;
        c.api.max_versions = 20;
        /* One microVM under a name that inputs can know. */
        struct store_vm vm = {.id = "microvm-1",
                              .label = "1",
                              .image = "box",
                              .major = 1,
                              .state = "RUNNING",
                              .max_seconds = 60};
        if (call(&c, "POST", V "/microvm-images", "{'name':'box'," CONFIG "}") != 201 ||
            store_vm_add(c.fleet.store, &vm, NULL) < 0)
            abort();
    }
    return &c;
}

static void check_answer(const struct client *c)
{
    const struct buf *b = &c->res.body;
    if (b->bad || c->res.status < 200)
        abort();
    if (b->len > 0 && !c->res.content_type) { /* else the text of a log */
        json_t *v = json_loadb((const char *)b->data, b->len, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(v))
            abort();
        if (c->res.status >= 400 && !json_is_string(json_object_get(v, "message")))
            abort();
        json_decref(v);
    }
    if ((c->res.status >= 400) != (c->res.error_type[0] != '\0'))
        abort();
    if (strcmp(c->res.error_type, "InternalServerException") == 0 ||
        strcmp(c->res.error_type, "ServiceException") == 0)
        abort(); /* nothing a client sends is our failure */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct http_req req;
    struct client *c = state();
    const uint8_t *eol = len ? memchr(data, '\n', len) : NULL;
    size_t line = eol ? (size_t)(eol - data) : len;
    char head[2048];
    if (line >= sizeof head || memchr(data, 0, line))
        return 0;
    memcpy(head, data, line);
    head[line] = '\0';
    char *path = strchr(head, ' ');
    if (!path || path - head >= (long)sizeof req.method)
        return 0;
    *path++ = '\0';
    snprintf(req.method, sizeof req.method, "%s", head);
    char *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    req.path = path;
    req.query = query ? query : path + strlen(path);
    /* An exact copy, so that a read beyond the body is noticed. */
    size_t body_len = eol ? len - line - 1 : 0;
    AUTO_FREE uint8_t *body = malloc(body_len ? body_len : 1);
    if (body_len)
        memcpy(body, eol + 1, body_len);
    api_handle(&c->api, &req, RIGHTS_ADMIN, body, body_len, &c->res);
    check_answer(c);
    return 0;
}
