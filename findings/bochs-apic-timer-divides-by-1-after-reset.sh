#!/bin/sh
# Bochs 2.7 (Debian 12, 2.7+dfsg-4+deb12u1) and 3.0 (Debian 13, 3.0+dfsg-1): after a reset the local APIC's timer counts once for
# each tick although its divide register reads 0, which means divide by 2 (SDM 3A, figure 11-10 and 11.4.7.1). Once 0 is
# written to that register, the very value that it already shows, the timer counts every other tick. Code that forgets to
# set the register up on one CPU therefore works here, and is wrong by a factor of two on silicon.
# Seen on 2026-11-30 with corei7_skylake_x: divide register 0; timer ticks for 16,384 ticks of the TSC 4,000h, and 2,000h
# after the write (to a few ticks).
# Needs gcc's binutils, apt and dpkg; leaves nothing behind, installs nothing.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
: >status

# fetch SUITE VERSION: unpacks that release's Bochs with its libraries into the folder SUITE.
fetch() {
    suite=$1
    version=$2
    mkdir -p "$suite/lists/partial" "$suite/archives/partial" "$suite/debs"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
        >"$suite/sources.list"
    set -- -qq -o Dir::Etc::SourceList="$work/$suite/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/$suite/lists" -o Dir::State::Status="$work/status" -o Dir::Cache="$work/$suite" \
        -o APT::Architecture=amd64 -o APT::Sandbox::User=root
    apt-get update "$@"
    readline=libreadline8
    [ "$suite" = bookworm ] || readline=libreadline8t64
    (cd "$suite/debs" && apt-get download "$@" "bochs=$version" "bochsbios=$version" vgabios libc6 libstdc++6 libgcc-s1 \
        $readline libtinfo6 libncurses6 libltdl7 zlib1g libzstd1)
    for package in "$suite"/debs/*.deb; do dpkg-deb --extract "$package" "$suite/tree"; done
}

cat >sector.s <<'END'
	.code16
	.globl	_start
_start:	cli
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0x7c00, %sp
	lgdtl	pointer
	mov	%cr0, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ljmp	$8, $flat
	.code32
flat:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	movl	$0x1ff, 0xfee000f0		/* APIC on */
	movl	$0x10020, 0xfee00320		/* the timer's interrupt masked */
	mov	0xfee003e0, %ebx
	call	hex
	call	count
	movl	$0, 0xfee003e0
	call	count
	mov	$word, %esi
	mov	$8, %ecx
	mov	$0x8900, %edx
	rep outsb
	hlt
/* prints how far the timer comes in 16,384 ticks of the TSC */
count:	rdtsc
	mov	%eax, %edi
	movl	$0xffffffff, 0xfee00380
1:	rdtsc
	sub	%edi, %eax
	cmp	$16384, %eax
	jb	1b
	mov	0xfee00390, %ebx
	not	%ebx
/* prints EBX and a blank */
hex:	mov	$8, %ecx
1:	rol	$4, %ebx
	mov	%bl, %al
	and	$15, %al
	add	$'0', %al
	cmp	$'9', %al
	jbe	2f
	add	$7, %al
2:	out	%al, $0xe9
	loop	1b
	mov	$' ', %al
	out	%al, $0xe9
	ret
word:	.ascii	"Shutdown"
	.balign	8
gdt:	.quad	0, 0x00cf9a000000ffff, 0x00cf92000000ffff
pointer: .word	. - gdt - 1
	.long	gdt
	.org	510
	.word	0xaa55
END
as --32 sector.s -o sector.o
ld -m elf_i386 -Ttext 0x7c00 --oformat binary sector.o -o sector
truncate -s 1474560 sector

# play SUITE: what the boot sector prints on it
play() {
    tree=$work/$1/tree
    lib=$tree/usr/lib/x86_64-linux-gnu
    loader=$(find "$tree" -name 'ld-linux-x86-64.so.2' ! -type l | head -n 1)
    [ -n "$loader" ] || loader=$(find "$tree" -name 'ld-2*.so' | head -n 1)
    cat >rc <<END
romimage: file=$tree/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=$tree/usr/share/vgabios/vgabios.bin
display_library: rfb, options="timeout=0"
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
megs: 32
cpu: model=corei7_skylake_x, count=1, ips=20000000
clock: sync=none
floppya: 1_44=$work/sector, status=inserted
boot: floppy
port_e9_hack: enabled=1
log: $work/log
END
    echo c >commands
    LTDL_LIBRARY_PATH=$lib/bochs/plugins timeout 120 "$loader" --library-path "$lib:$tree/lib/x86_64-linux-gnu" \
        "$tree/usr/bin/bochs-bin" -q -f rc -rc commands >out 2>&1 || true
    grep -aoE '([0-9A-F]{8} ){3}' out || echo "nothing: $(tail -n 3 out)"
}

fetch bookworm 2.7+dfsg-4+deb12u1
fetch trixie 3.0+dfsg-1
status=0
for suite in bookworm trixie; do
    seen=$(play $suite)
    echo "$suite: divide register, count after a reset, count after writing 0 to it: $seen"
    case $seen in
    "00000000 000040"*" 000020"*) ;; # 4000h and a few ticks, 2000h and a few
    *) status=1 ;;
    esac
done
exit $status
