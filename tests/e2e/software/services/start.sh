#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu
mkdir -p /srv/redis
redis-server --port 6379 --bind 127.0.0.1 --dir /srv/redis --appendonly yes --save '' &
prometheus-node-exporter --web.listen-address=127.0.0.1:9100 &
exec nginx -c /srv/nginx.conf
