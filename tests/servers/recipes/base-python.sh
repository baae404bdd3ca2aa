#!/bin/sh
# Make the smallest Debian root with Python 3.11 in the folder $1: what base/python:3.11 is imported from.
set -eu
root=$1
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
packages=python3-minimal,python3.11-minimal,libpython3.11-stdlib,libstdc++6,busybox-static,ca-certificates,base-files

mmdebstrap --quiet --variant=extract --mode=root --format=directory \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=$packages bookworm "$root"

cd "$root"
for name in doc man locale info lintian bash-completion; do rm -rf usr/share/$name; done
rm -rf usr/share/perl* usr/lib/*/gconv usr/lib/*/perl* usr/bin/perl* var/cache/* var/lib/apt var/lib/dpkg
for name in test idlelib lib2to3 ensurepip distutils/tests; do rm -rf usr/lib/python3.11/$name; done
for name in sh ls cat env mkdir rm sleep ps id uname tar wget nc; do
    [ -e usr/bin/$name ] || ln -s busybox usr/bin/$name
done
ln -sf python3.11 usr/bin/python3
mkdir -p tmp proc sys dev root etc/ssl/certs
chmod 1777 tmp
echo 'root:x:0:0:root:/root:/bin/sh' >etc/passwd
echo 'root:x:0:' >etc/group
cat usr/share/ca-certificates/mozilla/*.crt >etc/ssl/certs/ca-certificates.crt
