#!/bin/sh
# The Debian packages whose programs the tests run; with "bench" those of the bench too. What is missing is installed, by
# root or by sudo without a password. Package and a program or file of it: what is there from another source counts too.
set -eu

wanted='
openssh-server      sshd
openssh-client      ssh-keygen
postgresql          initdb
busybox-static      busybox
docker.io           dockerd
docker-registry     docker-registry
docker-compose      docker-compose
openssl             openssl
mmdebstrap          mmdebstrap
e2fsprogs           mkfs.ext4
iproute2            tc
opencv-doc          /usr/share/doc/opencv-doc/examples/data/vtest.avi
'
[ "${1:-}" != bench ] || wanted=$wanted'
prometheus          prometheus
prometheus-node-exporter prometheus-node-exporter
'
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
for folder in /usr/lib/postgresql/*/bin; do PATH=$PATH:$folder; done

missing=$(printf '%s' "$wanted" | while read -r package program; do
    [ -z "$package" ] || [ -e "$program" ] || command -v "$program" >/dev/null || printf '%s ' "$package"
done)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root='env'
elif sudo -n true 2>/dev/null; then
    as_root='sudo'
else
    printf 'the tests need these Debian packages: apt install %s\n' "$missing" >&2
    exit 1
fi
printf 'installing for the tests: %s\n' "$missing" >&2

# the tests start servers of their own, with their own ports and folders: no service may start, no cluster be made
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
fi
$as_root apt-get update -qq
# word splitting of $missing is meant
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
