#!/bin/sh
# Gives a machine the kernel interfaces it may use and masks those that are the host's, then becomes systemd.
# Network sysctls belong to the machine's own namespace and become writable; the rest of /proc/sys stays read-only.
set -eu

fail() {
    echo "machine-init: $*" >&2
    exit 1
}

# What a kubelet insists on writing: plain files that already say what it wants.
pretend() {
    [ -e "/proc/sys/$1" ] || return 0
    file="/run/dpp-init/$(echo "$1" | tr / .)"
    echo "$2" > "$file"
    mount --bind "$file" "/proc/sys/$1" || fail "cannot mask /proc/sys/$1"
}

mkdir -p /run/dpp-init/proc
mount -t proc proc /run/dpp-init/proc || fail "cannot mount proc"
mount --bind /run/dpp-init/proc/sys/net /proc/sys/net || fail "cannot make /proc/sys/net writable"
umount -l /run/dpp-init/proc

# Over cgroup v1 podman lays the host's whole systemd hierarchy on the machine's own part of it. Machines that share one
# remove each other's groups.
while [ "$(grep -c ' /sys/fs/cgroup/systemd cgroup ' /proc/mounts)" -gt 1 ]; do
    umount -l /sys/fs/cgroup/systemd || fail "cannot leave the host's systemd hierarchy"
done

while read -r _ target type _; do
    case "$type" in
        cgroup | cgroup2) mount -o remount,rw,bind "$target" || fail "cannot make $target writable" ;;
    esac
done < /proc/mounts

mount --make-rshared / || fail "cannot share mounts"
mount -t bpf bpf /sys/fs/bpf || fail "cannot mount bpf on /sys/fs/bpf"

pretend vm/overcommit_memory 1
pretend vm/panic_on_oom 0
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
pretend kernel/timer_migration 0
pretend kernel/unprivileged_bpf_disabled 1
pretend kernel/keys/root_maxkeys 1000000
pretend kernel/keys/root_maxbytes 25000000

# The first names, until the base_system role writes all of them.
if [ ! -s /etc/hosts ] || ! grep -q "$DPP_HOST" /etc/hosts; then
    printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n' "$DPP_ADDRESS" "$DPP_HOST" > /etc/hosts
fi
# Nobody sits at a machine and types passwords. Without the units that wait for it, systemd takes three inotify
# instances in place of six; the host has few, and root's are counted together.
mkdir -p /run/systemd/system
for unit in systemd-logind.service systemd-ask-password-console.path systemd-ask-password-wall.path; do
    ln -sf /dev/null "/run/systemd/system/$unit"
done
rm -f /run/nologin
exec /sbin/init
