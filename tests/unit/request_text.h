// SPDX-License-Identifier: Apache-2.0
/*
 * A struct http_req from text: request line, then "name: value" lines, '\n'
 * between. Takes anything a parsed request can hold and checks nothing; for
 * tests and fuzz targets of what works on parsed requests.
 */
#ifndef DORMOUSE_TESTS_REQUEST_TEXT_H
#define DORMOUSE_TESTS_REQUEST_TEXT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../api/http.h"

/* The strings live in the returned copy of the text; free it last. NULL: no request line. */
static char *request_from_text(const char *text, struct http_req *ret)
{
    char *copy = strdup(text), *rest = copy, *line = strsep(&rest, "\n");
    memset(ret, 0, sizeof *ret);
    ret->minor = 1;
    char *blank = line ? strchr(line, ' ') : NULL;
    if (!blank) {
        free(copy);
        return NULL;
    }
    *blank = '\0';
    snprintf(ret->method, sizeof ret->method, "%s", line);
    ret->path = blank + 1;
    char *question = strchr(ret->path, '?');
    ret->query = question ? question + 1 : ret->path + strlen(ret->path);
    if (question)
        *question = '\0';
    while ((line = strsep(&rest, "\n")) && ret->nheaders < HTTP_HEADERS_MAX) {
        char *colon = strchr(line, ':');
        if (!colon)
            continue;
        *colon = '\0';
        ret->headers[ret->nheaders].name = line;
        ret->headers[ret->nheaders++].value = colon + 1 + strspn(colon + 1, " ");
    }
    return copy;
}

#endif
