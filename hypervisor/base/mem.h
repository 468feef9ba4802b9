// SPDX-License-Identifier: Apache-2.0
/*
 * Clean-up attributes and small pointer helpers. AUTO_* variables release
 * their object when they leave scope; TAKE_* hands it on instead.
 */
#ifndef DORMOUSE_BASE_MEM_H
#define DORMOUSE_BASE_MEM_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void auto_free_(void *p)
{
    free(*(void **)p);
}

static inline void auto_close_(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void auto_fclose_(FILE **f)
{
    if (*f)
        fclose(*f);
}

#define AUTO_FREE   __attribute__((cleanup(auto_free_)))
#define AUTO_CLOSE  __attribute__((cleanup(auto_close_)))
#define AUTO_FCLOSE __attribute__((cleanup(auto_fclose_)))
#define AUTO(fn)    __attribute__((cleanup(fn)))

/* Return the fd or pointer and forget it, so that AUTO_* leaves it alone. */
static inline int take_fd(int *fd)
{
    int r = *fd;
    *fd = -1;
    return r;
}

/* Memory that is never given back, in one piece: what lies together is touched together, and no
 * mapping is made for it. Zeroed. Without an arena, or beyond its end, it is the heap's. */
struct arena {
    char *at;
    size_t left;
};

static inline void *arena_new(struct arena *a, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (!a || size > a->left)
        return calloc(1, size);
    char *p = a->at;
    a->at += size;
    a->left -= size;
    return p;
}

static inline void arena_free(const struct arena *a, void *p)
{
    if (!a)
        free(p);
}

#define TAKE_PTR(p)                 \
    ({                              \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })

#endif
