// SPDX-License-Identifier: Apache-2.0
/* Answering a request; see exchange.h. */
#include "exchange.h"

#include <stdarg.h>
#include <stdio.h>

#include "../hypervisor/base/mem.h"

static void decide_close(struct exchange *x)
{
    x->close = x->close || http1_must_close(x->h);
}

void exchange_respond(struct exchange *x, struct http_res *res)
{
    decide_close(x);
    x->status = res->status;
    if (http1_respond(x->h, x->req, res, x->close) < 0)
        x->close = true;
}

int exchange_respond_head(struct exchange *x, struct http_res *res, uint64_t length)
{
    decide_close(x);
    x->status = res->status;
    int r = http1_respond_head(x->h, x->req, res, length, x->close);
    if (r < 0)
        x->close = true;
    return r;
}

void json_quote(struct buf *b, const char *text)
{
    buf_str(b, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < ' ')
            buf_printf(b, "\\u%04x", c);
        else
            buf_add(b, &c, 1);
    }
    buf_str(b, "\"");
}

void exchange_error(struct exchange *x, int status, const char *name, const char *fmt, ...)
{
    AUTO(http_res_free) struct http_res res = {.status = status};
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(res.error_type, sizeof res.error_type, "%s", name);
    buf_str(&res.body, "{\"message\":");
    json_quote(&res.body, text);
    buf_str(&res.body, "}");
    exchange_respond(x, &res);
}
