/* Which tables of kernels were compiled, and which of them this CPU can run. */
#include "kernels.h"

#if defined(__x86_64__)
extern const kernel_table kernels_baseline, kernels_avx2, kernels_avx512;
#elif defined(__aarch64__)
extern const kernel_table kernels_neon;
#else
extern const kernel_table kernels_baseline;
#endif

int list_kernels(const kernel_table *tables[MAX_ISAS], bool runs[MAX_ISAS])
{
    int n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    runs[n] = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    tables[n++] = &kernels_avx512;
    runs[n] = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    tables[n++] = &kernels_avx2;
#endif
    runs[n] = true;
#if defined(__aarch64__)
    tables[n++] = &kernels_neon;
#else
    tables[n++] = &kernels_baseline;
#endif
    return n;
}

void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
