// SPDX-License-Identifier: Apache-2.0
/*
 * One request: route, rights, input, validation, operation, and the writing
 * of errors. Details of inner failures go to the log, never to the client.
 */
#include "api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "metrics.h"
#include "op.h"
#include "throttle.h"

struct error_kind {
    const char *name, *classic, *fault;
    int status;
    uint32_t retry_after;
};

static const struct error_kind error_kinds[] = {
#define ERROR(name, status, retry, classic, fault) {#name, #classic, #fault, status, retry},
#include "errors.def"
#undef ERROR
};

static const struct error_kind *error_kind(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(error_kinds); i++)
        if (strcmp(error_kinds[i].name, name) == 0)
            return &error_kinds[i];
    static const struct error_kind unknown = {"InternalServerException", "ServiceException",
                                              "Service", 500, 1};
    return &unknown;
}

static void error_write(struct http_res *res, const char *name, const struct op *o,
                        const char *message)
{
    const struct error_kind *k = error_kind(name);
    bool classic = o && o->route->style == CLASSIC;
    struct jsonw w;
    buf_reset(&res->body);
    res->status = k->status;
    res->content_type = NULL;
    res->retry_after = k->retry_after;
    snprintf(res->error_type, sizeof res->error_type, "%s", classic ? k->classic : k->name);
    jsonw_init(&w, &res->body);
    jsonw_open(&w, '{');
    if (classic)
        jsonw_kstr(&w, "Type", k->fault);
    jsonw_kstr(&w, "message", message);
    if (o) {
        jsonw_kstr_opt(&w, "resourceType", o->about_type);
        jsonw_kstr_opt(&w, "resourceId", o->about_id);
        if (o->about_quota) {
            jsonw_kstr(&w, "serviceCode", "lambda");
            jsonw_kstr_opt(&w, "quotaCode", o->about_quota);
        }
    }
    jsonw_close(&w, '}');
}

void api_error(struct http_res *res, const char *name, const char *fmt, ...)
{
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    error_write(res, name, NULL, message);
}

int op_fail(struct op *o, const char *name, const char *fmt, ...)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = n < 0 ? NULL : buf_reserve(&b, (size_t)n + 1);
    if (text) {
        va_start(ap, fmt);
        vsnprintf(text, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    error_write(o->res, name, o, text ? text : "out of memory");
    return -1;
}

static void log_failure(const struct op *o, const struct err *e)
{
    char context[80];
    snprintf(context, sizeof context, "%s", o->route->operation);
    log_err(LOG_ERROR, e, context);
}

int op_fail_store(struct op *o, const struct err *e)
{
    log_failure(o, e);
    if (e->num == EBUSY)
        return op_fail(o, TEXT_STATE_BUSY);
    if (e->num == ENOSPC)
        return op_fail(o, TEXT_STATE_FULL);
    return op_fail(o, TEXT_INTERNAL);
}

int op_fail_fleet(struct op *o, const char *vm_id, const struct err *e)
{
    switch (e->num) {
    case EINVAL: /* a sentence made for the client */
        return op_fail_about(o, "microvm", vm_id, TEXT_SENTENCE, e->msg);
    case ENOENT:
        return op_fail_about(o, "microvm", vm_id, TEXT_NO_MICROVM, vm_id);
    case ENOSPC:
    case EAGAIN:
    case ENOMEM:
        log_failure(o, e);
        return op_fail(o, TEXT_NO_CAPACITY);
    default:
        log_failure(o, e);
        return op_fail(o, TEXT_INTERNAL);
    }
}

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* The service's own operations; the extensions are the operator's tools, and some of them are
 * meant to last. */
static struct throttle *limit_of(const struct op *o)
{
    return strncmp(o->route->path, "/dormouse/", 10) == 0 ? NULL : o->api->throttle;
}

static void handle(struct op *o, const struct http_req *req, enum rights who, const void *body,
                   size_t len)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    if (who < o->route->rights) {
        op_fail(o, TEXT_DENIED, o->route->operation);
        return;
    }
    int r = route_input(o->route, req, body, len, &o->in, &text);
    if (r == 0 && validate(shape_of(o->route->input), o->in, &text) > 0)
        r = -EINVAL;
    const char *sentence = buf_cstr(&text);
    if (r == -EINVAL && sentence)
        op_fail(o, TEXT_INVALID, sentence);
    else if (r < 0)
        op_fail(o, TEXT_INTERNAL);
    else if (o->route->run(o) == 0)
        o->res->status = o->route->status;
    if (o->res->body.bad)
        op_fail(o, TEXT_INTERNAL);
    json_decref(o->in);
}

void api_handle(struct api *a, const struct http_req *req, enum rights who, const void *body,
                size_t len, struct http_res *res)
{
    struct op o = {
        .api = a, .res = res, .body = body, .body_len = len, .req = req, .peer = req->peer};
    buf_reset(&res->body);
    buf_reset(&res->headers);
    res->content_type = NULL;
    res->error_type[0] = '\0';
    res->retry_after = 0;
    res->stream = NULL;
    o.route = route_find(req->method, req->path);
    if (!o.route) {
        api_error(res, TEXT_UNKNOWN_OPERATION, req->method);
        return;
    }
    jsonw_init(&o.w, &res->body);
    struct throttle *limit = limit_of(&o);
    if (limit && !throttle_enter(limit, now_us())) {
        op_fail(&o, TEXT_THROTTLED);
    } else {
        handle(&o, req, who, body, len);
        if (limit)
            throttle_leave(limit);
    }
    metrics_operation(a->metrics, o.route->input, res->status);
}
