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

# the first name is the one in the names of images
set -- --name "$EVC_ADDRESS"
for name in $(printf '%s' "$EVC_REGISTRY_NAMES" | tr ',' ' '); do set -- "$@" --name "$name"; done
evc registry init --port "$EVC_REGISTRY_PORT" --pull-port "$EVC_REGISTRY_PULL_PORT" "$@"

key=$state/id_ed25519
if [ ! -e "$key" ]; then
    rm -f "$key.new" "$key.new.pub"
    ssh-keygen -q -t ed25519 -N '' -C evc -f "$key.new"
    mv "$key.new.pub" "$key.pub"
    mv "$key.new" "$key"
fi
