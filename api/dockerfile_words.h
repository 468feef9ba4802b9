// SPDX-License-Identifier: Apache-2.0
/*
 * The small grammar inside Dockerfile instructions: an arena for strings,
 * variables, expansion of words, JSON arrays, paths. Private to dockerfile*.c.
 */
#ifndef DORMOUSE_API_DOCKERFILE_WORDS_H
#define DORMOUSE_API_DOCKERFILE_WORDS_H

#include "dockerfile.h"

/* ---- arena: NULL when the limit is reached ---- */
struct df_arena *df_arena_new(void);
void df_arena_free(struct df_arena *a);
void *df_alloc(struct df_arena *a, size_t len);
char *df_strn(struct df_arena *a, const char *s, size_t len);

/* ---- lists ---- */
bool df_push(struct df_arena *a, struct df_list *l, const char *s);
bool df_copy_list(struct df_arena *a, struct df_list *to, const struct df_list *from);

/* ---- variables ---- */
struct df_var {
    const char *name, *value;
    bool env; /* ENV wins over an ARG of the same name */
};
struct df_vars {
    struct df_var v[DF_VARS_MAX];
    size_t n;
};
const char *df_get(const struct df_vars *vars, const char *name, size_t len);
/* -E2BIG when there are too many or they are too large. */
int df_set(struct df_vars *vars, const char *name, const char *value, bool env);
bool df_name_ok(const char *s, size_t len);
/* "KEY=value" of all. */
bool df_env_list(struct df_arena *a, const struct df_vars *vars, bool with_args,
                 struct df_list *ret);

/* Removes quotes and escapes, expands $VAR ${VAR} ${VAR:-word} ${VAR:+word} ${VAR-word}
 * ${VAR+word}. NULL with `why` set. */
char *df_expand(struct df_arena *a, const char *s, size_t len, char escape,
                const struct df_vars *vars, const char **why);

/* Length of the word at s up to an unquoted blank. */
size_t df_word_len(const char *s, char escape);
static inline const char *df_skip(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

/* ["a", "b"]: 1 filled in, 0 this is no JSON array of strings, -1 out of memory. */
int df_json_array(struct df_arena *a, const char *s, struct df_list *ret);

/* Lexically clean absolute path of `path` below `dir`; keeps a trailing slash. */
char *df_path(struct df_arena *a, const char *dir, const char *path);

#endif
