// stand-in
#pragma once
#include "sum.cuh"
namespace gb {
template <class F> GB_DEVICE bool with_kernel(u32 variant, F &f) {
  switch (variant) { case 7<<2: f(Sum<f32>{}); return true; case 7<<2|1: f(Sum<i32>{}); return true; case 7<<2|2: f(Sum<u32>{}); return true; }
  return false; }
}
