#!/bin/sh
# Runs beside each Redis: makes the nodes a cluster once, and keeps them acquainted.
#
# A pod comes back under another address. Redis tells the other nodes by itself, unless all of them came back at once and
# none knows where any other is; so each node looks its peers' names up, and meets those whose address it does not know.
set -u

address() {
    getent hosts "redis-$1.redis" | awk '{ print $1; exit }'
}

make_cluster() {
    nodes=""
    for number in $(seq 0 $((NODES - 1))); do
        found=$(address "$number")
        [ -n "$found" ] && [ "$(redis-cli -h "$found" ping)" = PONG ] || return 0
        nodes="$nodes $found:6379"
    done
    # shellcheck disable=SC2086 # the addresses are words
    redis-cli --cluster create $nodes --cluster-replicas 1 --cluster-yes
}

meet_peers() {
    for number in $(seq 0 $((NODES - 1))); do
        [ "redis-$number" = "$POD_NAME" ] && continue
        found=$(address "$number")
        [ -z "$found" ] || echo "$known" | grep -qF " $found:6379@" || redis-cli cluster meet "$found" 6379
    done
}

while sleep "${PAUSE:-5}"; do
    known=$(redis-cli cluster nodes) || continue
    if [ "$(echo "$known" | wc -l)" -gt 1 ]; then
        meet_peers
    elif [ "$POD_NAME" = redis-0 ]; then
        make_cluster
    fi
done
