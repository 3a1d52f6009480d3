// Loops of 6 rows by 16 columns in 12 of the 16 registers of 256 bits, in assembly: compilers spill where it is as
// tight as this.
#pragma once
#include "inlining.h"

// One row: broadcast its next four bytes, multiply by both halves of the panel.
#define FS_ROW(op, address, c0, c1)             \
  "vpbroadcastd " address ", %%ymm14\n\t"       \
  op("%%ymm12", "%%ymm" #c0)                    \
  op("%%ymm13", "%%ymm" #c1)
#define FS_START(c0, c1)                        \
  "vmovdqu (%[start]), %%ymm" #c0 "\n\t"        \
  "vmovdqu 32(%[start]), %%ymm" #c1 "\n\t"
#define FS_STORE(c0, c1)                        \
  "vmovdqu %%ymm" #c0 ", (%[sums])\n\t"         \
  "vmovdqu %%ymm" #c1 ", 32(%[sums])\n\t"       \
  "add %[sum_stride], %[sums]\n\t"
#define FS_LOOP(panel_load, panel_step, starts, rows, stores)                                             \
  asm volatile(starts                                                                                     \
               ".p2align 4\n\t"                                                                           \
               "1:\n\t" panel_load                                                                        \
               "prefetcht0 1024(%[panel])\n\t" rows                                                       \
               "add $" #panel_step ", %[panel]\n\t"                                                       \
               "add $4, %[a]\n\t"                                                                         \
               "add $4, %[d]\n\t"                                                                         \
               "dec %[count]\n\t"                                                                         \
               "jnz 1b\n\t" stores                                                                        \
               : [panel] "+r"(panel), [a] "+r"(a), [d] "+r"(d), [count] "+r"(count), [sums] "+r"(sums)    \
               : [stride] "r"(stride), [start] "r"(start), [sum_stride] "r"(sum_stride)                   \
               : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",  \
                 "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

#define FS_S0 FS_START(0, 1)
#define FS_S1 FS_S0 FS_START(2, 3)
#define FS_S2 FS_S1 FS_START(4, 5)
#define FS_S3 FS_S2 FS_START(6, 7)
#define FS_S4 FS_S3 FS_START(8, 9)
#define FS_S5 FS_S4 FS_START(10, 11)
#define FS_R0(op) FS_ROW(op, "(%[a])", 0, 1)
#define FS_R1(op) FS_R0(op) FS_ROW(op, "(%[a],%[stride])", 2, 3)
#define FS_R2(op) FS_R1(op) FS_ROW(op, "(%[a],%[stride],2)", 4, 5)
#define FS_R3(op) FS_R2(op) FS_ROW(op, "(%[d])", 6, 7)
#define FS_R4(op) FS_R3(op) FS_ROW(op, "(%[d],%[stride])", 8, 9)
#define FS_R5(op) FS_R4(op) FS_ROW(op, "(%[d],%[stride],2)", 10, 11)
#define FS_W0 FS_STORE(0, 1)
#define FS_W1 FS_W0 FS_STORE(2, 3)
#define FS_W2 FS_W1 FS_STORE(4, 5)
#define FS_W3 FS_W2 FS_STORE(6, 7)
#define FS_W4 FS_W3 FS_STORE(8, 9)
#define FS_W5 FS_W4 FS_STORE(10, 11)

// A panel's step as it lies, or as bytes that become 16 bits each.
#define FS_WHOLE "vmovdqu (%[panel]), %%ymm12\n\tvmovdqu 32(%[panel]), %%ymm13\n\t"
#define FS_WIDENED "vpmovsxbw (%[panel]), %%ymm12\n\tvpmovsxbw 16(%[panel]), %%ymm13\n\t"

// `count` steps of the panel and 4 bytes of each row. Strides are in bytes.
#define FS_PRODUCT(name, panel_load, panel_step, op)                                                              \
  inline void name(const char* a, size_t stride, int rows, const char* panel, size_t count, const int32_t* start, \
                   char* sums, size_t sum_stride) {                                                               \
    const char* d = rows > 3 ? a + 3 * stride : a;                                                                \
    switch (rows) {                                                                                               \
      case 1: FS_LOOP(panel_load, panel_step, FS_S0, FS_R0(op), FS_W0); break;                                    \
      case 2: FS_LOOP(panel_load, panel_step, FS_S1, FS_R1(op), FS_W1); break;                                    \
      case 3: FS_LOOP(panel_load, panel_step, FS_S2, FS_R2(op), FS_W2); break;                                    \
      case 4: FS_LOOP(panel_load, panel_step, FS_S3, FS_R3(op), FS_W3); break;                                    \
      case 5: FS_LOOP(panel_load, panel_step, FS_S4, FS_R4(op), FS_W4); break;                                    \
      default: FS_LOOP(panel_load, panel_step, FS_S5, FS_R5(op), FS_W5); break;                                   \
    }                                                                                                             \
  }
