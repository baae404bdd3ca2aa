#!/bin/sh
# Make the root file system of an edge node in the folder $1: Debian with sshd, a Docker Engine and a full Python.
set -eu
root=$1
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
packages=docker.io,openssh-server,openssh-sftp-server,iptables,iproute2,ca-certificates,python3,procps,tini,bash,dash
packages=$packages,coreutils,grep,sed,gawk,util-linux,mount,findutils,hostname,base-files,base-passwd,libc-bin,tar,gzip
packages=$packages,kmod,login,passwd,rsync

mmdebstrap --quiet --variant=extract --mode=root --format=directory \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=$packages bookworm "$root"

cd "$root"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian var/cache/* var/lib/apt
mkdir -p tmp proc sys dev root run/sshd etc/ssl/certs etc/docker var/log var/lib/docker edge
chmod 1777 tmp
chmod 700 root

# mmdebstrap only unpacks: what the packages' scripts would have set up comes here
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
sed -i 's#^root:.*#root:x:0:0:root:/root:/bin/bash#' etc/passwd
echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin' >>etc/passwd
echo 'docker:x:999:' >>etc/group
echo 'root:*:19000:0:99999:7:::' >etc/shadow
echo 'hosts: files dns' >etc/nsswitch.conf
rm -rf var/run
ln -s /run var/run
ln -sf dash bin/sh
ln -sf python3.11 usr/bin/python3
[ -e usr/bin/awk ] || ln -s gawk usr/bin/awk
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sf xtables-nft-multi usr/sbin/$name
done
# where a node without a journal has them
ln -s /edge/docker.log var/log/docker.log
ln -s /edge/auth.log var/log/auth.log
cat usr/share/ca-certificates/mozilla/*.crt >etc/ssl/certs/ca-certificates.crt

cat >etc/ssh/sshd_config <<'END'
HostKey /edge/host_key
AuthorizedKeysFile /edge/authorized_keys .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
AllowStreamLocalForwarding yes
MaxStartups 1000
MaxSessions 100
UseDNS no
UsePAM no
Subsystem sftp /usr/lib/openssh/sftp-server
END

cat >usr/sbin/edge-engine <<'END'
#!/bin/sh
# the Docker Engine: one socket as everywhere, one for the test's own view
rm -f /run/docker.pid /run/docker/containerd/containerd.pid
# shellcheck disable=SC2086
exec dockerd -H unix:///var/run/docker.sock -H unix:///edge/engine.sock ${DOCKERD_ARGS:-} >>/edge/docker.log 2>&1
END

cat >usr/sbin/edge-init <<'END'
#!/bin/sh
# what an init system does at boot and at shutdown
mount -o remount,bind,rw /sys 2>/dev/null
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    # cgroup v2: a group with processes of its own can't hand controllers down
    mount -o remount,rw /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null
    sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
else
    for group in /sys/fs/cgroup/*; do
        mountpoint -q "$group" && mount -o remount,bind,rw "$group"
    done
fi

# nodes that start together ask for the same loop device: one gets it, the others ask again
mknod /dev/loop-control c 10 237
tries=0
until mountpoint -q /var/lib/docker; do
    tries=$((tries + 1))
    [ $tries -le 50 ] || exit 1
    device=$(losetup --find) || exit 1
    [ -e "$device" ] || mknod "$device" b 7 "${device#/dev/loop}"
    mount -o loop="$device" /edge/disk.img /var/lib/docker 2>>/edge/mount.log || sleep 0.02
done

mkdir -p /run/sshd
rm -f /edge/engine.sock
/usr/sbin/sshd -E /edge/auth.log || exit 1
shut_down() {
    pid=$(cat /run/docker.pid)
    kill "$pid" && while kill -0 "$pid"; do sleep 0.05; done
    exit 0
}
trap 'shut_down 2>/dev/null' TERM
edge-engine &
while :; do
    sleep 1000000 &
    wait $!
done
END
chmod 755 usr/sbin/edge-engine usr/sbin/edge-init
chroot . ldconfig
