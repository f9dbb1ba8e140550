# Threads: how many, and from which work on.

def set_num_threads(n):
    """Let kernels use n threads, the caller included. Results do not depend on it."""
    try:
        whole = operator.index(n)
    except TypeError:
        raise TypeError(f"n must be an integer, was {type(n).__name__}") from None
    if not 1 <= whole <= POOL_MAX_THREADS:
        raise ValueError(f"n must be in [1, {POOL_MAX_THREADS}], was {whole}")
    pool_set_threads(whole)


def get_num_threads():
    """The number of threads that kernels may use, the caller included."""
    return pool_get_threads()


def thread_threshold(str kernel not None):
    """The number of float32 elements, over all tensors of a call, from which on a kernel uses threads all through."""
    costs = [cost for operation, cost in _COSTS.values() if f"{kernel}_".startswith(f"{operation}_")]
    if not costs or kernel not in globals():
        raise ValueError(f"kernel must be the name of a kernel, such as adam_step, was {kernel!r}")
    return POOL_THRESHOLD // (_COSTS[kernel][1] if kernel in _COSTS else min(costs))


def _group_limits(name):
    """What the files of this name say in the process's control group and those above it."""
    group = "/"
    try:
        with open("/proc/self/cgroup") as file:
            group = next((line.strip()[3:] for line in file if line.startswith("0::")), "/")
    except OSError:
        pass
    while True:
        try:
            with open(f"/sys/fs/cgroup{group.rstrip('/')}/{name}") as file:
                yield [int(word) for word in file.read().split()]
        except (OSError, ValueError):
            pass  # no such file, or no limit
        if group == "/":
            return
        group = os.path.dirname(group)


def _cpus():
    """CPUs this process may use: its affinity, and the quotas of its control group and those above it."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:
        cpus = os.cpu_count() or 1
    return min([cpus] + [max(1, -(-quota // period)) for quota, period in _group_limits("cpu.max")])


def _default_threads():
    """NUMFUSE_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use."""
    value = os.environ.get("NUMFUSE_NUM_THREADS")
    if value:
        if not value.isdecimal() or not 1 <= int(value) <= POOL_MAX_THREADS:
            raise ValueError(f"NUMFUSE_NUM_THREADS must be an integer in [1, {POOL_MAX_THREADS}], was {value!r}")
        return int(value)
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    threads = int(value) if value.isdecimal() and int(value) > 0 else _cpus()
    return min(threads, POOL_MAX_THREADS)
