// SPDX-License-Identifier: Apache-2.0
/* One request and its response, as the front hands it to the part that answers it. */
#ifndef DORMOUSE_API_EXCHANGE_H
#define DORMOUSE_API_EXCHANGE_H

#include "http1.h"

struct exchange {
    struct http1 *h;
    struct conn *c;
    const struct http_req *req;
    bool close; /* the connection ends after this exchange */
    int status; /* answered with; 0: nothing was sent */
};

/* Sends a whole response and notes how it went. */
void exchange_respond(struct exchange *x, struct http_res *res);
/* Sends the head of a response whose body the caller writes to the conn. 0 or -errno. */
int exchange_respond_head(struct exchange *x, struct http_res *res, uint64_t length);
/* {"message": …} with x-amzn-errortype. */
void exchange_error(struct exchange *x, int status, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Appends a JSON string with its quotes. */
void json_quote(struct buf *b, const char *text);

#endif
