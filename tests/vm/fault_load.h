// SPDX-License-Identifier: Apache-2.0
/*
 * Clients that keep a daemon busy and remember what it acknowledged: each has
 * one microVM at a time, and looks after every disturbance whether it is what
 * it must be. The application counts requests, in memory and on disk.
 */
#ifndef DORMOUSE_TESTS_FAULT_LOAD_H
#define DORMOUSE_TESTS_FAULT_LOAD_H

#include <pthread.h>
#include <stdbool.h>

#include "../../tools/cli/cli.h"

#define MICROVMS "/2025-09-09/microvms"

struct client {
    struct cli cli;
    struct http_client edge;
    const char *image;
    char id[72], arn[320], token[4096]; /* arn: the image's, once known */
    char name[24];                      /* the application's, made when it started */
    unsigned long counted;              /* answered requests */
    enum { THERE_NOT, THERE, THERE_MAYBE } there;
    const char *must; /* the state that was acknowledged, or NULL: any of a living microVM */
    unsigned ops, failed;
    unsigned lost; /* broken promises: each is printed */
    unsigned number, runs;
    long long since; /* when it was opened */
};

/* What each step of work asks for; false: the daemon could not be reached or refused. */
bool client_open(struct client *c, unsigned number, const char *image);
void client_close(struct client *c);
bool client_run(struct client *c);
bool client_ask(struct client *c);
bool client_act(struct client *c, const char *verb); /* suspend resume terminate */
extern bool client_tells;                            /* what failed: nobody is to be killed */
/* Anything of what may be done next. */
bool client_step(struct client *c);
/* After a disturbance: is everything there that was acknowledged? */
bool client_check(struct client *c);
/* How many microVMs have a process, by the list; -1: it could not be had. */
int client_count(struct client *c);
/* The state as the API tells it, "" when it does not. */
void client_state(struct client *c, char ret[24]);
/* GET with a JSON answer; NULL when it fails. */
json_t *client_get(struct client *c, const char *path, const char *query);

/* N clients in threads. Between stop and go nobody works. */
struct crowd;
struct crowd *crowd_start(unsigned n, const char *image);
void crowd_pace(struct crowd *w, unsigned ms); /* each rests that long on average; at first 0 */
void crowd_stop(struct crowd *w);              /* at the end of the step each is in */
void crowd_go(struct crowd *w);
unsigned crowd_steps(struct crowd *w); /* so far */
bool crowd_check(struct crowd *w);     /* all of them, while stopped */
void crowd_end(struct crowd *w, unsigned *ret_ops, unsigned *ret_failed, unsigned *ret_lost);

#endif
