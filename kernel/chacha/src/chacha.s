# ChaCha20 (RFC 8439, 2.3) for several blocks at once, one block in each 32-bit lane of the registers.
#
#   chacha_avx2   8 blocks a group (512 bytes), needs AVX2 and the YMM state on
#   chacha_ssse3  4 blocks a group (256 bytes), needs SSSE3; leaves the upper halves of YMM registers as they are
#
# System V calling convention. In: RDI the state, 16 words, its counter that of the first block; RSI input and RDX
# output, which may be the same but not overlap otherwise, of any alignment; RCX groups, at least 1. Out: nothing.
# Clobbers RAX, RCX, RSI, RDX, flags and all XMM or YMM registers. What it kept on the stack is wiped.

.section .rodata.chacha, "a", @progbits
.balign 32
.Lrotate16: .byte 2,3,0,1, 6,7,4,5, 10,11,8,9, 14,15,12,13, 2,3,0,1, 6,7,4,5, 10,11,8,9, 14,15,12,13
.Lrotate8:  .byte 3,0,1,2, 7,4,5,6, 11,8,9,10, 15,12,13,14, 3,0,1,2, 7,4,5,6, 11,8,9,10, 15,12,13,14
.Lsteps:    .long 0, 1, 2, 3, 4, 5, 6, 7
.Leight:    .long 8, 8, 8, 8, 8, 8, 8, 8
.Lfour:     .long 4, 4, 4, 4

.section .text.chacha, "ax", @progbits

# ---- AVX2. YMM8 is free: word 8 lies in memory, at [rsp + KEPT]. First come the 16 words as they were at the start.
.set KEPT, 512
.set LATER, 544
.set FRAME, 800

.macro spin8 b, left
    vpslld  ymm8, \b, \left
    vpsrld  \b, \b, 32 - \left
    vpor    \b, \b, ymm8
.endm

.macro quarter8 a, b, c, d
    vpaddd  \a, \a, \b
    vpxor   \d, \d, \a
    vpshufb \d, \d, ymmword ptr [rip + .Lrotate16]
    vpaddd  \c, \c, \d
    vpxor   \b, \b, \c
    spin8   \b, 12
    vpaddd  \a, \a, \b
    vpxor   \d, \d, \a
    vpshufb \d, \d, ymmword ptr [rip + .Lrotate8]
    vpaddd  \c, \c, \d
    vpxor   \b, \b, \c
    spin8   \b, 7
.endm

# The same for word 8 as c.
.macro quarter8_kept a, b, d
    vpaddd  \a, \a, \b
    vpxor   \d, \d, \a
    vpshufb \d, \d, ymmword ptr [rip + .Lrotate16]
    vpaddd  ymm8, \d, ymmword ptr [rsp + KEPT]
    vmovdqa ymmword ptr [rsp + KEPT], ymm8
    vpxor   \b, \b, ymm8
    spin8   \b, 12
    vpaddd  \a, \a, \b
    vpxor   \d, \d, \a
    vpshufb \d, \d, ymmword ptr [rip + .Lrotate8]
    vpaddd  ymm8, \d, ymmword ptr [rsp + KEPT]
    vmovdqa ymmword ptr [rsp + KEPT], ymm8
    vpxor   \b, \b, ymm8
    spin8   \b, 7
.endm

# Block \block's eight words that begin at byte \at of it.
.macro put8 r, block, at
    vpxor   \r, \r, ymmword ptr [rsi + 64 * \block + \at]
    vmovdqu ymmword ptr [rdx + 64 * \block + \at], \r
.endm

# YMM0 to 7 hold eight words, a register each; they become eight blocks' parts. YMM8 to 15 are clobbered.
.macro turn8 at
    vpunpckldq  ymm8, ymm0, ymm1
    vpunpckhdq  ymm9, ymm0, ymm1
    vpunpckldq  ymm10, ymm2, ymm3
    vpunpckhdq  ymm11, ymm2, ymm3
    vpunpckldq  ymm12, ymm4, ymm5
    vpunpckhdq  ymm13, ymm4, ymm5
    vpunpckldq  ymm14, ymm6, ymm7
    vpunpckhdq  ymm15, ymm6, ymm7
    vpunpcklqdq ymm0, ymm8, ymm10
    vpunpckhqdq ymm1, ymm8, ymm10
    vpunpcklqdq ymm2, ymm9, ymm11
    vpunpckhqdq ymm3, ymm9, ymm11
    vpunpcklqdq ymm4, ymm12, ymm14
    vpunpckhqdq ymm5, ymm12, ymm14
    vpunpcklqdq ymm6, ymm13, ymm15
    vpunpckhqdq ymm7, ymm13, ymm15
    vperm2i128  ymm8, ymm0, ymm4, 0x20
    vperm2i128  ymm9, ymm1, ymm5, 0x20
    vperm2i128  ymm10, ymm2, ymm6, 0x20
    vperm2i128  ymm11, ymm3, ymm7, 0x20
    vperm2i128  ymm12, ymm0, ymm4, 0x31
    vperm2i128  ymm13, ymm1, ymm5, 0x31
    vperm2i128  ymm14, ymm2, ymm6, 0x31
    vperm2i128  ymm15, ymm3, ymm7, 0x31
    put8 ymm8, 0, \at
    put8 ymm9, 1, \at
    put8 ymm10, 2, \at
    put8 ymm11, 3, \at
    put8 ymm12, 4, \at
    put8 ymm13, 5, \at
    put8 ymm14, 6, \at
    put8 ymm15, 7, \at
.endm

.globl chacha_avx2
.type chacha_avx2, @function
chacha_avx2:
    push    rbp
    mov     rbp, rsp
    sub     rsp, FRAME
    and     rsp, -32
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vpbroadcastd ymm0, dword ptr [rdi + 4 * \n]
    .if \n == 12
    vpaddd  ymm0, ymm0, ymmword ptr [rip + .Lsteps]
    .endif
    vmovdqa ymmword ptr [rsp + 32 * \n], ymm0
    .endr
2:
    vmovdqa ymm8, ymmword ptr [rsp + 32 * 8]
    vmovdqa ymmword ptr [rsp + KEPT], ymm8
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15
    vmovdqa ymm\n, ymmword ptr [rsp + 32 * \n]
    .endr
    mov     eax, 10
3:
    quarter8_kept ymm0, ymm4, ymm12
    quarter8 ymm1, ymm5, ymm9, ymm13
    quarter8 ymm2, ymm6, ymm10, ymm14
    quarter8 ymm3, ymm7, ymm11, ymm15
    quarter8 ymm0, ymm5, ymm10, ymm15
    quarter8 ymm1, ymm6, ymm11, ymm12
    quarter8_kept ymm2, ymm7, ymm13
    quarter8 ymm3, ymm4, ymm9, ymm14
    dec     eax
    jnz     3b
    vmovdqa ymm8, ymmword ptr [rsp + KEPT]
    .irp n, 8, 9, 10, 11, 12, 13, 14, 15
    vpaddd  ymm\n, ymm\n, ymmword ptr [rsp + 32 * \n]
    vmovdqa ymmword ptr [rsp + LATER + 32 * (\n - 8)], ymm\n
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vpaddd  ymm\n, ymm\n, ymmword ptr [rsp + 32 * \n]
    .endr
    turn8   0
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vmovdqa ymm\n, ymmword ptr [rsp + LATER + 32 * \n]
    .endr
    turn8   32
    vmovdqa ymm0, ymmword ptr [rsp + 32 * 12]
    vpaddd  ymm0, ymm0, ymmword ptr [rip + .Leight]
    vmovdqa ymmword ptr [rsp + 32 * 12], ymm0
    add     rsi, 512
    add     rdx, 512
    dec     rcx
    jnz     2b
    vpxor   ymm0, ymm0, ymm0
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24
    vmovdqa ymmword ptr [rsp + 32 * \n], ymm0
    .endr
    vzeroall
    mov     rsp, rbp
    pop     rbp
    ret
.size chacha_avx2, . - chacha_avx2

# ---- SSSE3, the same with 16 bytes for 32.
.set KEPT4, 256
.set LATER4, 272
.set FRAME4, 336

.macro spin4 b, left
    movdqa  xmm8, \b
    pslld   xmm8, \left
    psrld   \b, 32 - \left
    por     \b, xmm8
.endm

.macro quarter4 a, b, c, d
    paddd   \a, \b
    pxor    \d, \a
    pshufb  \d, xmmword ptr [rip + .Lrotate16]
    paddd   \c, \d
    pxor    \b, \c
    spin4   \b, 12
    paddd   \a, \b
    pxor    \d, \a
    pshufb  \d, xmmword ptr [rip + .Lrotate8]
    paddd   \c, \d
    pxor    \b, \c
    spin4   \b, 7
.endm

.macro quarter4_kept a, b, d
    paddd   \a, \b
    pxor    \d, \a
    pshufb  \d, xmmword ptr [rip + .Lrotate16]
    movdqa  xmm8, xmmword ptr [rsp + KEPT4]
    paddd   xmm8, \d
    movdqa  xmmword ptr [rsp + KEPT4], xmm8
    pxor    \b, xmm8
    spin4   \b, 12
    paddd   \a, \b
    pxor    \d, \a
    pshufb  \d, xmmword ptr [rip + .Lrotate8]
    movdqa  xmm8, xmmword ptr [rsp + KEPT4]
    paddd   xmm8, \d
    movdqa  xmmword ptr [rsp + KEPT4], xmm8
    pxor    \b, xmm8
    spin4   \b, 7
.endm

.macro put4 r, block, at
    movdqu  xmm15, xmmword ptr [rsi + 64 * \block + \at]
    pxor    \r, xmm15
    movdqu  xmmword ptr [rdx + 64 * \block + \at], \r
.endm

# Four words, a register each, become four blocks' parts. XMM12 to 15 are clobbered.
.macro turn4 a, b, c, d, at
    movdqa  xmm12, \a
    punpckldq xmm12, \b
    punpckhdq \a, \b
    movdqa  xmm13, \c
    punpckldq xmm13, \d
    punpckhdq \c, \d
    movdqa  xmm14, xmm12
    punpcklqdq xmm12, xmm13
    punpckhqdq xmm14, xmm13
    movdqa  xmm13, \a
    punpcklqdq xmm13, \c
    punpckhqdq \a, \c
    put4 xmm12, 0, \at
    put4 xmm14, 1, \at
    put4 xmm13, 2, \at
    put4 \a, 3, \at
.endm

.globl chacha_ssse3
.type chacha_ssse3, @function
chacha_ssse3:
    push    rbp
    mov     rbp, rsp
    sub     rsp, FRAME4
    and     rsp, -16
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movd    xmm0, dword ptr [rdi + 4 * \n]
    pshufd  xmm0, xmm0, 0
    .if \n == 12
    paddd   xmm0, xmmword ptr [rip + .Lsteps]
    .endif
    movdqa  xmmword ptr [rsp + 16 * \n], xmm0
    .endr
2:
    movdqa  xmm8, xmmword ptr [rsp + 16 * 8]
    movdqa  xmmword ptr [rsp + KEPT4], xmm8
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15
    movdqa  xmm\n, xmmword ptr [rsp + 16 * \n]
    .endr
    mov     eax, 10
3:
    quarter4_kept xmm0, xmm4, xmm12
    quarter4 xmm1, xmm5, xmm9, xmm13
    quarter4 xmm2, xmm6, xmm10, xmm14
    quarter4 xmm3, xmm7, xmm11, xmm15
    quarter4 xmm0, xmm5, xmm10, xmm15
    quarter4 xmm1, xmm6, xmm11, xmm12
    quarter4_kept xmm2, xmm7, xmm13
    quarter4 xmm3, xmm4, xmm9, xmm14
    dec     eax
    jnz     3b
    movdqa  xmm8, xmmword ptr [rsp + KEPT4]
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    paddd   xmm\n, xmmword ptr [rsp + 16 * \n]
    .endr
    .irp n, 12, 13, 14, 15
    movdqa  xmmword ptr [rsp + LATER4 + 16 * (\n - 12)], xmm\n
    .endr
    turn4   xmm0, xmm1, xmm2, xmm3, 0
    turn4   xmm4, xmm5, xmm6, xmm7, 16
    turn4   xmm8, xmm9, xmm10, xmm11, 32
    .irp n, 0, 1, 2, 3
    movdqa  xmm\n, xmmword ptr [rsp + LATER4 + 16 * \n]
    .endr
    turn4   xmm0, xmm1, xmm2, xmm3, 48
    movdqa  xmm0, xmmword ptr [rsp + 16 * 12]
    paddd   xmm0, xmmword ptr [rip + .Lfour]
    movdqa  xmmword ptr [rsp + 16 * 12], xmm0
    add     rsi, 256
    add     rdx, 256
    dec     rcx
    jnz     2b
    pxor    xmm0, xmm0
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
    movdqa  xmmword ptr [rsp + 16 * \n], xmm0
    .endr
    mov     rsp, rbp
    pop     rbp
    ret
.size chacha_ssse3, . - chacha_ssse3

# ---- Poly1305 (RFC 8439, 2.5) over whole blocks, in plain registers with BMI2's MULX.
#
# poly_mulx: RDI the sum, three words, below 2^131; RSI the clamped key r, two words; RDX blocks of 16 bytes, of any
# alignment; RCX their number, at least 1. Clobbers the caller-saved registers and flags.
.globl poly_mulx
.type poly_mulx, @function
poly_mulx:
    push    rbx
    push    rbp
    push    r12
    push    r13
    push    r14
    push    r15
    mov     r15, rdx                # blocks
    mov     r8, [rdi]               # h0, h1, h2
    mov     r9, [rdi + 8]
    mov     r10, [rdi + 16]
    mov     r11, [rsi]              # r0, r1
    mov     r12, [rsi + 8]
    mov     r13, r12                # 5/4 r1, whole since r1 is a multiple of 4
    shr     r13, 2
    add     r13, r12
2:
    add     r8, [r15]
    adc     r9, [r15 + 8]
    adc     r10, 1
    mov     rdx, r8
    mulx    rbx, rax, r11           # h0 r0
    mulx    rbp, r14, r12           # h0 r1
    mov     rdx, r9
    mulx    rsi, r8, r13            # h1 s1
    add     rax, r8
    adc     rbx, rsi                # d0 = rbx:rax
    mulx    rsi, r8, r11            # h1 r0
    add     r14, r8
    adc     rbp, rsi                # d1 = rbp:r14
    mov     rdx, r10
    imul    rdx, r13                # h2 s1
    imul    r10, r11                # h2 r0
    add     r14, rdx
    adc     rbp, 0
    add     r14, rbx                # with the carry of d0
    adc     r10, rbp                # d2
    mov     rdx, r10                # 2^130 = 5: the part above is taken 5 times
    mov     r8, r10
    and     r10d, 3
    and     rdx, -4
    shr     r8, 2
    add     r8, rdx
    add     r8, rax
    mov     r9, r14
    adc     r9, 0
    adc     r10, 0
    add     r15, 16
    dec     rcx
    jnz     2b
    mov     [rdi], r8
    mov     [rdi + 8], r9
    mov     [rdi + 16], r10
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbp
    pop     rbx
    ret
.size poly_mulx, . - poly_mulx

.text
