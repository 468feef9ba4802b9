// SPDX-License-Identifier: Apache-2.0
/*
 * Fills the daemon's database, while no daemon runs, with microVMs that have ended, all like
 * the one that is there: for the figures of long lists.
 *     records DATABASE N
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

/* The columns of the row that is copied are the table's, but for what must differ. */
static const char fill[] =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %ld)"
    " INSERT INTO vm SELECT (SELECT max(row) FROM vm) + n.i,"
    " printf('microvm-00000000-0000-4000-8000-%%012x', n.i),"
    " printf('00000000-0000-4000-8000-%%012x', n.i)%s"
    " FROM n, (SELECT * FROM vm WHERE state = 'TERMINATED' ORDER BY row DESC LIMIT 1) v";

static int add_column(void *ctx, int n, char **text, char **names)
{
    char **at = ctx;
    (void)n;
    (void)names;
    *at += sprintf(*at, ", v.%.40s", text[0]);
    return 0;
}

int main(int argc, char **argv)
{
    sqlite3 *db = NULL;
    char columns[4000] = "", *at = columns, sql[8000], *why = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: records DATABASE N\n");
        return 2;
    }
    long n = strtol(argv[2], NULL, 10);
    int rc = sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db,
                          "SELECT name FROM pragma_table_info('vm')"
                          " WHERE name NOT IN ('row', 'id', 'label') ORDER BY cid",
                          add_column, &at, &why);
    snprintf(sql, sizeof sql, fill, n, columns);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, &why);
    if (rc != SQLITE_OK || sqlite3_changes(db) != n) {
        fprintf(stderr, "error: %s: %s\n", argv[1], why ? why : sqlite3_errmsg(db));
        return 1;
    }
    sqlite3_close(db);
    return 0;
}
