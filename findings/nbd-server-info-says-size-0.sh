#!/bin/sh
# nbd-server 3.24 (Debian 12, 1:3.24-1.1) answers NBD_OPT_INFO with an export of size 0 and NBD_OPT_GO with the right size. One
# would expect the same of both: the protocol (doc/proto.md of NetworkBlockDevice/nbd, NBD_OPT_INFO) wants it so. Seen on
# 2026-12-01 of a file of 4 MiB, by nbdinfo of libnbd 1.14.2, which lists by NBD_OPT_INFO, and asks for the size alone by NBD_OPT_GO:
#   nbdinfo --list: export-size: 0 / nbdinfo --size: 4194304
# Whoever looks at a disk's size by NBD_OPT_INFO before it is used takes it for empty.
# Needs apt, dpkg, and the libraries glib, gnutls and libxml2; leaves nothing behind, installs nothing.
set -eu
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
apt-get download -qq -o APT::Sandbox::User=root nbd-server=1:3.24-1.1 libnbd-bin=1.14.2-1 libnbd0=1.14.2-1
for package in ./*.deb; do dpkg-deb --extract "$package" tree; done
export LD_LIBRARY_PATH="$work/tree/usr/lib/x86_64-linux-gnu"

truncate -s 4M disk
printf '[generic]\nunixsock = %s/socket\nallowlist = true\nlistenaddr = 127.0.0.1\nport = 10897\n[disk]\nexportname = %s/disk\n' "$work" "$work" >config
# It ends with its first client (-d).
serve() {
    rm -f socket
    tree/bin/nbd-server -d -C config -p '' >log 2>&1 &
    server=$!
    for _ in $(seq 100); do
        [ ! -S socket ] || return 0
        sleep 0.1
    done
    cat log >&2
    exit 1
}
url="nbd+unix:///disk?socket=$work/socket"
serve
info=$(tree/usr/bin/nbdinfo --list "nbd+unix:///?socket=$work/socket" | sed -n 's/^\texport-size: \([0-9]*\).*/\1/p')
kill "$server" 2>/dev/null || true
wait "$server" 2>/dev/null || true
serve
go=$(tree/usr/bin/nbdinfo --size "$url")
echo "nbdinfo --list: export-size: $info / nbdinfo --size: $go"
[ "$info $go" = "0 4194304" ]
