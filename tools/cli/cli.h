// SPDX-License-Identifier: Apache-2.0
/*
 * The command line tool's common part: the run's settings, how it fails, calls
 * to the host's API. Data goes to stdout, everything else to stderr. Functions
 * that can fail return an exit status, 0 for success; the reason is in
 * c->fail. Everything the host or a guest sends is text that may try to steer
 * the terminal: it is printed through text.h.
 */
#ifndef DORMOUSE_CLI_CLI_H
#define DORMOUSE_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "../../hypervisor/base/buf.h"
#include "../../hypervisor/base/err.h"
#include "http_client.h"
#include "opts.h"
#include "settings.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_DENIED = 4,
    CLI_STATE = 5, /* not possible in the present state */
    CLI_UNREACHABLE = 6,
    CLI_TIMEOUT = 7,
    CLI_INTERRUPTED = 130,
};

struct cli_fail {
    char code[64];    /* for machines, e.g. ResourceNotFoundException */
    char request[48]; /* id of the request that failed */
    char cause[4000]; /* more lines, or "" */
    struct err e;
};

struct host_facts {
    bool known;
    char region[64], account[32], domain[128], version[32];
};

struct cli {
    const char *program;
    bool json;                           /* answers and errors as JSON */
    bool color_out, color_err, safe_out; /* safe: stdout is a terminal */
    const char *url, *ca;                /* flags */
    struct settings set;
    struct tls_client *tls;
    struct http_client api;
    struct host_facts facts;
    struct cli_fail fail;
    int sigfd; /* reports an interrupt while we wait; -1: an interrupt ends us */
};

struct cli_command {
    const char *name;
    int (*run)(struct cli *c, struct args *a);
    const char *usage; /* what follows the name */
    const char *text;  /* one line */
    const struct opt *opts;
};
const struct cli_command *cli_commands(size_t *ret_n);

/* ---- failing and talking (report.c) ---- */
int cli_fail(struct cli *c, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same from an error object. */
int cli_fail_err(struct cli *c, int status, const char *code, const struct err *e);
int cli_hint(struct cli *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int cli_no_memory(struct cli *c);
/* Prints the failure's block to stderr. */
void cli_report(const struct cli *c);
/* " ✓ packed      text" on stderr. */
void cli_step(const struct cli *c, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Pretty JSON on stdout, with times as RFC 3339. */
int cli_print_json(struct cli *c, const json_t *v);
int cli_print_new_json(struct cli *c, json_t *v); /* and frees it */
struct table;
/* To stdout; `none` to stderr when there are no rows. */
int cli_print_table(struct cli *c, const struct table *t, const char *none);
/* The text of a member of an answer, "" if it has none. */
const char *member(const json_t *v, const char *name);
/* stdout could take everything. */
int cli_flush(struct cli *c);

/* ---- the host's API (call.c) ---- */
/* Reads the settings and trust; no connection yet. Called by the rest when needed. */
int cli_open(struct cli *c);
/* A path from a template in which each % stands for the next argument, encoded. */
void cli_path(struct buf *b, const char *template, ...);

struct api_answer {
    int status;
    struct buf body;
    uint64_t next_offset;        /* x-dormouse-next-offset */
    uint64_t log_size;           /* x-dormouse-log-size */
    bool end_of_file;            /* x-dormouse-end-of-file */
    int64_t date;                /* the peer's clock, epoch seconds, 0 = not said */
    char error[64], request[48]; /* x-amzn-errortype, x-amzn-requestid */
};
/* One signed request; statuses of 400 and more are failures with the service's message. */
struct api_request {
    const char *service, *method, *path, *query;
    const struct http_body *body; /* or NULL */
    const char *content_type, *payload_hash;
    bool plain;   /* not signed */
    int limit_ms; /* for the head of the answer; 0: as long as a suspend may take */
    const char *last_event;
    const char *websocket; /* Sec-WebSocket-Key: the answer is to be 101 */
    /* Reads the body of a good answer by itself, from c->api.h; an exit status. */
    int (*take)(struct cli *c, void *ctx);
    void *ctx;
};
int cli_request(struct cli *c, const struct api_request *r, struct api_answer *ret);
void api_answer_free(struct api_answer *a);
/* JSON in, JSON out; in may be NULL; ret may be NULL. */
int cli_call(struct cli *c, const char *method, const char *path, const char *query,
             const json_t *in, json_t **ret);
/* The same for an answer that may take so long. */
int cli_call_for(struct cli *c, int limit_ms, const char *method, const char *path,
                 const json_t *in, json_t **ret);
/* Every page's items in one array. */
int cli_list(struct cli *c, const char *path, const char *query, json_t **ret);
/* Region, account, domain: asked once. */
int cli_facts(struct cli *c);

/* ---- names (find.c) ---- */
/* "NAME", "NAME:VERSION" or an ARN. version "" when not given. */
struct image_ref {
    char arn[320], name[72], version[16];
};
int find_image(struct cli *c, const char *text, struct image_ref *ret);
/* Full id of a microVM from an id, an ARN, or a prefix that only one has. */
int find_vm(struct cli *c, const char *text, char ret_id[72]);
/* What to say when the image is not there: adds names that are near. */
int image_missing(struct cli *c, const char *name, int status);
/* First letters of the id, enough for people. */
void short_id(const char *id, char ret[16]);

/* ---- waiting (wait.c) ---- */
/* From here on an interrupt ends a wait, not the program. */
void wait_begin(struct cli *c);
/* CLI_OK after `ms`, CLI_INTERRUPTED. */
int wait_for(struct cli *c, int ms);

/* Follows the log until it is complete and the state rests; see logs.c. */
struct log_follow {
    char path[600];  /* of the log */
    uint64_t offset; /* next byte */
    FILE *to;
    struct buf tail; /* the last lines, for failures */
    struct buf *all; /* NULL, or where everything is collected */
    bool dim;
};
/* One step; *ret_size: how long the log was then. */
int log_read(struct cli *c, struct log_follow *l, uint64_t *ret_size);
void log_end(struct log_follow *l);

/* A token for the microVM; allowed is the API's list of ports. */
int mint_token(struct cli *c, const char *id, json_t *allowed, unsigned minutes, char *ret,
               size_t cap);
/* "8080,9000-9100" or "all" as the API's list; NULL with the failure set. */
json_t *ports_list(struct cli *c, const char *text);

/* --NAME K=V options as an object; NULL with the failure set. */
json_t *pairs_of(struct cli *c, const struct args *a, const char *name);

/* ---- what other commands are made of ---- */
struct built {
    char name[72], version[16];
};
int build_image(struct cli *c, struct args *a, const char *path, struct built *ret);
/* state "" when the microVM was not waited for. */
struct started {
    char id[72], endpoint[400], state[24], reason[600];
    double ms;
};
struct run_wish {
    const char *image; /* NAME[:VERSION] or ARN */
    unsigned idle, keep, max_seconds;
    const char *payload;
    bool wait;
    const char *name;          /* or NULL */
    const struct args *extras; /* for its --tag and --env, or NULL */
};
int run_vm(struct cli *c, const struct run_wish *w, struct started *ret);

#define CLI_COMMAND(name)                          \
    int cmd_##name(struct cli *c, struct args *a); \
    extern const struct opt opts_##name[]
CLI_COMMAND(images);
CLI_COMMAND(ps);
CLI_COMMAND(build);
CLI_COMMAND(run);
CLI_COMMAND(curl);
CLI_COMMAND(token);
CLI_COMMAND(logs);
CLI_COMMAND(suspend);
CLI_COMMAND(resume);
CLI_COMMAND(terminate);
CLI_COMMAND(checkpoint);
CLI_COMMAND(checkpoints);
CLI_COMMAND(rollback);
CLI_COMMAND(fork);
CLI_COMMAND(rm);
CLI_COMMAND(inspect);
CLI_COMMAND(deploy);
CLI_COMMAND(exec);
CLI_COMMAND(cp);
CLI_COMMAND(ls);
CLI_COMMAND(update);
CLI_COMMAND(events);
CLI_COMMAND(keys);
CLI_COMMAND(host);
CLI_COMMAND(doctor);
CLI_COMMAND(env);
CLI_COMMAND(version);
CLI_COMMAND(help);
#undef CLI_COMMAND

#endif
