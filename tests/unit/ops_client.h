// SPDX-License-Identifier: Apache-2.0
/* A client of api_handle() for tests: calls with a path and a body, answers as parsed JSON. */
#ifndef DORMOUSE_TESTS_OPS_CLIENT_H
#define DORMOUSE_TESTS_OPS_CLIENT_H

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>

#include "../../hypervisor/base/mem.h"
#include "fake_fleet.h"
#include "store_file.h"

struct client {
    struct fleet fleet;
    struct api api;
    enum rights rights;
    struct http_res res;
    json_t *json; /* of the last answer, NULL when it had no body */
};

#define REGION  "eu-west-1"
#define ACCOUNT "111122223333"
#define ARN     "arn:aws:lambda:" REGION ":" ACCOUNT ":microvm-image:"
#define ARN_URL "arn%3Aaws%3Alambda%3A" REGION "%3A" ACCOUNT "%3Amicrovm-image%3A"
#define BASE    "arn:aws:lambda:" REGION ":aws:microvm-image:al2023-1"
#define NC      "arn:aws:lambda:" REGION ":aws:network-connector:aws-network-connector:"
#define ROLE    "arn:aws:iam::123456789012:role/build"
#define V       "/2025-09-09"
#define CONFIG                                                                           \
    "'baseImageArn':'" BASE "','buildRoleArn':'" ROLE "','codeArtifact':{'uri':'s3://b/" \
    "k.zip'}"

/* With a new store. */
static inline void client_open(struct client *c, const char *path)
{
    struct err e = ERR_INIT;
    memset(c, 0, sizeof *c);
    c->rights = RIGHTS_ADMIN;
    c->fleet.stream = -1;
    store_file_remove(path);
    if (store_open(&c->fleet.store, path, &e) < 0) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
    c->api = (struct api){.store = c->fleet.store,
                          .fleet = &c->fleet,
                          .region = REGION,
                          .account = ACCOUNT,
                          .domain = "localhost",
                          .public_port = 8443};
}

static inline void client_close(struct client *c)
{
    json_decref(c->json);
    http_res_free(&c->res);
    store_close(c->fleet.store);
}

/* `target` is path?query. Single quotes in the body stand for double ones. Returns the status.
 */
static inline int call(struct client *c, const char *method, const char *target,
                       const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static inline int call(struct client *c, const char *method, const char *target,
                       const char *fmt, ...)
{
    struct http_req req = {.nheaders = 0};
    char path[4096];
    AUTO_FREE char *body = NULL;
    va_list ap;
    va_start(ap, fmt);
    int len = vasprintf(&body, fmt, ap);
    va_end(ap);
    for (int i = 0; i < len; i++)
        if (body[i] == '\'')
            body[i] = '"';
    snprintf(path, sizeof path, "%s", target);
    char *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    snprintf(req.method, sizeof req.method, "%s", method);
    req.path = path;
    req.query = query ? query : path + strlen(path);
    api_handle(&c->api, &req, c->rights, body, (size_t)len, &c->res);
    json_decref(c->json);
    c->json = c->res.body.len && !c->res.content_type
                  ? json_loadb((char *)c->res.body.data, c->res.body.len, 0, NULL)
                  : NULL;
    if (c->res.body.len && !c->json && !c->res.content_type)
        printf("# answer is not JSON: %.*s\n", (int)c->res.body.len, (char *)c->res.body.data);
    return c->res.status;
}

/* A text inside the last answer by a dotted path, "" when it is not there. */
static inline const char *text_at(const struct client *c, const char *path)
{
    const json_t *v = c->json;
    char key[64];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        v = json_is_array(v) ? json_array_get(v, (size_t)atoi(key)) : json_object_get(v, key);
        path += n + (path[n] == '.');
    }
    return json_is_string(v) ? json_string_value(v) : "";
}

static inline size_t items(const struct client *c)
{
    return json_array_size(json_object_get(c->json, "items"));
}

/* The last answer is this error. */
static inline bool failed(const struct client *c, int status, const char *name,
                          const char *message)
{
    bool same = c->res.status == status && strcmp(c->res.error_type, name) == 0 &&
                strcmp(text_at(c, "message"), message) == 0;
    if (!same)
        printf("# got %d %s: %s\n", c->res.status, c->res.error_type, text_at(c, "message"));
    return same;
}

#endif
