// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon's durable state behind one interface (SQLite now; a shared store
 * for a fleet of hosts can take its place). Every call is thread-safe and
 * durable when it returns 0. Strings in records are fixed size, so records are
 * plain values that can be copied.
 *
 * Not found is -ENOENT, a failed compare-and-set -ESTALE, already there -EEXIST. When the
 * state cannot be kept: -EBUSY another process holds it, -ENOSPC disk full, -EUCLEAN damaged.
 *
 * Iterators read in batches and hold no lock while they call fn, so fn may call the store;
 * rows added or removed meanwhile may or may not be seen, none is seen twice.
 */
#ifndef DORMOUSE_API_STORE_H
#define DORMOUSE_API_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

struct store;

#define NAME_CAP    72  /* image name <= 64 */
#define ARN_CAP     320 /* our own ARNs */
#define ID_CAP      72  /* microvm-<uuid> */
#define VERSION_CAP 16  /* "12.0" */
#define REASON_CAP  600

int store_open(struct store **ret, const char *path, struct err *e);
void store_close(struct store *s);

/* Several calls as one: all of them are kept or none, and no other writer comes between.
 * Between begin and end only store calls, by the same thread, nothing that may wait. After an
 * error: rollback. Begin may be nested; only the outermost commit writes. */
int store_begin(struct store *s, struct err *e);
int store_commit(struct store *s, struct err *e);
void store_rollback(struct store *s);
/* 16 secret bytes made when the state was, for keyed checksums. */
void store_secret(const struct store *s, uint8_t ret[16]);

/* ---- images ---------------------------------------------------------------- */
struct store_image {
    char name[NAME_CAP];
    char state[20]; /* CREATING CREATED CREATE_FAILED UPDATING UPDATED UPDATE_FAILED DELETING …
                     */
    char latest_active[VERSION_CAP], latest_failed[VERSION_CAP]; /* "" = none */
    uint32_t last_major; /* highest version number ever given */
    double created_at, updated_at;
};

struct store_version {
    char image[NAME_CAP];
    uint32_t major;  /* version is "<major>.0" */
    char state[16];  /* PENDING IN_PROGRESS SUCCESSFUL FAILED DELETING DELETED */
    char status[12]; /* ACTIVE INACTIVE */
    char reason[REASON_CAP];
    char build_id[40]; /* uuid of its build */
    char build_state[16];
    char file_id[40]; /* directory name under images/ once built, "" before */
    uint64_t memory_bytes, code_bytes, disk_bytes; /* snapshotBuild; 0 = absent */
    double created_at, updated_at;
    char *config; /* the request's image configuration members as JSON text (malloc'd) */
};
void store_version_free(struct store_version *v); /* frees config */

int store_image_add(struct store *s, const struct store_image *i, const struct store_version *v,
                    const char *tags_json, struct err *e); /* both in one transaction */
int store_image_get(struct store *s, const char *name, struct store_image *ret, struct err *e);
int store_image_set(struct store *s, const struct store_image *i, struct err *e);
int store_image_delete(struct store *s, const char *name,
                       struct err *e); /* versions and tags too */
/* 0 when an image of this name was deleted and none is there now, else -ENOENT. */
int store_image_gone(struct store *s, const char *name, struct err *e);
int store_image_count(struct store *s, uint64_t *ret, struct err *e);
int store_version_count(struct store *s, const char *image, uint64_t *ret, struct err *e);
/* New version of an existing image: sets state UPDATING and gives the next major. */
int store_version_add(struct store *s, struct store_version *v, struct err *e);
int store_version_get(struct store *s, const char *image, uint32_t major,
                      struct store_version *ret, struct err *e);
/* Writes all but config; with the image's row in the same transaction when not NULL. */
int store_version_set(struct store *s, const struct store_version *v,
                      const struct store_image *i, struct err *e);
/* Also the client tokens that made it. */
int store_version_delete(struct store *s, const char *image, uint32_t major, struct err *e);
/* Starting after the given key, images by name, versions newest first (UINT32_MAX to
 * start); fn returns false to stop. */
int store_image_each(struct store *s, const char *after_name,
                     bool (*fn)(void *ctx, const struct store_image *i), void *ctx,
                     struct err *e);
int store_version_each(struct store *s, const char *image, uint32_t before_major,
                       bool (*fn)(void *ctx, const struct store_version *v), void *ctx,
                       struct err *e);

/* ---- microVMs ---------------------------------------------------------------- */
struct store_vm {
    uint64_t row;    /* creation order */
    char id[ID_CAP]; /* microvm-<uuid> */
    char label[40];  /* endpoint uuid */
    char image[NAME_CAP];
    uint32_t major;
    char state[16]; /* PENDING RUNNING SUSPENDING SUSPENDED TERMINATING TERMINATED */
    char reason[REASON_CAP];
    char role_arn[2052];
    bool has_idle, auto_resume;
    uint32_t idle_seconds, suspended_seconds, max_seconds;
    double started_at, terminated_at; /* terminated_at 0 = not yet */
    double suspended_at;              /* 0 unless SUSPENDED */
    uint32_t ip;                      /* guest address, host order; 0 = none */
    uint64_t generation;              /* restores so far */
    char *ingress, *egress;           /* JSON arrays of ARNs (malloc'd, may be NULL) */
    char *payload;                    /* runHookPayload (malloc'd, may be NULL); never logged */
    char *logging;                    /* JSON or NULL */
    char name[NAME_CAP];              /* "" = none */
    char *tags, *env;                 /* JSON objects or NULL; env is never logged */
};
void store_vm_free(struct store_vm *vm);
int store_vm_add(struct store *s, struct store_vm *vm, struct err *e); /* sets row */
int store_vm_get(struct store *s, const char *id, struct store_vm *ret, struct err *e);
int store_vm_by_label(struct store *s, const char *label, struct store_vm *ret, struct err *e);
/* Writes state, reason, times, ip, generation. With `from` not NULL only when the stored
 * state is `from` (-ESTALE otherwise). */
int store_vm_set(struct store *s, const struct store_vm *vm, const char *from, struct err *e);
/* Writes idle policy, duration, name and tags of one that has not ended (-ESTALE). */
int store_vm_update(struct store *s, const struct store_vm *vm, struct err *e);
int store_vm_delete(struct store *s, const char *id, struct err *e); /* its tokens too */
/* microVMs of an image (major 0: of all its versions) that are not TERMINATED. */
int store_vm_count_live(struct store *s, const char *image, uint32_t major, uint64_t *ret,
                        struct err *e);
/* Ids of TERMINATED ones that ended before that time, longest ago first. */
int store_vm_ended(struct store *s, double before, char (*ret)[ID_CAP], size_t cap,
                   size_t *ret_n, struct err *e);
/* What lists show. */
struct store_vm_brief {
    uint64_t row;
    char id[ID_CAP], image[NAME_CAP], state[16];
    uint32_t major;
    double started_at;
};
int store_vm_each(struct store *s, uint64_t before_row, /* newest first; UINT64_MAX to start */
                  const char *image, uint32_t major,    /* NULL/0: all */
                  bool (*fn)(void *ctx, const struct store_vm_brief *vm), void *ctx,
                  struct err *e);

/* ---- access keys, client tokens, tags ------------------------------------------ */
struct store_key {
    char id[132], secret[68], name[68], rights[12]; /* admin run read */
    double created_at;
};
int store_key_add(struct store *s, const struct store_key *k, struct err *e);
int store_key_get(struct store *s, const char *id, struct store_key *ret, struct err *e);
int store_key_delete(struct store *s, const char *id, struct err *e);
int store_key_each(struct store *s, bool (*fn)(void *ctx, const struct store_key *k), void *ctx,
                   struct err *e);

/* Idempotency: -EEXIST when the token is known: ret gets its resource and request hash. */
struct store_client_token {
    char token[516], operation[32], resource[ID_CAP], request_hash[68];
    uint32_t major; /* version made by the request, 0 = none */
    double created_at;
};
int store_client_token_add(struct store *s, const struct store_client_token *t,
                           struct store_client_token *ret_existing, struct err *e);
int store_client_token_get(struct store *s, const char *token, const char *operation,
                           struct store_client_token *ret, struct err *e);
int store_client_token_drop(struct store *s, const char *resource, double older_than,
                            struct err *e); /* of one resource, or (NULL) all older */

int store_tags_get(struct store *s, const char *image, char **ret_json, struct err *e);
int store_tags_set(struct store *s, const char *image, const char *json, struct err *e);

#endif
