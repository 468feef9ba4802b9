// SPDX-License-Identifier: Apache-2.0
/*
 * The part of the benchmarks that goes through dormoused and TLS, as any client would; runs on
 * the host itself. What its cases share: daemon.c; the cases: daemon_first.c (first bytes,
 * proxy), daemon_many.c (rates, clones, lists), daemon_sleep.c (suspends),
 * daemon_fork.c (checkpoints and forks).
 */
#ifndef DORMOUSE_TESTS_BENCH_DAEMON_H
#define DORMOUSE_TESTS_BENCH_DAEMON_H

#include <stdbool.h>

#include "../../tools/cli/cli.h"
#include "record.h"

#define MICROVMS "/2025-09-09/microvms"
#define WHO      "dormouse"
#define LIMIT_MS 300000

struct bench {
    struct cli c;
    struct image_ref image;
    const char *log, *state; /* dormoused's log and state directory */
    unsigned runs;           /* the first is discarded */
    unsigned clones;         /* at most */
};

struct vm {
    char id[72], endpoint[400], token[4096];
    struct http_client hc;
};

/* RunMicrovm; true when it was accepted. */
bool vm_run(struct bench *b, struct vm *vm);
bool vm_token(struct bench *b, struct vm *vm);
/* A connection to its endpoint, not yet made. */
bool vm_dial(struct bench *b, struct vm *vm);
/* GET of `path` over a connection of the caller's; the answer must be 200. */
bool vm_ask(struct http_client *hc, const struct vm *vm, const char *path);
bool vm_suspend(struct bench *b, const char *id);                    /* until it is SUSPENDED */
bool vm_in_state(struct bench *b, const char *id, const char *want); /* waits for it */
bool vm_end(struct bench *b, const char *id);
/* When the last request left the client, by now_ns(). */
uint64_t last_written(void);
/* GET of the API's, kept or dropped answer. */
bool api_get(struct bench *b, const char *template, const char *id, json_t **ret);
/* The last line of the log that has both texts; "" in ret and false without one. */
bool log_last(const struct bench *b, const char *id, const char *what, char ret[1024]);
/* The number behind `word` in a line. */
double number_after(const char *line, const char *word);

void daemon_first(struct bench *b);
void daemon_proxy(struct bench *b);
void daemon_create(struct bench *b);
void daemon_clones(struct bench *b);
void daemon_list(struct bench *b);
void daemon_suspend(struct bench *b);
void daemon_sessions(struct bench *b);
void daemon_fork(struct bench *b);

#endif
