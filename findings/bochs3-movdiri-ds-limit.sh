#!/bin/sh
# Bochs 3.0 (Debian 13, 3.0+dfsg-1), model sapphire_rapids: in 64-bit mode MOVDIRI of 32 bits raises #GP(0) where the
# descriptor of DS has the limit 0. One would expect it to work: 64-bit mode does not look at that limit (SDM volume 1,
# 3.4.2.1), and MOV and MOVDIRI of 64 bits at the same address do work. Seen on 2026-11-30, printed by the boot sector below:
#   mov32 works / movdiri64 works / movdiri32 vector 13
# The handler of the 32-bit form is the one for code outside 64-bit mode. Who probes instructions in an emulated guest
# takes the #GP for a missing feature.
# Needs gcc's binutils, apt and dpkg; leaves nothing behind, installs nothing.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
mkdir -p lists/partial archives/partial debs
: >status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >sources.list
apt13() {
    command=$1
    shift
    apt-get "$command" -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" -o Dir::Cache="$work" \
        -o APT::Architecture=amd64 -o APT::Sandbox::User=root "$@"
}
apt13 update
(cd debs && apt13 download bochs=3.0+dfsg-1 bochsbios=3.0+dfsg-1 vgabios libc6 libstdc++6 libgcc-s1 libreadline8t64 \
    libtinfo6 libncurses6 zlib1g libzstd1)
for package in debs/*.deb; do dpkg-deb --extract "$package" tree; done

cat >sector.s <<'END'
	.code16
	.globl	_start
_start:	cli
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %sp
	/* page tables at 0x1000: the first 2 MiB as they are */
	mov	$0x1000, %di
	mov	$0x1800, %cx
	xor	%ax, %ax
	rep stosw
	movw	$0x2003, 0x1000
	movw	$0x3003, 0x2000
	movw	$0x0083, 0x3000
	lgdt	pointer
	mov	$0x20, %eax
	mov	%eax, %cr4
	mov	$0x1000, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	or	$0x80000001, %eax
	mov	%eax, %cr0
	ljmp	$8, $long
	.code64
long:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %ss
	mov	%eax, %es
	/* vector 13 goes to `fault`: its gate is the only one */
	lea	fault, %rax
	mov	%ax, 0x5000 + 13 * 16
	movw	$8, 0x5000 + 13 * 16 + 2
	movl	$0x8e00, 0x5000 + 13 * 16 + 4
	movq	$0, 0x5000 + 13 * 16 + 8
	lidt	idt
	mov	$0x8000, %edi
	mov	$'M', %bl
	mov	%ecx, (%rdi)
	call	works
	mov	$'Q', %bl
	.byte	0x48, 0x0f, 0x38, 0xf9, 0x0f	/* movdiri %rcx, (%rdi) */
	call	works
	mov	$'D', %bl
	.byte	0x0f, 0x38, 0xf9, 0x0f		/* movdiri %ecx, (%rdi) */
	call	works
end:	lea	word, %rsi
	mov	$8, %ecx
	mov	$0x8900, %edx
	rep outsb
	hlt
works:	mov	%bl, %al
	outb	%al, $0xe9
	mov	$'+', %al
	outb	%al, $0xe9
	ret
fault:	mov	%bl, %al
	outb	%al, $0xe9
	mov	$'#', %al
	outb	%al, $0xe9
	jmp	end
word:	.ascii	"Shutdown"
	.balign	8
gdt:	.quad	0, 0x00209a0000000000, 0x0000920000000000
pointer: .word	. - gdt - 1
	.long	gdt
idt:	.word	0xff
	.quad	0x5000
	.org	510
	.word	0xaa55
END
as --64 sector.s -o sector.o
ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary sector.o -o sector
truncate -s 1474560 sector
lib=$work/tree/usr/lib/x86_64-linux-gnu
cat >rc <<END
romimage: file=$work/tree/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=$work/tree/usr/share/bochs/VGABIOS-lgpl-latest
display_library: rfb, options="timeout=0"
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
megs: 32
cpu: model=sapphire_rapids, count=1, ips=20000000
clock: sync=none
floppya: 1_44=$work/sector, status=inserted
boot: floppy
port_e9_hack: enabled=1
log: $work/log
END
echo c >commands
export LTDL_LIBRARY_PATH="$lib/bochs/plugins"
timeout 120 "$lib/ld-linux-x86-64.so.2" --library-path "$lib" tree/usr/bin/bochs-bin -q -f rc -rc commands >out 2>&1 || true
seen=$(grep -ao 'M[+#]Q[+#]D[+#]' out || true)
echo "seen: ${seen:-nothing} (M: mov of 32 bits, Q: movdiri of 64, D: movdiri of 32; + works, # vector 13)"
[ "$seen" = "M+Q+D#" ]
