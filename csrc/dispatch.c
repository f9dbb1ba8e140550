/* Which tables of kernels were compiled, which of them this CPU can run, and which is best for it. */
#include "kernels.h"

/* Where the last cache holds a good part of a result, writing around it is slower: measured, 1.6 to 2.6 times below 8
 * MiB, and on a Zen 3 with 32 MiB of it 1.1 to 1.6 times at 16 MiB; at 64 MiB both are alike there, and at 256 MiB it
 * is 1.0 to 1.3 times faster. Where that cache is small it is so from 16 MiB on. A very large one is shared by many:
 * not all of it counts. */
enum { LEAST_NONTEMPORAL = 16 << 20, MOST_NONTEMPORAL = 64 << 20 };

size_t nontemporal_bytes = LEAST_NONTEMPORAL;

#if defined(__x86_64__)
#include <cpuid.h>

extern const kernel_table kernels_avx512wide, kernels_avx512, kernels_avx2, kernels_baseline;

/* What cpuid says, by leaf and register, and the registers that the system saves, by bits of XCR0. */
typedef struct {
    uint32_t ebx0, ecx0, edx0, eax1, ecx1, ebx7, xcr0;
} cpu_facts;

/* Asked by hand, since __builtin_cpu_supports needs a part of the compiler's library that zig's does not have, and
 * there says no to everything. */
static cpu_facts ask_cpu(void)
{
    cpu_facts cpu = {0};
    unsigned unused;
    __get_cpuid(0, &unused, &cpu.ebx0, &cpu.ecx0, &cpu.edx0);
    __get_cpuid(1, &cpu.eax1, &unused, &cpu.ecx1, &unused);
    __get_cpuid_count(7, 0, &unused, &cpu.ebx7, &unused, &unused);
    if (cpu.ecx1 & bit_OSXSAVE)
        __asm__ volatile("xgetbv" : "=a"(cpu.xcr0), "=d"(unused) : "c"(0));
    return cpu;
}

static bool is_amd(const cpu_facts *cpu)
{
    return cpu->ebx0 == signature_AMD_ebx && cpu->edx0 == signature_AMD_edx && cpu->ecx0 == signature_AMD_ecx;
}

/* In bytes; 0 if cpuid does not say. */
static size_t largest_cache(bool amd)
{
    size_t largest = 0;
    unsigned eax, ebx, ecx, edx, leaf = amd ? 0x8000001D : 4;
    for (unsigned i = 0; i < 8 && __get_cpuid_count(leaf, i, &eax, &ebx, &ecx, &edx) && (eax & 0x1F) != 0; i++) {
        size_t line = (ebx & 0xFFF) + 1, lines = (ebx >> 12 & 0x3FF) + 1, ways = (ebx >> 22) + 1;
        size_t bytes = line * lines * ways * ((size_t)ecx + 1);
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

static size_t nontemporal_from(size_t cache)
{
    return cache < LEAST_NONTEMPORAL ? LEAST_NONTEMPORAL : cache > MOST_NONTEMPORAL ? MOST_NONTEMPORAL : cache;
}

static bool all_of(uint32_t bits, uint32_t word)
{
    return (word & bits) == bits;
}

static bool runs_avx2(const cpu_facts *cpu)
{
    return all_of(bit_OSXSAVE | bit_AVX | bit_FMA, cpu->ecx1) && all_of(bit_AVX2 | bit_BMI2, cpu->ebx7) &&
           all_of(0x6, cpu->xcr0);
}

static bool runs_avx512(const cpu_facts *cpu)
{
#if defined(__APPLE__)
    return false; /* macOS saves these registers from a thread's first use of them on, and old ones not always */
#endif
    return runs_avx2(cpu) && all_of(bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL, cpu->ebx7) &&
           all_of(0xE6, cpu->xcr0);
}

/* Whether vectors of 512 bits are faster than those of 256, measured in cache: on AMD's Zen 5 (family 0x1A) 1.3 to 1.9
 * times, most kernels; on a Xeon of Sapphire Rapids' kind Adam gained nothing and Philox took 1.6 times as long. AMD's
 * Zen 4 (family 0x19), not measured, does them in two halves. */
static bool gains_from_512_bits(const cpu_facts *cpu)
{
    uint32_t family = cpu->eax1 >> 8 & 0xF;
    family += family == 0xF ? cpu->eax1 >> 20 & 0xFF : 0;
    return is_amd(cpu) && family >= 0x1A;
}

static kernel filled_up(kernel wide, kernel narrow)
{
    for (int type = 0; type < TYPES; type++)
        if (wide.of[type])
            narrow.of[type] = wide.of[type];
    return narrow;
}

/* The kernels of 512 bits; where there is none, that of 256. */
static const kernel_table *wide_kernels(void)
{
    static kernel_table kernels;
    kernels.isa = kernels_avx512wide.isa;
#define TYPED_KERNEL(name, operation, arguments, cost) KERNEL(name, operation, arguments, cost)
#define KERNEL(name, operation, arguments, cost) kernels.name = filled_up(kernels_avx512wide.name, kernels_avx512.name);
#define COMPOSITE(name, operation, cost)
#include "kernel_list.h"
    return &kernels;
}

static int list_for(const cpu_facts *cpu, const kernel_table *tables[MAX_ISAS], int ranks[MAX_ISAS])
{
    bool avx512 = runs_avx512(cpu);
    tables[0] = wide_kernels(), ranks[0] = !avx512 ? 0 : gains_from_512_bits(cpu) ? 5 : 3;
    tables[1] = &kernels_avx512, ranks[1] = avx512 ? 4 : 0;
    tables[2] = &kernels_avx2, ranks[2] = runs_avx2(cpu) ? 2 : 0;
    tables[3] = &kernels_baseline, ranks[3] = 1;
    return 4;
}

int list_kernels(const kernel_table *tables[MAX_ISAS], int ranks[MAX_ISAS])
{
    cpu_facts cpu = ask_cpu();
    nontemporal_bytes = nontemporal_from(largest_cache(is_amd(&cpu)));
    return list_for(&cpu, tables, ranks);
}

#else

#if defined(__aarch64__)
#define ONLY kernels_neon
#else
#define ONLY kernels_baseline
#endif

extern const kernel_table ONLY;

int list_kernels(const kernel_table *tables[MAX_ISAS], int ranks[MAX_ISAS])
{
    tables[0] = &ONLY;
    ranks[0] = 1;
    return 1;
}

#endif

void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
