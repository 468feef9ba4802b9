// SPDX-License-Identifier: Apache-2.0
/* The Dockerfile parser: what it understands, what it refuses, and with which line. */
#include "../../api/dockerfile.h"
#include "../tap.h"

static struct dockerfile d;
static struct err e;

static bool good(const char *text)
{
    dockerfile_free(&d);
    e = (struct err)ERR_INIT;
    int r = dockerfile_parse(text, strlen(text), &d, &e);
    if (r < 0)
        printf("# %s\n", e.msg);
    return r == 0;
}

/* Refused, with `want` in the message. */
static bool bad(const char *text, const char *want)
{
    dockerfile_free(&d);
    e = (struct err)ERR_INIT;
    int r = dockerfile_parse(text, strlen(text), &d, &e);
    if (r < 0 && strstr(e.msg, want))
        return true;
    printf("# got \"%s\", want \"%s\"\n", r < 0 ? e.msg : "success", want);
    return false;
}

#define F "FROM dormouse/debian\n"
#define C "\nCMD [\"x\"]\n"

TEST(typical)
{
    CHECK(good("# a comment\n\nFROM dormouse/python:latest AS app\n"
               "WORKDIR /app\n"
               "COPY --chown=1000:1000 --chmod=755 app.py static/ ./\n"
               "ENV PORT=8080 NAME=\"a b\"\n"
               "RUN apt-get update && \\\n    # in between\n\n    apt-get install -y curl\n"
               "EXPOSE 8080/tcp 9000-9002 53/udp\n"
               "USER app:staff\nSTOPSIGNAL SIGINT\n"
               "CMD [\"python3\", \"app.py\"]\n"));
    CHECK_STR(d.base, "python");
    CHECK(d.nsteps == 3);
    CHECK(d.steps[0].op == DF_WORKDIR);
    CHECK_STR(d.steps[0].dst, "/app");
    CHECK(d.steps[1].op == DF_COPY && d.steps[1].src.n == 2);
    CHECK_STR(d.steps[1].src.v[0], "app.py");
    CHECK_STR(d.steps[1].src.v[1], "static/");
    CHECK_STR(d.steps[1].dst, "/app/");
    CHECK_STR(d.steps[1].chown, "1000:1000");
    CHECK(d.steps[1].has_mode && d.steps[1].mode == 0755);
    CHECK(d.steps[2].op == DF_RUN && d.steps[2].argv.n == 3 && d.steps[2].line == 7);
    CHECK_STR(d.steps[2].argv.v[0], "/bin/sh");
    CHECK_STR(d.steps[2].argv.v[2], "apt-get update &&     apt-get install -y curl");
    CHECK_STR(d.steps[2].workdir, "/app");
    CHECK_STR(d.steps[2].user, "");
    CHECK(d.steps[2].env.n == 3);
    CHECK_STR(d.steps[2].env.v[2], "NAME=a b");
    CHECK(d.nports == 4 && d.ports[0] == 8080 && d.ports[3] == 9002);
    CHECK_STR(d.user, "app:staff");
    CHECK_STR(d.stop_signal, "SIGINT");
    CHECK(d.argv.n == 2);
    CHECK_STR(d.argv.v[1], "app.py");
}

TEST(commands)
{
    CHECK(good(F "CMD echo \"$HOME\""));
    CHECK(d.argv.n == 3);
    CHECK_STR(d.argv.v[2], "echo \"$HOME\"");
    CHECK(good(F "ENTRYPOINT [\"a\",\"b\"]\nCMD [ \"c\" , \"d\" ]"));
    CHECK(d.argv.n == 4);
    CHECK_STR(d.argv.v[3], "d");
    CHECK(good(F "ENTRYPOINT run me\nCMD [\"ignored\"]"));
    CHECK(d.argv.n == 3);
    CHECK_STR(d.argv.v[2], "run me");
    CHECK(good(F "SHELL [\"/bin/bash\", \"-ec\"]\nRUN a\nCMD b"));
    CHECK_STR(d.steps[0].argv.v[1], "-ec");
    CHECK_STR(d.argv.v[0], "/bin/bash");
    /* What is no JSON array is shell form. */
    CHECK(good(F "CMD ['single']"));
    CHECK_STR(d.argv.v[2], "['single']");
    CHECK(good(F "CMD [\"\\u00e9\\n\\ud83d\\ude00\\\"\"]"));
    CHECK_STR(d.argv.v[0], "\xc3\xa9\n\xf0\x9f\x98\x80\"");
    CHECK(good(F "CMD [\"a\"]\nCMD [\"b\"]"));
    CHECK(d.argv.n == 1);
    CHECK_STR(d.argv.v[0], "b");
}

TEST(variables)
{
    CHECK(good("ARG TAG=latest\nFROM dormouse/debian:${TAG}\nARG TAG\nARG B=x${TAG}y\n"
               "ENV A=$B C='$B' D=\"q $B\" E=\\$B\nENV A=new F=$A G=${NO:-dflt} H=${A:+yes}\n"
               "ENV old style value\nENV I=${NO:+no} J=a\\ b\nRUN true" C));
    CHECK_STR(d.base, "debian");
    const struct df_list *v = &d.env;
    CHECK(v->n == 11);
    CHECK_STR(v->v[1], "A=new");
    CHECK_STR(v->v[2], "C=$B");
    CHECK_STR(v->v[3], "D=q xlatesty");
    CHECK_STR(v->v[4], "E=$B");
    CHECK_STR(v->v[5], "F=xlatesty");
    CHECK_STR(v->v[6], "G=dflt");
    CHECK_STR(v->v[7], "H=yes");
    CHECK_STR(v->v[8], "old=style value");
    CHECK_STR(v->v[9], "I=");
    CHECK_STR(v->v[10], "J=a b");
    CHECK(d.steps[0].env.n == 13); /* ARGs too */
    CHECK(good(F "ENV P=/opt\nWORKDIR $P/x\nWORKDIR y/../z\nCOPY a ${P}/" C));
    CHECK_STR(d.steps[1].dst, "/opt/x/z");
    CHECK_STR(d.steps[2].dst, "/opt/");
    CHECK(good(F "ENV PATH=/a:$PATH" C));
    CHECK(strncmp(d.env.v[0], "PATH=/a:/usr/local/sbin", 23) == 0);
    CHECK(d.env.n == 1);
}

TEST(lines)
{
    CHECK(good("# escape=`\r\n" F "RUN a `\r\n b\r\nCMD c:\\d\r\n"));
    CHECK_STR(d.steps[0].argv.v[2], "a  b");
    CHECK_STR(d.argv.v[2], "c:\\d");
    CHECK(good("#escape=`\n" F "CMD x"));
    CHECK(good("\xef\xbb\xbf" F "CMD x"));
    CHECK(good("from dormouse/debian\ncmd ab\\\ncd"));
    CHECK_STR(d.argv.v[2], "abcd");
    CHECK(good("# syntax=docker/dockerfile:1\n" F "LABEL a=b\nMAINTAINER me\n"
               "VOLUME /x\nHEALTHCHECK NONE\nONBUILD RUN x\nCMD x"));
    CHECK(d.nnotes == 3 && d.notes[0].line == 5);
}

TEST(refused)
{
    CHECK(bad("", "no FROM"));
    CHECK(bad("RUN x\n", "line 1: RUN before FROM"));
    CHECK(bad(F, "neither CMD nor ENTRYPOINT"));
    CHECK(bad(F "CMD []", "neither CMD nor ENTRYPOINT"));
    CHECK(bad("FROM scratch" C, "line 1: FROM 'scratch'"));
    CHECK(bad("FROM ubuntu:24.04" C, "dormouse/debian or dormouse/python"));
    CHECK(bad(F "\n\nFROM dormouse/debian" C, "line 4: a second FROM"));
    CHECK(bad("FROM --platform=linux/amd64 dormouse/debian" C, "linux/arm64"));
    CHECK(bad(F "COPY --from=x a b" C, "line 2: COPY --from is not supported yet"));
    CHECK(bad(F "COPY a" C, "source and a destination"));
    CHECK(bad(F "COPY a b c" C, "must end with '/'"));
    CHECK(bad(F "COPY --chmod=u+x a b" C, "octal"));
    CHECK(bad(F "ADD https://example.org/x /x" C, "URL"));
    CHECK(bad(F "ADD x.tar.gz /x" C, "archives"));
    CHECK(bad(F "RUN --mount=type=cache,target=/x y" C, "--mount"));
    CHECK(bad(F "RUN cat <<EOF\nhello\nEOF\n" C, "line 2: here-documents"));
    CHECK(bad(F "COPY <<\"X\" /a\nX\n" C, "here-documents"));
    CHECK(bad(F "FOO bar" C, "line 2: unknown instruction 'FOO'"));
    CHECK(bad(F "EXPOSE http" C, "'http' is no port"));
    CHECK(bad(F "EXPOSE 0" C, "no port"));
    CHECK(bad(F "EXPOSE 9-8" C, "range"));
    CHECK(bad(F "ENV A" C, "ENV KEY=value"));
    CHECK(bad(F "ENV A=${B" C, "without '}'"));
    CHECK(bad(F "ENV A=${B/x/y}" C, "only ${NAME}"));
    CHECK(bad(F "ENV A=\"x" C, "quote"));
    CHECK(bad(F "SHELL /bin/sh" C, "JSON"));
    CHECK(bad("# escape=x\n" F C, "line 1: # escape="));
    CHECK(bad(F "RUN" C, "RUN needs an argument"));
    CHECK(dockerfile_parse("FROM \0", 6, &d, &e) < 0);
}

TEST(context_cannot_be_left)
{
    CHECK(good(F "COPY ../../etc/passwd /x\nCOPY . /y\nCOPY / /z\nCOPY *.py dir/" C));
    CHECK_STR(d.steps[0].src.v[0], "etc/passwd");
    CHECK_STR(d.steps[1].src.v[0], ".");
    CHECK_STR(d.steps[2].src.v[0], ".");
    CHECK_STR(d.steps[3].src.v[0], "*.py");
    CHECK_STR(d.steps[3].dst, "/dir/");
    CHECK(good(F "RUN cat <<<word\nRUN echo $((1<<2))" C));
}

TEST(growth_is_bounded)
{
    char text[8192];
    size_t n = (size_t)snprintf(text, sizeof text, F "ENV A=0123456789abcdef\n");
    for (int i = 0; i < 40; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "ENV A=$A$A\n");
    snprintf(text + n, sizeof text - n, "CMD x");
    CHECK(bad(text, "32 KiB"));
    n = (size_t)snprintf(text, sizeof text, F);
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "RUN a\n");
    CHECK(bad(text, "more than 256 steps"));
    n = (size_t)snprintf(text, sizeof text, F "ENV A=");
    for (int i = 0; i < 100; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "${X:-");
    for (int i = 0; i < 100; i++)
        text[n++] = '}';
    text[n] = '\0';
    CHECK(bad(text, "nested"));
}

int main(void)
{
    RUN(typical);
    RUN(commands);
    RUN(variables);
    RUN(lines);
    RUN(refused);
    RUN(context_cannot_be_left);
    RUN(growth_is_bounded);
    dockerfile_free(&d);
    return TAP_DONE();
}
