// What the kernels ask of an element type: `kernels/src/library/number.rs`.

// The element types on the wire.
const uint F32 = 0, I32 = 1, U32 = 2;

// No f32 has these orders.
const int LOWEST_ORDER = -0x7fffffff - 1, HIGHEST_ORDER = 0x7fffffff;

const double LEAST_DENORMAL = 1.4012984643248171e-45lf, OF_LEAST_DENORMALS = 7.1362384635297994e44lf;
const double LEAST_NORMAL = 1.1754943508222875e-38lf;

bool is_nan(uint bits) { return (bits & 0x7fffffff) > 0x7f800000; }
bool is_finite(uint bits) { return (bits & 0x7f800000) != 0x7f800000; }

// The f32 of these bits as f64, denormals included, which devices may take for zero.
double wide(uint bits) {
    if ((bits & 0x7f800000) != 0) return double(uintBitsToFloat(bits));
    double size = double(bits & 0x7fffff) * LEAST_DENORMAL;
    return bits >> 31 != 0 ? -size : size;
}

dvec4 wide(uvec4 bits) { return dvec4(wide(bits.x), wide(bits.y), wide(bits.z), wide(bits.w)); }

// The bits of the f32 nearest to an f64, denormals included.
uint narrow(double x) {
    if (!(abs(x) < LEAST_NORMAL)) return floatBitsToUint(float(x));
    uint sign = unpackDouble2x32(x).y & 0x80000000;
    return sign | uint(roundEven(abs(x) * OF_LEAST_DENORMALS));
}

double sum_of(dvec4 x) { return (x.x + x.y) + (x.z + x.w); }
uint sum_of(uvec4 x) { return x.x + x.y + x.z + x.w; }

int turn(int bits) { return bits < 0 ? bits ^ 0x7fffffff : bits; }

// An integer that is ordered as the numbers are, with -0.0 below +0.0; `of_nan` for NaN.
int order_of(uint element, uint bits, int of_nan) {
    if (element == F32) return is_nan(bits) ? of_nan : turn(int(bits));
    return int(element == U32 ? bits ^ 0x80000000 : bits);
}

// The number with this order; NaN if none has it.
uint from_order(uint element, int order) {
    if (element == F32) return is_nan(uint(turn(order))) ? 0x7fc00000 : uint(turn(order));
    return element == U32 ? uint(order) ^ 0x80000000 : uint(order);
}
