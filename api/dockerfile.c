// SPDX-License-Identifier: Apache-2.0
/*
 * Dockerfile lines and instructions; see dockerfile.h. One pass: logical lines
 * are joined, then each instruction changes the parser's state (variables,
 * user, directory, shell) or adds a step that carries a copy of it.
 */
#include "dockerfile.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "dockerfile_words.h"

struct parser {
    struct dockerfile *d;
    struct df_arena *a;
    struct err *e;
    unsigned line; /* where the instruction begins */
    char escape;
    bool from_seen;
    const char *text; /* whole instruction */
    struct df_list shell, entrypoint, cmd;
    bool entrypoint_shell;
    struct df_vars vars, global; /* global: ARGs before FROM */
};

static int fail(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct parser *p, const char *fmt, ...)
{
    char msg[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return err_set(p->e, EINVAL, "Dockerfile line %u: %s", p->line, msg);
}

static int too_big(struct parser *p)
{
    return fail(p, "the file needs too much memory");
}

static int note(struct parser *p, const char *what)
{
    if (p->d->nnotes < DF_NOTES_MAX)
        p->d->notes[p->d->nnotes++] = (struct df_note){p->line, what};
    return 0;
}

/* Expands the word at *s and moves behind it and the blanks that follow. */
static int word(struct parser *p, const char **s, const char **ret)
{
    size_t len = df_word_len(*s, p->escape);
    const char *why = NULL;
    *ret = df_expand(p->a, *s, len, p->escape, p->from_seen ? &p->vars : &p->global, &why);
    if (!*ret)
        return fail(p, "%s", why);
    *s = df_skip(*s + len);
    return 0;
}

/* The rest of the instruction as one expanded word. */
static int rest(struct parser *p, const char *s, const char **ret)
{
    const char *why = NULL;
    *ret = df_expand(p->a, s, strlen(s), p->escape, &p->vars, &why);
    return *ret ? 0 : fail(p, "%s", why);
}

/* A flag "--name=value" at *s: 1 and moves on, 0 no flag. */
static int flag(struct parser *p, const char **s, const char **name, const char **value)
{
    if (strncmp(*s, "--", 2) != 0)
        return 0;
    const char *w;
    int r = word(p, s, &w);
    if (r < 0)
        return r;
    const char *eq = strchr(w, '=');
    *name = eq ? df_strn(p->a, w + 2, (size_t)(eq - w) - 2) : w + 2;
    *value = eq ? eq + 1 : "";
    return *name ? 1 : too_big(p);
}

static int add_step(struct parser *p, enum df_op op, struct df_step **ret)
{
    struct dockerfile *d = p->d;
    if (d->nsteps == DF_STEPS_MAX)
        return fail(p, "more than %u steps", DF_STEPS_MAX);
    struct df_step *s = &d->steps[d->nsteps++];
    *s = (struct df_step){
        .op = op, .line = p->line, .text = p->text, .user = d->user, .workdir = d->workdir};
    *ret = s;
    return 0;
}

/* Exec form as it is, shell form behind the shell. */
static int command(struct parser *p, const char *s, struct df_list *ret, bool *shell)
{
    struct df_list l = {0};
    int r = df_json_array(p->a, s, &l);
    if (r < 0)
        return too_big(p);
    *shell = r == 0;
    if (r == 0 && (!df_copy_list(p->a, &l, &p->shell) || !df_push(p->a, &l, s)))
        return too_big(p);
    *ret = l;
    return 0;
}

/* ---- instructions ---- */

static int do_from(struct parser *p, const char *s)
{
    const char *name, *value, *image;
    int r;
    if (p->from_seen)
        return fail(p, "a second FROM (multi-stage builds) is not supported yet");
    while ((r = flag(p, &s, &name, &value)) > 0) {
        if (strcmp(name, "platform") != 0)
            return fail(p, "FROM knows no flag --%s", name);
        if (strcmp(value, "linux/arm64") != 0 && strcmp(value, "linux/arm64/v8") != 0)
            return fail(p, "platform '%s' cannot run here, only linux/arm64", value);
    }
    if (r < 0 || (r = word(p, &s, &image)) < 0)
        return r;
    if (*s) {
        const char *as, *stage;
        if ((r = word(p, &s, &as)) < 0 || (r = word(p, &s, &stage)) < 0)
            return r;
        if (strcasecmp(as, "as") != 0 || !*stage || *s)
            return fail(p, "write FROM <image> or FROM <image> AS <name>");
    }
    size_t len = strlen(image);
    if (len > 7 && strcmp(image + len - 7, ":latest") == 0)
        len -= 7;
    static const char *const bases[][2] = {{"dormouse/debian", "debian"},
                                           {"dormouse/python", "python"}};
    for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
        if (strlen(bases[i][0]) == len && strncmp(image, bases[i][0], len) == 0)
            p->d->base = bases[i][1];
    }
    if (!p->d->base)
        return fail(p, "FROM '%.100s' is not available; use dormouse/debian or dormouse/python",
                    image);
    p->d->from_line = p->line;
    p->from_seen = true;
    if (df_set(&p->vars, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               true) < 0)
        return too_big(p);
    return 0;
}

static int do_run(struct parser *p, const char *s)
{
    const char *name, *value;
    struct df_step *st;
    bool shell;
    int r;
    while ((r = flag(p, &s, &name, &value)) > 0) {
        if (strcmp(name, "network") != 0 || strcmp(value, "default") != 0)
            return fail(p, "RUN --%s is not supported", name);
    }
    if (r < 0)
        return r;
    if (!*s)
        return fail(p, "RUN needs a command");
    if ((r = add_step(p, DF_RUN, &st)) < 0 || (r = command(p, s, &st->argv, &shell)) < 0)
        return r;
    if (st->argv.n == 0)
        return fail(p, "RUN needs a command");
    return df_env_list(p->a, &p->vars, true, &st->env) ? 0 : too_big(p);
}

static int copy_source(struct parser *p, struct df_step *st, const char *w, bool add)
{
    if (add && (strstr(w, "://") || strncmp(w, "git@", 4) == 0))
        return fail(p, "ADD of a URL is not supported; download it in a RUN instruction");
    size_t len = strlen(w);
    static const char *const packed[] = {".tar",     ".tar.gz", ".tgz",
                                         ".tar.bz2", ".tar.xz", ".txz"};
    for (size_t i = 0; add && i < ARRAY_LEN(packed); i++) {
        size_t n = strlen(packed[i]);
        if (len > n && strcasecmp(w + len - n, packed[i]) == 0)
            return fail(p, "ADD does not unpack archives; use COPY and RUN tar");
    }
    /* The context's own root is the highest directory there is. */
    const char *clean = df_path(p->a, "/", w);
    if (!clean)
        return too_big(p);
    return df_push(p->a, &st->src, clean[1] ? clean + 1 : ".") ? 0 : too_big(p);
}

static int do_copy(struct parser *p, const char *s, bool add)
{
    const char *verb = add ? "ADD" : "COPY", *name, *value;
    struct df_step *st;
    struct df_list l = {0}, words = {0};
    int r = add_step(p, DF_COPY, &st);
    if (r < 0)
        return r;
    while ((r = flag(p, &s, &name, &value)) > 0) {
        uint32_t mode = 0;
        if (strcmp(name, "chown") == 0 && *value) {
            st->chown = value;
        } else if (strcmp(name, "chmod") == 0) {
            for (const char *c = value; *c && mode < 010000; c++)
                mode = *c >= '0' && *c <= '7' ? mode * 8 + (uint32_t)(*c - '0') : 010000;
            if (!*value || mode > 07777)
                return fail(p, "--chmod wants an octal number such as 755");
            st->has_mode = true;
            st->mode = mode;
        } else if (strcmp(name, "link") != 0) {
            return fail(p, "%s --%s is not supported%s", verb, name,
                        strcmp(name, "from") == 0 ? " yet (multi-stage builds)" : "");
        }
    }
    if (r < 0)
        return r;
    if ((r = df_json_array(p->a, s, &l)) < 0)
        return too_big(p);
    for (size_t i = 0; r && i < l.n; i++) {
        const char *why = NULL;
        char *w = df_expand(p->a, l.v[i], strlen(l.v[i]), p->escape, &p->vars, &why);
        if (!w)
            return fail(p, "%s", why);
        if (!df_push(p->a, &words, w))
            return too_big(p);
    }
    while (!r && *s) {
        const char *w;
        int wr = word(p, &s, &w);
        if (wr < 0)
            return wr;
        if (!df_push(p->a, &words, w))
            return too_big(p);
    }
    if (words.n < 2)
        return fail(p, "%s needs at least a source and a destination", verb);
    const char *dst = words.v[words.n - 1];
    if (!*dst)
        return fail(p, "%s has an empty destination", verb);
    for (size_t i = 0; i + 1 < words.n; i++) {
        if ((r = copy_source(p, st, words.v[i], add)) < 0)
            return r;
    }
    st->dst = df_path(p->a, p->d->workdir, dst);
    if (!st->dst)
        return too_big(p);
    if (words.n > 2 && st->dst[strlen(st->dst) - 1] != '/')
        return fail(p, "with several sources the destination must end with '/'");
    return 0;
}

static int do_env(struct parser *p, const char *s)
{
    struct df_vars *before = malloc(sizeof *before); /* $X means the value from before */
    int r = 0;
    if (!before)
        return too_big(p);
    *before = p->vars;
    size_t first = df_word_len(s, p->escape);
    bool pairs = memchr(s, '=', first) != NULL;
    while (*s && r == 0) {
        size_t klen = strcspn(s, pairs ? "= \t" : " \t");
        const char *why = NULL, *val;
        char *key = df_strn(p->a, s, klen), *expanded;
        s += klen;
        if (!df_name_ok(key ? key : "", klen) || (pairs && *s != '=') || (!pairs && !*s)) {
            r = fail(p, "write ENV KEY=value");
            break;
        }
        val = pairs ? s + 1 : df_skip(s);
        size_t vlen = pairs ? df_word_len(val, p->escape) : strlen(val);
        expanded = df_expand(p->a, val, vlen, p->escape, before, &why);
        if (!expanded)
            r = fail(p, "%s", why);
        else if (df_set(&p->vars, key, expanded, true) < 0)
            r = fail(p, "too many variables, or too long");
        s = df_skip(val + vlen);
    }
    free(before);
    return r;
}

static int do_arg(struct parser *p, const char *s)
{
    while (*s) {
        const char *w;
        int r = word(p, &s, &w);
        if (r < 0)
            return r;
        size_t klen = strcspn(w, "=");
        char *key = df_strn(p->a, w, klen);
        if (!key)
            return too_big(p);
        if (!df_name_ok(key, klen))
            return fail(p, "write ARG NAME or ARG NAME=default");
        /* Without a default it takes that of an ARG before FROM; else it is not set. */
        const char *value = w[klen] ? w + klen + 1 : df_get(&p->global, key, klen);
        if (value && df_set(p->from_seen ? &p->vars : &p->global, key, value, false) < 0)
            return fail(p, "too many variables, or too long");
    }
    return 0;
}

static int do_workdir(struct parser *p, const char *s)
{
    const char *w;
    struct df_step *st;
    int r = rest(p, s, &w);
    if (r < 0)
        return r;
    char *path = df_path(p->a, p->d->workdir, w);
    if (!path)
        return too_big(p);
    size_t len = strlen(path);
    if (len > 1 && path[len - 1] == '/')
        path[len - 1] = '\0';
    if ((r = add_step(p, DF_WORKDIR, &st)) < 0)
        return r;
    p->d->workdir = st->dst = path;
    return 0;
}

static int do_user(struct parser *p, const char *s)
{
    const char *w;
    int r = rest(p, s, &w);
    if (r < 0)
        return r;
    if (strlen(w) > 128 || strpbrk(w, " \t\r\n"))
        return fail(p, "write USER <name>[:<group>]");
    p->d->user = w;
    return 0;
}

static int do_expose(struct parser *p, const char *s)
{
    struct dockerfile *d = p->d;
    while (*s) {
        const char *w;
        uint64_t lo, hi;
        int r = word(p, &s, &w);
        if (r < 0)
            return r;
        size_t len = strcspn(w, "/"), dash = strcspn(w, "-");
        const char *proto = w + len;
        if ((*proto && strcasecmp(proto, "/tcp") != 0 && strcasecmp(proto, "/udp") != 0) ||
            !parse_u64n(w, MIN(dash, len), 1, 65535, &lo))
            return fail(p, "'%.40s' is no port", w);
        hi = lo;
        if (dash < len && (!parse_u64n(w + dash + 1, len - dash - 1, 1, 65535, &hi) || hi < lo))
            return fail(p, "'%.40s' is no range of ports", w);
        for (; lo <= hi && d->nports < DF_PORTS_MAX && strcasecmp(proto, "/udp") != 0; lo++)
            d->ports[d->nports++] = (uint16_t)lo;
    }
    return 0;
}

static int do_shell(struct parser *p, const char *s)
{
    struct df_list l = {0};
    if (df_json_array(p->a, s, &l) != 1 || l.n == 0)
        return fail(p, "SHELL wants a JSON array such as [\"/bin/bash\", \"-c\"]");
    p->shell = l;
    return 0;
}

static int do_stopsignal(struct parser *p, const char *s)
{
    const char *w;
    int r = rest(p, s, &w);
    if (r < 0)
        return r;
    if (!*w || strlen(w) > 20)
        return fail(p, "write STOPSIGNAL SIGTERM, or a number");
    p->d->stop_signal = w;
    return 0;
}

/* A word like <<EOF or 3<<-"EOF" as its own: Docker takes it for a heredoc. */
static bool has_heredoc(const char *s)
{
    for (s = df_skip(s); *s; s = df_skip(s + strcspn(s, " \t"))) {
        const char *w = s + strspn(s, "0123456789");
        if (w[0] == '<' && w[1] == '<' && w[2] != '<') {
            w += 2 + (w[2] == '-');
            w += *w == '"' || *w == '\'';
            if (isalpha((unsigned char)*w) || *w == '_')
                return true;
        }
    }
    return false;
}

static int instruction(struct parser *p, const char *name, size_t len, const char *s)
{
    static const char *const names[] = {
        "FROM",       "RUN",         "COPY",   "ADD",   "ENV",        "ARG",
        "WORKDIR",    "USER",        "EXPOSE", "CMD",   "ENTRYPOINT", "SHELL",
        "STOPSIGNAL", "HEALTHCHECK", "VOLUME", "LABEL", "MAINTAINER", "ONBUILD"};
    enum {
        FROM,
        RUN,
        COPY,
        ADD,
        ENV,
        ARG,
        WORKDIR,
        USER,
        EXPOSE,
        CMD,
        ENTRYPOINT,
        SHELL,
        STOP
    };
    enum { HEALTH = STOP + 1, VOLUME, LABEL, MAINTAINER, ONBUILD };
    size_t i = 0;
    while (i < ARRAY_LEN(names) &&
           (strlen(names[i]) != len || strncasecmp(names[i], name, len) != 0))
        i++;
    if (i == ARRAY_LEN(names))
        return fail(p, "unknown instruction '%.*s'", (int)MIN(len, 40), name);
    if (!p->from_seen && i != FROM && i != ARG)
        return fail(p, "%s before FROM", names[i]);
    if (!*s)
        return fail(p, "%s needs an argument", names[i]);
    if ((i == RUN || i == COPY || i == ADD) && has_heredoc(s))
        return fail(p, "here-documents (<<) are not supported yet");
    switch (i) {
    case FROM:
        return do_from(p, s);
    case RUN:
        return do_run(p, s);
    case COPY:
    case ADD:
        return do_copy(p, s, i == ADD);
    case ENV:
        return do_env(p, s);
    case ARG:
        return do_arg(p, s);
    case WORKDIR:
        return do_workdir(p, s);
    case USER:
        return do_user(p, s);
    case EXPOSE:
        return do_expose(p, s);
    case CMD: {
        bool shell;
        return command(p, s, &p->cmd, &shell);
    }
    case ENTRYPOINT:
        return command(p, s, &p->entrypoint, &p->entrypoint_shell);
    case SHELL:
        return do_shell(p, s);
    case STOP:
        return do_stopsignal(p, s);
    case HEALTH:
        return note(p, "HEALTHCHECK has no effect here; use the ready hook");
    case VOLUME:
        return note(p, "VOLUME has no effect: the whole disk is kept");
    case ONBUILD:
        return note(p, "ONBUILD has no effect: images are not built upon");
    default:
        return 0; /* LABEL, MAINTAINER */
    }
}

/* ---- lines ---- */

/* Joins the logical line that begins at *at into buf; counts lines. */
static void logical_line(const char *text, size_t len, size_t *at, unsigned *lineno,
                         char escape, char *buf)
{
    size_t n = 0;
    bool more = true, first = true;
    while (more && *at < len) {
        const char *nl = memchr(text + *at, '\n', len - *at);
        size_t start = *at, to = nl ? (size_t)(nl - text) : len;
        *at = to + (nl != NULL);
        (*lineno)++;
        while (to > start && strchr(" \t\r", text[to - 1]))
            to--;
        size_t from = start;
        while (from < to && (text[from] == ' ' || text[from] == '\t'))
            from++;
        /* Comments and empty lines inside a continued instruction are left out. */
        if (from == to || text[from] == '#') {
            if (first)
                break;
            continue;
        }
        more = text[to - 1] == escape && (to - from < 2 || text[to - 2] != escape);
        to -= more;
        if (!first)
            from = start; /* inner blanks belong to the command */
        memcpy(buf + n, text + from, to - from);
        n += to - from;
        first = false;
    }
    while (n && (buf[n - 1] == ' ' || buf[n - 1] == '\t'))
        n--;
    buf[n] = '\0';
}

static int finish(struct parser *p)
{
    struct dockerfile *d = p->d;
    if (!p->from_seen)
        return err_set(p->e, EINVAL, "the Dockerfile has no FROM instruction");
    if (!df_copy_list(p->a, &d->argv, &p->entrypoint))
        return too_big(p);
    if (!(p->entrypoint.n && p->entrypoint_shell) && !df_copy_list(p->a, &d->argv, &p->cmd))
        return too_big(p);
    if (d->argv.n == 0 || !d->argv.v[0][0])
        return err_set(p->e, EINVAL,
                       "the Dockerfile has neither CMD nor ENTRYPOINT: nothing would run");
    return df_env_list(p->a, &p->vars, false, &d->env) ? 0 : too_big(p);
}

static int parse(struct parser *p, const char *text, size_t len, char *buf)
{
    size_t at = 0;
    unsigned lineno = 0;
    bool directives = true;
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        at = 3;
    while (at < len) {
        if (directives) {
            /* "# name=value" lines at the very top. */
            const char *nl = memchr(text + at, '\n', len - at);
            size_t n = nl ? (size_t)(nl - text) - at : len - at;
            char key[16], value[8];
            char head[64];
            snprintf(head, sizeof head, "%.*s", (int)MIN(n, sizeof head - 1), text + at);
            directives = sscanf(head, " # %15[A-Za-z] = %7s", key, value) == 2;
            if (directives && strcasecmp(key, "escape") == 0) {
                p->line = lineno + 1;
                if (strcmp(value, "\\") != 0 && strcmp(value, "`") != 0)
                    return fail(p, "# escape= wants \\ or `");
                p->escape = value[0];
            }
        }
        unsigned before = lineno;
        logical_line(text, len, &at, &lineno, p->escape, buf);
        if (!buf[0])
            continue;
        directives = false;
        p->line = before + 1;
        p->text = df_strn(p->a, buf, strlen(buf));
        if (!p->text)
            return too_big(p);
        size_t n = strcspn(p->text, " \t");
        int r = instruction(p, p->text, n, df_skip(p->text + n));
        if (r < 0)
            return r;
    }
    return finish(p);
}

int dockerfile_parse(const char *text, size_t len, struct dockerfile *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    if (len > DF_TEXT_MAX)
        return err_set(e, EINVAL, "the Dockerfile is larger than %u bytes", DF_TEXT_MAX);
    if (memchr(text, '\0', len))
        return err_set(e, EINVAL, "the Dockerfile holds a NUL byte");
    AUTO_FREE struct parser *p = calloc(1, sizeof *p);
    AUTO_FREE char *buf = malloc(len + 1);
    struct df_arena *a = df_arena_new();
    int r;
    ret->arena = a;
    ret->steps = a ? df_alloc(a, sizeof *ret->steps * DF_STEPS_MAX) : NULL;
    ret->user = "";
    ret->workdir = "/";
    if (!p || !buf || !ret->steps) {
        r = err_sys(e, ENOMEM, "parse the Dockerfile");
    } else {
        *p = (struct parser){.d = ret, .a = a, .e = e, .escape = '\\'};
        r = df_push(a, &p->shell, "/bin/sh") && df_push(a, &p->shell, "-c") ? 0 : too_big(p);
        if (r == 0)
            r = parse(p, text, len, buf);
    }
    if (r < 0)
        dockerfile_free(ret);
    return r;
}

void dockerfile_free(struct dockerfile *d)
{
    df_arena_free(d->arena);
    memset(d, 0, sizeof *d);
}
