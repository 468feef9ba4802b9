// SPDX-License-Identifier: Apache-2.0
/*
 * Dockerfile text -> list of steps. Pure: no files, no clock, no network. The
 * text comes from a stranger's zip; everything it can grow (steps, variables,
 * expansions) has a limit. Called by the image build; fuzzed.
 *
 * All strings of a result live in one arena that dockerfile_free() releases.
 */
#ifndef DORMOUSE_API_DOCKERFILE_H
#define DORMOUSE_API_DOCKERFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

#define DF_TEXT_MAX  65536u  /* the file */
#define DF_STEPS_MAX 256u    /* RUN, COPY and WORKDIR instructions */
#define DF_VARS_MAX  512u    /* ENV and ARG variables */
#define DF_ENV_BYTES 131072u /* all variables of one moment together */
#define DF_WORD_MAX  32768u  /* one expanded word */
#define DF_ARENA_MAX (48u << 20)
#define DF_PORTS_MAX 64u
#define DF_NOTES_MAX 64u

enum df_op { DF_RUN, DF_COPY, DF_WORKDIR };

struct df_list {
    char **v; /* NULL-terminated */
    size_t n;
};

struct df_step {
    enum df_op op;
    unsigned line;
    const char *text;    /* the instruction as people wrote it, on one line */
    struct df_list argv; /* RUN: what to execute */
    struct df_list src;  /* COPY: inside the context, no leading slash; may hold wildcards */
    const char *dst;     /* COPY, WORKDIR: absolute; trailing slash: a directory */
    const char *chown;   /* COPY: or NULL */
    bool has_mode;
    uint32_t mode;
    struct df_list env; /* RUN: "KEY=value", ARGs included */
    const char *user, *workdir;
};

struct df_note { /* accepted but without effect */
    unsigned line;
    const char *text;
};

struct df_arena;

struct dockerfile {
    const char *base; /* "debian" or "python" */
    unsigned from_line;
    struct df_step *steps;
    size_t nsteps;
    struct df_note notes[DF_NOTES_MAX];
    size_t nnotes;

    /* what runs in the end */
    struct df_list env;
    struct df_list argv; /* ENTRYPOINT and CMD together; never empty */
    const char *user;    /* "" root */
    const char *workdir;
    uint16_t ports[DF_PORTS_MAX];
    size_t nports;
    const char *stop_signal; /* "SIGTERM", "15" or NULL */

    struct df_arena *arena;
};

/* -EINVAL with "Dockerfile line N: …". */
int dockerfile_parse(const char *text, size_t len, struct dockerfile *ret, struct err *e);
void dockerfile_free(struct dockerfile *d);

#endif
