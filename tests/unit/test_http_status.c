// SPDX-License-Identifier: Apache-2.0
/* The status line of a hook's answer (guest/http_status.h), whole and in every cut. */
#include <stdlib.h>

#include "../../guest/http_status.h"
#include "../tap.h"

static uint32_t status;

static enum http_progress see(const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len + 1); /* of the exact size, for the sanitizers */
    memcpy(copy, text, len);
    enum http_progress p = http_status(copy, len, &status);
    free(copy);
    return p;
}

static void cuts(const char *text)
{
    char cut[256];
    for (size_t len = 0; len < strlen(text); len++) {
        memcpy(cut, text, len);
        cut[len] = '\0';
        CHECK(see(cut) == HTTP_MORE);
    }
}

TEST(whole)
{
    CHECK(see("HTTP/1.1 200 OK\r\n\r\n") == HTTP_DONE && status == 200);
    CHECK(see("HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nbody") == HTTP_DONE &&
          status == 503);
    CHECK(see("HTTP/1.1 404\r\n\r\n") == HTTP_DONE && status == 404);
    CHECK(see("HTTP/1.1 200 OK\nA: b\n\n") == HTTP_DONE && status == 200);
    cuts("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    cuts("HTTP/1.1 204 x\n\n");
}

TEST(interim)
{
    CHECK(see("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") == HTTP_DONE &&
          status == 200);
    CHECK(see("HTTP/1.1 103 x\r\nLink: a\r\n\r\n") == HTTP_MORE);
    cuts("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 OK\r\n\r\n");
    CHECK(see("HTTP/1.1 100 Continue\r\n\r\ngarbage") == HTTP_BAD);
    CHECK(see("HTTP/1.1 101 Switching\r\n\r\n") == HTTP_DONE && status == 101);
}

TEST(nonsense)
{
    static const char *const bad[] = {
        "x",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.x 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\x16\x03\x01",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(see(bad[i]) == HTTP_BAD);
}

int main(void)
{
    RUN(whole);
    RUN(interim);
    RUN(nonsense);
    return TAP_DONE();
}
