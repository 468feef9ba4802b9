// SPDX-License-Identifier: Apache-2.0
/* Wildcards of COPY and .dockerignore (guest/glob.c). */
#include "../../guest/glob.h"
#include "../tap.h"

static bool match(const char *pattern, const char *name)
{
    return glob_match(pattern, strlen(pattern), name, strlen(name));
}

static bool ignores(const char *pattern, const char *name)
{
    return glob_ignores(pattern, strlen(pattern), name);
}

TEST(literal)
{
    CHECK(match("a/b", "a/b"));
    CHECK(!match("a/b", "a/bc"));
    CHECK(!match("a/bc", "a/b"));
    CHECK(match("", ""));
    CHECK(!match("", "a"));
}

TEST(star)
{
    CHECK(match("*", "abc"));
    CHECK(match("*", ""));
    CHECK(!match("*", "a/b"));
    CHECK(match("*.txt", "a.txt"));
    CHECK(match("*.txt", ".txt"));
    CHECK(!match("*.txt", "a.txt.x"));
    CHECK(match("a*b*c", "aXbYbZc"));
    CHECK(!match("a*b*c", "aXbYbZ"));
    CHECK(match("*/x*", "dir/x1"));
    CHECK(!match("*/x*", "x1"));
    CHECK(match("a*/b", "abc/b"));
    CHECK(!match("a*b", "a/b"));
    CHECK(match("**", "abc"));
    /* many stars end quickly */
    CHECK(!match("*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

TEST(single)
{
    CHECK(match("?at", "cat"));
    CHECK(!match("?at", "at"));
    CHECK(!match("a?b", "a/b"));
    CHECK(match("[a-c]at", "bat"));
    CHECK(!match("[a-c]at", "dat"));
    CHECK(match("[^a-c]at", "dat"));
    CHECK(!match("[^a-c]at", "bat"));
    CHECK(match("[]x]", "]"));
    CHECK(!match("[a", "a"));
    CHECK(match("\\*", "*"));
    CHECK(!match("\\*", "a"));
    CHECK(match("[\\]]", "]"));
}

TEST(ignore)
{
    CHECK(ignores("node_modules", "node_modules"));
    CHECK(ignores("node_modules", "node_modules/a/b.js"));
    CHECK(!ignores("node_modules", "a/node_modules"));
    CHECK(ignores("**/node_modules", "a/b/node_modules/c"));
    CHECK(ignores("**/node_modules", "node_modules"));
    CHECK(ignores("**/*.log", "deep/er/x.log"));
    CHECK(!ignores("*.log", "deep/x.log"));
    CHECK(ignores("a/**/z", "a/z"));
    CHECK(ignores("a/**/z", "a/b/c/z/below"));
    CHECK(!ignores("a/**/z", "a/b/c"));
    CHECK(ignores("**", "anything/at/all"));
    CHECK(!ignores("", "a"));
    CHECK(ignores("*", "a/b"));
}

TEST(parts)
{
    CHECK(path_parts("", 0) == 0);
    CHECK(path_parts("a", 1) == 1);
    CHECK(path_parts("a/b/c", 5) == 3);
    CHECK(glob_special("a*", 2) && glob_special("[", 1) && !glob_special("a.b", 3));
}

int main(void)
{
    RUN(literal);
    RUN(star);
    RUN(single);
    RUN(ignore);
    RUN(parts);
    return TAP_DONE();
}
