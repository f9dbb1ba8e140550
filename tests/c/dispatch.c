/* Which kernels dispatch.c would choose on other CPUs, by what these say of themselves. */
#include <stdio.h>
#include <string.h>

#include "../../csrc/dispatch.c"

const kernel_table kernels_avx512wide = {.isa = "avx512wide"}, kernels_avx512 = {.isa = "avx512"};
const kernel_table kernels_avx2 = {.isa = "avx2"}, kernels_baseline = {.isa = "baseline"};

#define ECX1 (bit_OSXSAVE | bit_AVX | bit_FMA)
#define AVX2 (bit_AVX2 | bit_BMI2)
#define AVX512 (AVX2 | bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL)
#define YMM 0x7
#define ZMM 0xE7

static const struct {
    const char *name, *vendor, *best_first;
    uint32_t eax1, ecx1, ebx7, xcr0;
} cpus[] = {
    {"no answers", "", "baseline", 0, 0, 0, 0},
    {"Nehalem", "GenuineIntel", "baseline", 0x106A5, 0, 0, 0},
    {"Sandy Bridge", "GenuineIntel", "baseline", 0x206A7, bit_OSXSAVE | bit_AVX, 0, YMM},
    {"Haswell", "GenuineIntel", "avx2 baseline", 0x306C3, ECX1, AVX2, YMM},
    {"Haswell without BMI2", "GenuineIntel", "baseline", 0x306C3, ECX1, bit_AVX2, YMM},
    {"Haswell without FMA", "GenuineIntel", "baseline", 0x306C3, ECX1 & ~bit_FMA, AVX2, YMM},
    {"Haswell, system without xsave", "GenuineIntel", "baseline", 0x306C3, ECX1 & ~bit_OSXSAVE, AVX2, 0},
    {"Haswell, system without YMM", "GenuineIntel", "baseline", 0x306C3, ECX1, AVX2, 0x3},
    {"Knights Landing", "GenuineIntel", "avx2 baseline", 0x50671, ECX1, AVX2 | bit_AVX512F, ZMM},
    {"Sapphire Rapids", "GenuineIntel", "avx512 avx512wide avx2 baseline", 0x806F8, ECX1, AVX512, ZMM},
    {"Sapphire Rapids, system without ZMM", "GenuineIntel", "avx2 baseline", 0x806F8, ECX1, AVX512, YMM},
    {"Zen 3", "AuthenticAMD", "avx2 baseline", 0xA20F12, ECX1, AVX2, YMM},
    {"Zen 4", "AuthenticAMD", "avx512 avx512wide avx2 baseline", 0xA60F12, ECX1, AVX512, ZMM},
    {"Zen 5", "AuthenticAMD", "avx512wide avx512 avx2 baseline", 0xB40F40, ECX1, AVX512, ZMM},
    {"Zen 5, system without ZMM", "AuthenticAMD", "avx2 baseline", 0xB40F40, ECX1, AVX512, YMM},
    {"Zen 5's family of another make", "GenuineIntel", "avx512 avx512wide avx2 baseline", 0xB40F40, ECX1, AVX512, ZMM},
};

int main(void)
{
    const size_t MiB = 1 << 20;
    int wrong = nontemporal_from(0) != 16 * MiB || nontemporal_from(MiB) != 16 * MiB ||
                nontemporal_from(32 * MiB) != 32 * MiB || nontemporal_from(512 * MiB) != 64 * MiB;
    if (wrong)
        puts("wrong results are written around the cache");
    for (size_t i = 0; i < sizeof cpus / sizeof *cpus; i++) {
        cpu_facts cpu = {.eax1 = cpus[i].eax1, .ecx1 = cpus[i].ecx1, .ebx7 = cpus[i].ebx7, .xcr0 = cpus[i].xcr0};
        if (*cpus[i].vendor) {
            memcpy(&cpu.ebx0, cpus[i].vendor, 4);
            memcpy(&cpu.edx0, cpus[i].vendor + 4, 4);
            memcpy(&cpu.ecx0, cpus[i].vendor + 8, 4);
        }
        const kernel_table *tables[MAX_ISAS];
        int ranks[MAX_ISAS], count = list_for(&cpu, tables, ranks);
        char best_first[64] = "";
        for (int rank = 9; rank > 0; rank--)
            for (int t = 0; t < count; t++)
                if (ranks[t] == rank)
                    strcat(strcat(best_first, *best_first ? " " : ""), tables[t]->isa);
        if (strcmp(best_first, cpus[i].best_first)) {
            printf("%s: expected %s, found %s\n", cpus[i].name, cpus[i].best_first, best_first);
            wrong = 1;
        }
    }
    return wrong;
}
