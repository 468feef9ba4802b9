// SPDX-License-Identifier: Apache-2.0
/* See users.h. */
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FILE_MAX_BYTES (4u << 20)
#define ID_MAX         0xfffffffeu

struct span {
    const char *p;
    size_t len;
};

static bool span_is(struct span s, const char *text, size_t len)
{
    return s.len == len && memcmp(s.p, text, len) == 0;
}

static bool span_id(struct span s, uint32_t *ret)
{
    char buf[12];
    uint64_t v;
    if (s.len == 0 || s.len >= sizeof(buf))
        return false;
    memcpy(buf, s.p, s.len);
    buf[s.len] = '\0';
    if (!parse_u64(buf, ID_MAX, &v) || strlen(buf) != s.len)
        return false;
    *ret = (uint32_t)v;
    return true;
}

/* Takes the next line apart at its colons; returns how many fields were found. */
static size_t next_line(const char **text, struct span *fields, size_t max)
{
    const char *p = *text;
    size_t n = 0;
    for (;;) {
        const char *start = p;
        while (*p != '\0' && *p != '\n' && *p != ':')
            p++;
        if (n < max)
            fields[n++] = (struct span){start, (size_t)(p - start)};
        if (*p != ':')
            break;
        p++;
    }
    *text = *p == '\n' ? p + 1 : p;
    return n;
}

static bool listed(struct span members, const char *name, size_t len)
{
    for (size_t at = 0; at <= members.len;) {
        const char *comma = memchr(members.p + at, ',', members.len - at);
        size_t end = comma ? (size_t)(comma - members.p) : members.len;
        if (span_is((struct span){members.p + at, end - at}, name, len))
            return true;
        at = end + 1;
    }
    return false;
}

static int find_group(const char *name, const char *group, uint32_t *ret, struct fail *f)
{
    size_t len = strlen(name);
    struct span fields[4];
    for (const char *p = group; p && *p;)
        if (next_line(&p, fields, 4) >= 3 && span_is(fields[0], name, len) &&
            span_id(fields[2], ret))
            return 0;
    if (span_id((struct span){name, len}, ret))
        return 0;
    return fail_set(f, EINVAL, "unable to find group %s: no matching entries in group file",
                    name);
}

int user_find_in(const char *spec, const char *passwd, const char *group, struct user *ret,
                 struct fail *f)
{
    const char *colon = strchr(spec, ':');
    size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
    struct span name = {spec, len}, fields[7];
    uint32_t id = 0;
    bool numeric = len == 0 || span_id(name, &id), found = false;
    *ret = (struct user){.uid = id, .home = "/"};
    for (const char *p = passwd; p && *p && !found;) {
        uint32_t uid, gid;
        if (next_line(&p, fields, 7) < 6 || !span_id(fields[2], &uid) ||
            !span_id(fields[3], &gid))
            continue;
        if (!span_is(fields[0], spec, len) && !(numeric && uid == id))
            continue;
        found = true;
        name = fields[0];
        ret->uid = uid;
        ret->gid = gid;
        if (fields[5].len > 0 && fields[5].len < sizeof(ret->home)) {
            memcpy(ret->home, fields[5].p, fields[5].len);
            ret->home[fields[5].len] = '\0';
        }
    }
    if (!found && !numeric)
        return fail_set(f, EINVAL,
                        "unable to find user %.*s: no matching entries in passwd file",
                        (int)len, spec);
    if (colon && colon[1] != '\0')
        return find_group(colon + 1, group, &ret->gid, f);
    for (const char *p = group; found && p && *p && ret->ngroups < USER_GROUPS_MAX;) {
        uint32_t gid;
        if (next_line(&p, fields, 4) >= 4 && span_id(fields[2], &gid) &&
            listed(fields[3], name.p, name.len))
            ret->groups[ret->ngroups++] = gid;
    }
    return 0;
}

static char *read_whole(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t cap = 4096, len = 0;
    char *buf = fd >= 0 ? malloc(cap) : NULL;
    while (buf) {
        ssize_t n = read(fd, buf + len, cap - len - 1);
        if (n <= 0)
            break;
        len += (size_t)n;
        if (cap - len > 1)
            continue;
        char *more = cap < FILE_MAX_BYTES ? realloc(buf, cap * 2) : NULL;
        if (!more)
            break;
        buf = more;
        cap *= 2;
    }
    if (buf)
        buf[len] = '\0';
    return buf;
}

int user_find(const char *spec, struct user *ret, struct fail *f)
{
    AUTO_FREE char *passwd = read_whole("/etc/passwd");
    AUTO_FREE char *group = read_whole("/etc/group");
    return user_find_in(spec, passwd, group, ret, f);
}
