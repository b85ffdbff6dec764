# Multiboot headers, PVH note and the 32-bit start. The kernel is linked where it runs (identity mapping), so addresses here
# are physical. Linked first in the image: a Multiboot 1 header must lie in the first 8 KiB of the file.

.set MB1_MAGIC, 0x1badb002
.set MB1_FLAGS, 0x00010003              # page-aligned modules, memory map, address fields (bit 16)
.set MB2_MAGIC, 0xe85250d6

.section .boot.header, "ax", @progbits
.balign 8
mb1_header:
    .long MB1_MAGIC
    .long MB1_FLAGS
    .long -(MB1_MAGIC + MB1_FLAGS)
    .long mb1_header                    # header_addr
    .long __image_start                 # load_addr
    .long __load_end                    # load_end_addr
    .long __image_end                   # bss_end_addr
    .long _start                        # entry_addr

.balign 8
mb2_header:
    .long MB2_MAGIC
    .long 0                             # i386, protected mode
    .long mb2_end - mb2_header
    .long -(MB2_MAGIC + (mb2_end - mb2_header))
.balign 8
mb2_request:
    .short 1, 1                         # information request, optional
    .long mb2_request_end - mb2_request
    .long 1, 2, 3, 6, 14, 15            # command line, loader name, modules, memory map, RSDP 1, RSDP 2
mb2_request_end:
.balign 8
    .short 6, 0                         # modules page-aligned
    .long 8
.balign 8
    .short 0, 0                         # end
    .long 8
mb2_end:

# The PVH entry, in a note (XEN_ELFNOTE_PHYS32_ENTRY): 32-bit protected mode, EBX holds the start info.
.section .note.pvh, "a", @note
.balign 4
    .long 4                             # name
    .long 4                             # descriptor
    .long 18                            # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long _start_pvh

.section .boot.text, "ax", @progbits
.code32
_start_pvh:
    movl    $0x336ec578, %eax           # the magic of the start info: EAX is undefined
.global _start
_start:
    cli
    cld
    movl    %eax, %edi                  # Multiboot magic and information: kernel_main's arguments
    movl    %ebx, %esi
    movl    $__boot_stack_top, %esp

    # CPUID there at all? (EFLAGS.ID can be changed)
    pushfl
    popl    %eax
    movl    %eax, %ecx
    xorl    $0x00200000, %eax
    pushl   %eax
    popfl
    pushfl
    popl    %eax
    xorl    %ecx, %eax
    testl   $0x00200000, %eax
    jz      no_long_mode

    rdtsc
    movl    %eax, loader_entry_tsc
    movl    %edx, loader_entry_tsc + 4

    movl    $0x80000000, %eax
    cpuid
    cmpl    $0x80000001, %eax
    jb      no_long_mode
    movl    $0x80000001, %eax
    cpuid
    testl   $(1 << 29), %edx            # long mode
    jz      no_long_mode

    # The first 4 GiB mapped one to one with 2 MiB pages. The kernel's own tables replace these.
    movl    $boot_pd, %ebx
    xorl    %ecx, %ecx
1:  movl    %ecx, %eax
    shll    $21, %eax
    orl     $0x83, %eax                 # present, writable, 2 MiB
    movl    %eax, (%ebx, %ecx, 8)
    movl    $0, 4(%ebx, %ecx, 8)
    incl    %ecx
    cmpl    $2048, %ecx
    jne     1b
    xorl    %ecx, %ecx
2:  movl    %ecx, %eax
    shll    $12, %eax
    leal    boot_pd + 3(%eax), %eax
    movl    %eax, boot_pdpt(, %ecx, 8)
    incl    %ecx
    cmpl    $4, %ecx
    jne     2b
    movl    $boot_pdpt + 3, boot_pml4

    movl    $boot_pml4, %eax
    movl    %eax, %cr3
    movl    %cr4, %eax
    orl     $(1 << 5), %eax             # PAE
    movl    %eax, %cr4
    movl    $0xc0000080, %ecx           # EFER.LME
    rdmsr
    orl     $(1 << 8), %eax
    wrmsr
    movl    %cr0, %eax
    orl     $0x80000021, %eax           # PG, NE, PE
    movl    %eax, %cr0
    lgdt    boot_gdt_pointer
    ljmp    $0x08, $long_mode

# Prints the one line a CPU without long mode can get, on COM1 at 115200 8n1, and stops.
no_long_mode:
    movw    $0x3fb, %dx                 # LCR: divisor latch
    movb    $0x83, %al
    outb    %al, %dx
    movw    $0x3f8, %dx                 # divisor 1
    movb    $1, %al
    outb    %al, %dx
    incl    %edx
    xorb    %al, %al
    outb    %al, %dx
    movw    $0x3fb, %dx                 # 8n1
    movb    $3, %al
    outb    %al, %dx
    movl    $no_long_mode_text, %ebx
3:  movb    (%ebx), %cl
    testb   %cl, %cl
    jz      6f
    movw    $0x3fd, %dx
    movl    $100000, %ebp               # no UART reads as 0xff and never holds the line up; bound it all the same
4:  inb     %dx, %al
    testb   $0x20, %al
    jnz     5f
    decl    %ebp
    jnz     4b
5:  movb    %cl, %al
    movw    $0x3f8, %dx
    outb    %al, %dx
    incl    %ebx
    jmp     3b
6:  hlt
    jmp     6b

.code64
long_mode:
    xorl    %eax, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    movl    %eax, %fs
    movl    %eax, %gs
    movl    $__boot_stack_top, %esp
    xorl    %ebp, %ebp                  # ends the chain of frames
    movl    %edi, %edi                  # upper halves are undefined after the switch
    movl    %esi, %esi
    call    kernel_main
    ud2

.section .boot.rodata, "a", @progbits
no_long_mode_text:
    .asciz "\r\nFlexvisor: this CPU has no 64-bit mode; a 64-bit Intel CPU with VT-x is needed\r\n"
.balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00209b0000000000            # 64-bit code
boot_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt

.section .boot.data, "aw", @progbits
.balign 8
.global loader_entry_tsc
loader_entry_tsc:
    .quad 0

.section .bss.boot_tables, "aw", @nobits
.balign 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pd:
    .skip 4 * 4096
