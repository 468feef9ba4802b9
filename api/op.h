// SPDX-License-Identifier: Apache-2.0
/*
 * Inside of the control API: one request under way, and what the operations
 * share. An operation gets its input already validated against its shape,
 * writes its answer through `w`, and returns 0; or it returns op_fail(), which
 * replaces whatever was written by an error.
 */
#ifndef DORMOUSE_API_OP_H
#define DORMOUSE_API_OP_H

#include <jansson.h>

#include "api.h"
#include "arn.h"
#include "config_json.h"
#include "jsonw.h"
#include "page.h"
#include "texts.h"
#include "validate.h"

#define CLIENT_TOKEN_TTL   86400.0 /* seconds a client token is remembered */
#define DEFAULT_DURATION_S 28800u

enum error_style { MODERN, CLASSIC };

struct op;

struct route {
    const char *operation, *method, *path;
    int status;
    enum rights rights;
    enum error_style style;
    enum shape_id input;
    int (*run)(struct op *o);
};

struct op {
    struct api *api;
    const struct route *route;
    json_t *in;
    const void *body; /* as it came, for operations whose input has no member in it */
    size_t body_len;
    const struct http_req *req;
    const struct conn *peer; /* who waits for the answer, or NULL */
    struct http_res *res;
    struct jsonw w;
    /* Filled in before op_fail() where the error has these members; "" otherwise. */
    const char *about_type, *about_id, *about_quota;
};

/* ---- routes (route.c) ---- */
const struct route *route_find(const char *method, const char *raw_path);
/* All members of the input: labels, query and body. -EINVAL with a sentence in *text. */
int route_input(const struct route *r, const struct http_req *req, const void *body, size_t len,
                json_t **ret, struct buf *text);

/* ---- errors (api.c) ---- */
/* Always -1. */
int op_fail(struct op *o, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with resourceType and resourceId in the body. */
#define op_fail_about(o, type, id, ...) \
    ((o)->about_type = (type), (o)->about_id = (id), op_fail((o), __VA_ARGS__))
/* A failure of the store; its details go to the log only. */
int op_fail_store(struct op *o, const struct err *e);
/* A failure of the fleet with the microVM. */
int op_fail_fleet(struct op *o, const char *vm_id, const struct err *e);

/* ---- input (op.c) ---- */
const char *op_str(const struct op *o, const char *name); /* NULL when absent */
double op_now(void);                                      /* epoch seconds, whole ms */
/* An image's ARN, as we write it. */
void op_image_arn(const struct op *o, const char *name, char ret[ARN_CAP]);
void op_version_text(uint32_t major, char ret[VERSION_CAP]);
/* The image's name in an identifier; `bare` is what to say when it is no ARN at all. */
enum arn_words { SAY_INVALID_FORMAT, SAY_MALFORMED };
int op_image_name(struct op *o, const char *arn, enum arn_words bare, char ret[NAME_CAP]);
/* The image that imageIdentifier names. */
int op_image(struct op *o, struct store_image *ret);
/* The version that imageIdentifier and imageVersion name; the image too when not NULL. */
int op_version(struct op *o, struct store_image *ret_image, struct store_version *ret);
/* The microVM that microvmIdentifier names; store_vm_free(). */
int op_microvm(struct op *o, struct store_vm *ret);
/* Name of a managed image's ARN, or NULL. */
const char *op_managed_image(const struct op *o, const char *arn);

/* Idempotency. Before the transaction: hash of the request. Inside it: 1 when the request was
 * made before (*t says what it made), 0 when it is new, -1 failed. Then, still inside, keep. */
int op_token_begin(struct op *o, struct store_client_token *t);
int op_token_known(struct op *o, struct store_client_token *t);
int op_token_keep(struct op *o, struct store_client_token *t, const char *resource,
                  uint32_t major);

/* ---- pages (op.c) ---- */
struct op_page {
    struct op *o;
    size_t max, count;
    bool more;
    char question[2 * NAME_CAP + 64];
    char start[PAGE_KEY_MAX + 1]; /* position to go on after, or "" */
    char last[PAGE_KEY_MAX + 1];
};
/* Reads maxResults and nextToken and opens the list. */
int op_page_begin(struct op *o, struct op_page *p, const char *question);
/* Room for one more item at that position? If not, the page ends with a nextToken. */
bool op_page_next(struct op_page *p, const char *position);
int op_page_end(struct op_page *p);

/* ---- answers that several operations give ---- */
void write_image(struct op *o, const struct store_image *i);                /* ops_image.c */
int write_tags(struct op *o, const char *image);                            /* ops_tag.c */
int tags_check(struct op *o, const json_t *tags);                           /* ops_tag.c */
void write_version(struct op *o, const struct store_version *v);            /* ops_version.c */
int reset_latest_active(struct op *o, struct store_image *i);               /* ops_version.c */
int newest_active(struct op *o, const char *image, struct store_version *); /* ops_version.c */
void write_microvm(struct op *o, const struct store_vm *vm);                /* ops_microvm.c */
/* Name and tags, which the service's own answers do not have. */
void write_extras(struct op *o, const struct store_vm *vm); /* ops_microvm.c */
/* maximumDurationInSeconds and idlePolicy of the request, into the row (ops_run.c). */
int run_duration(struct op *o, struct store_vm *vm);
void run_idle(struct op *o, struct store_vm *vm);
/* Where a forked microVM comes from; nothing for others. ops_fork.c */
int write_lineage(struct op *o, const char *vm_id);
/* Command, environment, directory and user of the request as fields of GP_EXEC. ops_exec.c */
void exec_fields(struct buf *b, const json_t *in);
void exec_field(struct buf *b, uint16_t tag, const void *data, size_t len);
/* A failure with a checkpoint. ops_checkpoint.c */
int op_fail_checkpoint(struct op *o, const char *vm_id, const struct err *e);
/* The request's tags as JSON text (malloc'd), NULL without. */
int op_tags(struct op *o, char **ret);
/* Checks the list of connectors, or takes the default, as JSON text (malloc'd). */
int connectors_read(struct op *o, const char *member, bool ingress, char **ret);
/* What the connectors of a microVM let in. */
struct ingress {
    bool http, shell, all_and_more;
};
int ingress_read(const char *json, struct ingress *ret); /* ops_connector.c */

#define ROUTE(name, method, path, status, rights, style) int op_##name(struct op *o);
#include "routes.def"
#undef ROUTE

#endif
