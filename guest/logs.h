// SPDX-License-Identifier: Apache-2.0
/*
 * Log lines on their way to the host. Every line gets a sequence number and stays in a
 * ring until the host acknowledges it, so that nothing is lost when the stream breaks or
 * the machine is suspended. A full ring stops the reading of the application's pipes
 * (back-pressure); when the host stays away, the oldest lines go and a line says so.
 */
#ifndef DORMOUSE_GUEST_LOGS_H
#define DORMOUSE_GUEST_LOGS_H

#include "chan.h"

#define LOG_RING    (256u * 1024u)
#define LOG_LINE    8192u
#define LOG_SOURCES 8

enum { LOG_STDOUT = 1, LOG_STDERR, LOG_INIT, LOG_BUILD };

struct logs;

struct log_source {
    struct ev ev; /* fd -1 when not watched */
    struct logs *logs;
    int fd; /* -1: free */
    uint32_t source;
    bool partial; /* the line so far is already on its way */
    bool waiting; /* bytes here found no room in the ring */
    size_t len;
    char *buf; /* LOG_LINE bytes */
};

struct logs {
    struct loop *loop;
    struct chan *chan;
    uint8_t *ring;
    size_t tail, used; /* bytes [tail, tail + used) hold records */
    size_t sent;       /* bytes from tail that were sent on this stream */
    uint64_t seq;      /* of the next line */
    uint64_t lost;     /* lines dropped and not yet told */
    bool dropping;     /* the host stays away: room is made by force */
    struct timer stall;
    struct log_source sources[LOG_SOURCES];
    /* Called once when all is read to the pipes' ends, sent and acknowledged. */
    void (*quiet)(void *ctx);
    void *quiet_ctx;
    /* Called once when the ring is empty: what there was is acknowledged. */
    void (*settled)(void *ctx);
    void *settled_ctx;
};

int logs_init(struct logs *lg, struct loop *l, struct chan *chan);
/* Reads lines from the pipe until its end; takes fd over. 0 or -errno. */
int logs_attach(struct logs *lg, int fd, uint32_t source);
/* A line of init's own. */
void logs_say(struct logs *lg, uint32_t source, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void logs_stream_up(struct logs *lg); /* a new stream: send again what is not acknowledged */
void logs_ack(struct logs *lg, uint64_t seq);
void logs_pump(struct logs *lg);
void logs_when_quiet(struct logs *lg, void (*fn)(void *ctx), void *ctx);
/* Reads what the pipes hold; calls fn when the host has it all, at once if it does already. */
void logs_settle(struct logs *lg, void (*fn)(void *ctx), void *ctx);
/* Gives the ring's memory back when it is empty. */
void logs_trim(struct logs *lg);

#endif
