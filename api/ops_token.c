// SPDX-License-Identifier: Apache-2.0
/*
 * CreateMicrovmAuthToken and CreateMicrovmShellAuthToken. The token is the
 * only door to an endpoint, so what the ingress connectors do not admit is
 * refused here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "op.h"

/* ---- ports --------------------------------------------------------------- */

struct range {
    uint32_t start, end;
};

static int by_start(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static int read_range(struct op *o, const json_t *item, size_t index, struct range *ret)
{
    const json_t *port = json_object_get(item, "port"), *range = json_object_get(item, "range");
    if (json_is_integer(port)) {
        ret->start = ret->end = (uint32_t)json_integer_value(port);
    } else if (json_is_object(range)) {
        ret->start = (uint32_t)json_integer_value(json_object_get(range, "startPort"));
        ret->end = (uint32_t)json_integer_value(json_object_get(range, "endPort"));
        if (ret->start > ret->end)
            return op_fail(o, TEXT_PORT_RANGE, index + 1);
    } else {
        *ret = (struct range){1, 65535};
    }
    return 0;
}

/* Sorted and joined, so that many single ports in a row take one place in the token. */
static int read_ports(struct op *o, struct token_claims *c)
{
    const json_t *list = json_object_get(o->in, "allowedPorts");
    size_t n = json_array_size(list), used = 0;
    AUTO_FREE struct range *ranges = calloc(n, sizeof *ranges);
    if (!ranges)
        return op_fail(o, TEXT_INTERNAL);
    for (size_t i = 0; i < n; i++)
        if (read_range(o, json_array_get(list, i), i, &ranges[i]) < 0)
            return -1;
    qsort(ranges, n, sizeof *ranges, by_start);
    for (size_t i = 0; i < n; i++) {
        if (used > 0 && ranges[i].start <= ranges[used - 1].end + 1)
            ranges[used - 1].end = MAX(ranges[used - 1].end, ranges[i].end);
        else
            ranges[used++] = ranges[i];
    }
    if (used > TOKEN_RANGES_MAX)
        return op_fail(o, TEXT_TOO_MANY_PORTS, (unsigned)TOKEN_RANGES_MAX);
    for (size_t i = 0; i < used; i++) {
        c->ranges[i].start = (uint16_t)ranges[i].start;
        c->ranges[i].end = (uint16_t)ranges[i].end;
    }
    c->nranges = used;
    return 0;
}

/* ---- the two operations -------------------------------------------------- */

static int answer_token(struct op *o, struct token_claims *c, const struct store_vm *vm)
{
    char text[TOKEN_TEXT_MAX];
    struct err e = ERR_INIT;
    json_int_t minutes = json_integer_value(json_object_get(o->in, "expirationInMinutes"));
    snprintf(c->vm_id, sizeof c->vm_id, "%s", vm->id);
    c->expires = op_now() + 60.0 * (double)minutes;
    if (token_mint(o->api->tokens, c, text, sizeof text, &e) < 0)
        return op_fail_store(o, &e);
    jsonw_open(&o->w, '{');
    jsonw_kopen(&o->w, "authToken", '{');
    jsonw_kstr(&o->w, "X-aws-proxy-auth", text); /* clients look up exactly this */
    jsonw_close(&o->w, '}');
    jsonw_close(&o->w, '}');
    explicit_bzero(text, sizeof text);
    return 0;
}

static int open_microvm(struct op *o, struct store_vm *vm, struct ingress *in)
{
    if (op_microvm(o, vm) < 0)
        return -1;
    if (strcmp(vm->state, "TERMINATED") == 0 || strcmp(vm->state, "TERMINATING") == 0)
        return op_fail_about(o, "microvm", vm->id, TEXT_MICROVM_STATE, vm->id, "given a token",
                             vm->state);
    return ingress_read(vm->ingress, in) < 0 ? op_fail(o, TEXT_INTERNAL) : 0;
}

int op_CreateMicrovmAuthToken(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct token_claims c = {.shell = false};
    struct ingress in;
    if (open_microvm(o, &vm, &in) < 0 || read_ports(o, &c) < 0)
        return -1;
    return in.http ? answer_token(o, &c, &vm) : op_fail(o, TEXT_HTTP_INGRESS);
}

int op_CreateMicrovmShellAuthToken(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct token_claims c = {.shell = true};
    struct ingress in;
    if (open_microvm(o, &vm, &in) < 0)
        return -1;
    if (in.all_and_more)
        return op_fail(o, TEXT_ALL_INGRESS);
    return in.shell ? answer_token(o, &c, &vm) : op_fail(o, TEXT_SHELL_INGRESS);
}
