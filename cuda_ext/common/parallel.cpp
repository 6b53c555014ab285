#include "common/parallel.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "common/isa.h"

namespace avatar3d {
namespace {

struct Job {
    RangeFn fn = nullptr;
    void* context = nullptr;
    int64_t n = 0, chunk = 1;
    std::atomic<int64_t> next{0};

    void work(int worker) {
        for (;;) {
            const int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
            if (begin >= n) return;
            fn(context, begin, std::min(begin + chunk, n), worker);
        }
    }
};

class Pool {
   public:
    void run(Job& job, int threads) {
        std::unique_lock<std::mutex> turn(turn_);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (static_cast<int>(workers_.size()) < threads - 1) {
                const int id = static_cast<int>(workers_.size()) + 1;
                workers_.emplace_back([this, id] { loop(id); });
            }
            job_ = &job;
            wanted_ = threads - 1;
            ++generation_;
            signal_.store(generation_, std::memory_order_release);
        }
        wake_.notify_all();
        job.work(0);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = nullptr;  // a worker that has not woken by now is not waited for: on a busy machine that takes long
        }
        for (int spin = 0; spin < 20000 && active_.load(std::memory_order_acquire) > 0; ++spin) {
        }
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return active_.load(std::memory_order_acquire) == 0; });
    }

   private:
    void loop(int id) {
        uint64_t seen = 0;
        inside_ = true;
        for (;;) {
            // A short spin keeps back-to-back loops from paying for a wake-up.
            for (int spin = 0; spin < 20000 && signal_.load(std::memory_order_acquire) == seen; ++spin) {
            }
            Job* job = nullptr;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return generation_ != seen; });
                seen = generation_;
                if (id <= wanted_) job = job_;
                if (job) active_.fetch_add(1, std::memory_order_relaxed);
            }
            if (!job) continue;
            job->work(id);
            if (active_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                std::lock_guard<std::mutex> lock(mutex_);
                done_.notify_one();
            }
        }
    }

    std::mutex turn_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    std::atomic<uint64_t> signal_{0};
    uint64_t generation_ = 0;
    std::atomic<int> active_{0};  // workers that have taken up the job
    int wanted_ = 0;
    Job* job_ = nullptr;

   public:
    static thread_local bool inside_;
};

thread_local bool Pool::inside_ = false;

// Never destroyed, since its threads wait for ever; a forked child gets a pool of its own.
Pool& pool() {
    static std::atomic<Pool*> current{nullptr};
    static std::atomic<int> owner{0};
    const int pid = static_cast<int>(getpid());
    if (owner.load() != pid) {
        current.store(new Pool);
        owner.store(pid);
    }
    return *current.load();
}

}  // namespace

void parallel_ranges(int64_t n, int64_t grain, int threads, RangeFn fn, void* context) {
    if (n <= 0) return;
    grain = std::max<int64_t>(grain, 1);
    threads = static_cast<int>(std::min<int64_t>(threads, (n + grain - 1) / grain));
    if (threads <= 1 || Pool::inside_) {
        fn(context, 0, n, 0);
        return;
    }
    Job job;
    job.fn = fn;
    job.context = context;
    job.n = n;
    job.chunk = std::max<int64_t>(grain, (n + threads * 4 - 1) / (threads * 4));
    Pool::inside_ = true;
    pool().run(job, threads);
    Pool::inside_ = false;
}

static Isa detect() {
#ifdef AVATAR3D_X86
    __builtin_cpu_init();
    Isa best = Isa::baseline;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
        best = Isa::avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            best = Isa::avx512;
        }
    }
    if (const char* wish = std::getenv("AVATAR3D_ISA")) {
        if (!std::strcmp(wish, "baseline")) best = Isa::baseline;
        if (!std::strcmp(wish, "avx2")) best = std::min(best, Isa::avx2);
    }
    return best;
#else
    return Isa::baseline;
#endif
}

Isa active_isa() {
    static const Isa isa = detect();
    return isa;
}

const char* isa_name() {
    static const char* names[] = {"baseline", "avx2", "avx512"};
    return names[static_cast<int>(active_isa())];
}

}  // namespace avatar3d
