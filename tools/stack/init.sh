#!/bin/sh
# Make what the stack needs before anything of it starts; safe to run again. Secrets come by the environment.
set -eu
umask 077
state=$AIRFLOW__EVC__STATE_FOLDER

airflow db migrate
evc db upgrade
printf '%s' "$EVC_GRAFANA_DATABASE_PASSWORD" | evc db reader grafana --password-stdin

printf '{"admin": "%s"}\n' "$EVC_ADMIN_PASSWORD" >"$state/passwords.new"
mv "$state/passwords.new" "$state/passwords.json"

evc registry init --name "$EVC_ADDRESS" --port "$EVC_REGISTRY_PORT" --pull-port "$EVC_REGISTRY_PULL_PORT"

[ -e "$state/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C evc -f "$state/id_ed25519"
