#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu
bin=/usr/lib/postgresql/17/bin
mkdir -p /srv/data /run/postgresql
chown postgres:postgres /srv/data /run/postgresql
[ -s /srv/data/PG_VERSION ] || setpriv --reuid=postgres --regid=postgres --init-groups \
    "$bin/initdb" -D /srv/data -A trust --no-sync
exec setpriv --reuid=postgres --regid=postgres --init-groups \
    "$bin/postgres" -D /srv/data -c listen_addresses='*'
