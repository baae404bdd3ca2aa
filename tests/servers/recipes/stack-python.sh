#!/bin/sh
# Make a Debian root with Python, its venv module and an ssh client in the folder $1: what the stack's image is built on
# where the public base image can't be had. It trusts whom this machine trusts.
set -eu
root=$1
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
packages=python3,python3.11-venv,libstdc++6,openssh-client,ca-certificates,passwd,login,bash,dash,coreutils,gawk,sed,grep
packages=$packages,tar,findutils,base-files,base-passwd,libc-bin,hostname

mmdebstrap --quiet --variant=extract --mode=root --format=directory \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=$packages bookworm "$root"

cd "$root"
for name in doc man locale info lintian; do rm -rf usr/share/$name; done
rm -rf var/cache/* var/lib/apt var/lib/dpkg
mkdir -p tmp proc sys dev root etc/ssl/certs
chmod 1777 tmp

# mmdebstrap only unpacks: what the packages' scripts would have set up comes here
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
sed 's/:.*/:*:19000:0:99999:7:::/' etc/passwd >etc/shadow
echo 'hosts: files dns' >etc/nsswitch.conf
ln -sf dash bin/sh
ln -sf gawk usr/bin/awk
ln -sf python3.11 usr/bin/python3
cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ca-certificates.crt
