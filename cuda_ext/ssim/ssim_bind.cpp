#include "common/bind.h"
#include "ssim/ssim.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct Ssim {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;

    // `weights`, `scale`, `value` and the gradients may be empty. The scratch is CUDA's.
    static void forward(In a, In b, In weights, In scale, int margin, double l1, double ssim, double offset, Out value,
                        Out grad_a, Out grad_b, Out scratch, Queue<Device> queue) {
        require(a.ndim() == 4 && b.ndim() == 4 && a.size() == b.size(), "ssim: images [b,h,w,c] of one size");
        SsimArgs<T> args{a.data(), b.data(), data_or_null(weights), data_or_null(scale)};
        args.images = int64_t(a.shape(0)), args.height = int64_t(a.shape(1));
        args.width = int64_t(a.shape(2)), args.channels = int64_t(a.shape(3));
        args.margin = margin;
        args.l1 = T(l1), args.ssim = T(ssim), args.offset = T(offset);
        args.value = data_or_null(value);
        args.grad_a = data_or_null(grad_a), args.grad_b = data_or_null(grad_b);
        require(!args.weights || int64_t(weights.size()) * args.channels == int64_t(a.size()), "ssim: weights [b,h,w]");
        if constexpr (on_cpu<Device>) {
            AVATAR3D_DISPATCH(ssim_forward<T>(args, queue));
        } else {
            require(int64_t(scratch.size()) >= ssim_scratch(args.images, args.height, args.width, args.channels,
                                                            args.grad_a || args.grad_b),
                    "ssim: scratch is too small");
            cuda::ssim_forward<T>(args, scratch.data(), queue);
        }
    }

    static void bind(nb::module_& m) { define<Device>(m, "ssim_forward", forward); }
};

}  // namespace

void bind_ssim(nb::module_& m) {
    bind_everywhere<Ssim>(m);
    m.def("ssim_scratch", ssim_scratch);
}

}  // namespace avatar3d
