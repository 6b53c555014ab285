// CUDA on the host, for tests: blocks run one after the other, the threads of a block as fibers that switch where they
// wait for each other. It checks what kernels compute, and that warps and blocks meet where they must; not races, nor
// anything of real hardware.
#pragma once
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <math.h>
#include <mutex>
#include <sys/mman.h>
#include <type_traits>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline

using cudaError_t = int;
using cudaStream_t = void*;
enum { cudaSuccess = 0, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaFuncAttributeMaxDynamicSharedMemorySize };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "none"; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, int, cudaStream_t) {
    if (n) std::memcpy(to, from, n);
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t n, cudaStream_t) {
    if (n) std::memset(to, value, n);
    return cudaSuccess;
}
template <typename F>
inline cudaError_t cudaFuncSetAttribute(F, int, size_t) {
    return cudaSuccess;
}

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace host_cuda {

enum class Wait { none, warp, block, done };

struct Fiber {
    jmp_buf place;
    ucontext_t start;
    void* stack = nullptr;
    Wait wait = Wait::none;
    int line = 0;
    unsigned mask = 0;
    uint64_t given = 0, result = 0;  // of a warp: what this lane hands over, and what it gets
    int source = 0;                  // lane that it reads; -1: ballot
};

struct Machine {
    static constexpr size_t kStack = 256 * 1024;
    std::vector<Fiber> fibers;
    jmp_buf scheduler;
    const std::function<void()>* kernel = nullptr;
    int current = 0, count = 0;
    std::vector<char> shared;
    dim3 grid, block, block_index;
    std::mutex busy;

    [[noreturn]] void fail(const char* what) {
        std::fprintf(stderr, "emulated CUDA: block %u,%u thread %d: %s\n", block_index.x, block_index.y, current, what);
        for (int i = 0; i < count; ++i)
            std::fprintf(stderr, "  thread %d waits %d at line %d, mask %08x\n", i, int(fibers[i].wait), fibers[i].line, fibers[i].mask);
        std::abort();
    }
    static Machine& get() {
        static Machine machine;
        return machine;
    }
    static void enter() {
        Machine& m = get();
        (*m.kernel)();
        m.fibers[m.current].wait = Wait::done;
        _longjmp(m.scheduler, 1);
    }
    void yield() {
        Fiber& f = fibers[current];
        if (_setjmp(f.place) == 0) _longjmp(scheduler, 1);
    }
    void resume(int i, bool fresh) {
        current = i;
        if (_setjmp(scheduler) != 0) return;
        if (fresh) {
            setcontext(&fibers[i].start);
        } else {
            _longjmp(fibers[i].place, 1);
        }
    }
    // Lets the warps go on in which all lanes of a mask have met, or the block if all its threads have.
    bool meet() {
        bool any = false;
        int at_barrier = 0, running = 0, total = 0;
        for (int i = 0; i < count; ++i) {
            running += fibers[i].wait != Wait::done;
            if (fibers[i].wait == Wait::block) ++at_barrier, total += fibers[i].given != 0;
        }
        if (running > 0 && at_barrier == running) {
            for (int i = 0; i < count; ++i)
                if (fibers[i].wait == Wait::block) fibers[i].wait = Wait::none, fibers[i].result = total;
            return true;
        }
        for (int first = 0; first < count; first += 32) {
            for (int l = 0; l < 32 && first + l < count; ++l) {
                const Fiber leader = fibers[first + l];
                if (leader.wait != Wait::warp) continue;
                bool all = true;
                for (int k = 0; k < 32; ++k) {
                    if (!((leader.mask >> k) & 1)) continue;
                    if (first + k >= count) continue;  // a warp that is not full
                    const Fiber& f = fibers[first + k];
                    if (f.wait == Wait::done) fail("a lane of the mask has left the kernel");
                    all &= f.wait == Wait::warp && f.mask == leader.mask && f.line == leader.line;
                }
                if (!all) continue;
                if (!((leader.mask >> l) & 1)) fail("a lane is not in its own mask");
                uint64_t given[32] = {};
                unsigned bits = 0;
                for (int k = 0; k < 32 && first + k < count; ++k) {
                    given[k] = fibers[first + k].given;
                    if (((leader.mask >> k) & 1) && given[k]) bits |= 1u << k;
                }
                for (int k = 0; k < 32 && first + k < count; ++k) {
                    if (!((leader.mask >> k) & 1)) continue;
                    Fiber& f = fibers[first + k];
                    if (f.source >= 0 && !((leader.mask >> f.source) & 1)) fail("reads a lane that is not in the mask");
                    f.result = f.source < 0 ? bits : given[f.source];
                    f.wait = Wait::none;
                }
                any = true;
            }
        }
        return any;
    }
    void run_block() {
        for (int i = 0; i < count; ++i) {
            Fiber& f = fibers[i];
            if (!f.stack) f.stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            getcontext(&f.start);
            f.start.uc_stack.ss_sp = f.stack;
            f.start.uc_stack.ss_size = kStack;
            f.start.uc_link = nullptr;
            makecontext(&f.start, &Machine::enter, 0);
            f.wait = Wait::none;
            resume(i, true);
        }
        for (;;) {
            bool done = true;
            for (int i = 0; i < count; ++i) done &= fibers[i].wait == Wait::done;
            if (done) return;
            if (!meet()) fail("threads wait for each other for ever");
            for (int i = 0; i < count; ++i)
                if (fibers[i].wait == Wait::none) resume(i, false);
        }
    }
    void launch(dim3 grid_size, dim3 block_size, size_t bytes, const std::function<void()>& fn) {
        std::lock_guard<std::mutex> lock(busy);
        grid = grid_size;
        block = block_size;
        if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.x > 1024) fail("bad launch");
        kernel = &fn;
        count = int(block.x);
        if (int(fibers.size()) < count) fibers.resize(count);
        shared.resize(bytes + 16);
        for (block_index.z = 0; block_index.z < grid.z; ++block_index.z)
            for (block_index.y = 0; block_index.y < grid.y; ++block_index.y)
                for (block_index.x = 0; block_index.x < grid.x; ++block_index.x) run_block();
    }
    uint64_t warp(unsigned mask, uint64_t given, int source, int line) {
        Fiber& f = fibers[current];
        f.wait = Wait::warp, f.mask = mask, f.given = given, f.source = source, f.line = line;
        yield();
        return fibers[current].result;
    }
    uint64_t barrier(uint64_t given, int line) {
        Fiber& f = fibers[current];
        f.wait = Wait::block, f.given = given, f.line = line;
        yield();
        return fibers[current].result;
    }
};

inline void launch(dim3 grid, dim3 block, size_t bytes, cudaStream_t, const std::function<void()>& fn) {
    Machine::get().launch(grid, block, bytes, fn);
}

struct Index {
    struct X {
        operator unsigned() const { return unsigned(Machine::get().current); }
    } x;
};
template <typename T>
T* dynamic_shared() {
    return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(Machine::get().shared.data()) + 15) & ~uintptr_t(15));
}

template <typename T>
uint64_t to_bits(T v) {
    uint64_t bits = 0;
    std::memcpy(&bits, &v, sizeof(T));
    return bits;
}
template <typename T>
T shuffle(unsigned mask, T v, int source, int line) {
    const uint64_t bits = Machine::get().warp(mask, to_bits(v), source, line);
    std::memcpy(&v, &bits, sizeof(T));
    return v;
}

}  // namespace host_cuda

#define threadIdx (host_cuda::Index{})
#define blockIdx (host_cuda::Machine::get().block_index)
#define blockDim (host_cuda::Machine::get().block)
#define gridDim (host_cuda::Machine::get().grid)

inline int host_cuda_lane() { return host_cuda::Machine::get().current % 32; }

inline void __syncthreads(int line = __builtin_LINE()) { host_cuda::Machine::get().barrier(0, line); }
inline int __syncthreads_count(int v, int line = __builtin_LINE()) { return int(host_cuda::Machine::get().barrier(v != 0, line)); }
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) { host_cuda::Machine::get().warp(mask, 0, -1, line); }
inline unsigned __ballot_sync(unsigned mask, int v, int line = __builtin_LINE()) {
    return unsigned(host_cuda::Machine::get().warp(mask, v != 0, -1, line));
}
inline int __any_sync(unsigned mask, int v, int line = __builtin_LINE()) { return __ballot_sync(mask, v, line) != 0; }
inline int __all_sync(unsigned mask, int v, int line = __builtin_LINE()) { return __ballot_sync(mask, !v, line) == 0; }
template <typename T>
T __shfl_xor_sync(unsigned mask, T v, int step, int line = __builtin_LINE()) {
    return host_cuda::shuffle(mask, v, host_cuda_lane() ^ step, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T v, int step, int line = __builtin_LINE()) {
    const int lane = host_cuda_lane();
    return host_cuda::shuffle(mask, v, lane + step < 32 ? lane + step : lane, line);
}
template <typename T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32, int line = __builtin_LINE()) {
    return host_cuda::shuffle(mask, v, host_cuda_lane() / width * width + source % width, line);
}

template <typename T, typename U>
T atomicAdd(T* p, U v) {
    const T old = *p;
    *p = T(old + v);
    return old;
}
template <typename T, typename U>
T atomicMax(T* p, U v) {
    const T old = *p;
    if (T(v) > old) *p = T(v);
    return old;
}
template <typename T, typename U>
T atomicMin(T* p, U v) {
    const T old = *p;
    if (T(v) < old) *p = T(v);
    return old;
}

inline int __ffs(unsigned v) { return __builtin_ffs(int(v)); }
inline int __clz(unsigned v) { return v ? __builtin_clz(v) : 32; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline unsigned __float_as_uint(float v) { return unsigned(host_cuda::to_bits(v)); }
inline int __float_as_int(float v) { return int(host_cuda::to_bits(v)); }
inline float __uint_as_float(unsigned v) {
    float f;
    std::memcpy(&f, &v, 4);
    return f;
}
inline float __int_as_float(int v) { return __uint_as_float(unsigned(v)); }
inline long long __double_as_longlong(double v) { return (long long)(host_cuda::to_bits(v)); }
inline double __longlong_as_double(long long v) {
    double d;
    std::memcpy(&d, &v, 8);
    return d;
}

template <typename T, typename U>
std::common_type_t<T, U> max(T a, U b) {
    return a < b ? b : a;
}
template <typename T, typename U>
std::common_type_t<T, U> min(T a, U b) {
    return b < a ? b : a;
}
