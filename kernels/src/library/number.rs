//! What the kernels ask of an element type beside its bits.

use crate::Element;

/// Addition as the kernels do it: integers wrap.
pub(super) trait Plus: Copy {
    /// Changes nothing when added.
    const ZERO: Self;
    /// The sum of two.
    fn plus(self, other: Self) -> Self;
}

/// An element type that can be added up and ordered.
pub(super) trait Number: Element + Plus {
    /// What carries a sum of many: f64 for f32.
    type Sum: Plus;
    /// The number as a sum of one.
    fn to_sum(self) -> Self::Sum;
    /// The sum, rounded to the element type.
    fn from_sum(sum: Self::Sum) -> Self;
    /// An integer that is ordered as the numbers are, with -0.0 below +0.0; none for NaN.
    fn order(self) -> Option<i32>;
    /// The number with this order. `i32::MIN` and `i32::MAX`, which no f32 has, give NaN.
    fn from_order(order: i32) -> Self;
}

impl Plus for f32 {
    const ZERO: Self = 0.0;

    #[inline]
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

impl Plus for f64 {
    const ZERO: Self = 0.0;

    #[inline]
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

impl Plus for i32 {
    const ZERO: Self = 0;

    #[inline]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

impl Plus for u32 {
    const ZERO: Self = 0;

    #[inline]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

/// Turns the magnitude of a negative number's bits round: IEEE 754 stores sign and magnitude, integers are two's
/// complement. Its own inverse.
#[inline]
fn turn(bits: i32) -> i32 {
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

impl Number for f32 {
    type Sum = f64;

    #[inline]
    fn to_sum(self) -> f64 {
        f64::from(self)
    }

    #[inline]
    fn from_sum(sum: f64) -> Self {
        sum as f32
    }

    #[inline]
    fn order(self) -> Option<i32> {
        (!self.is_nan()).then(|| turn(self.to_bits() as i32))
    }

    #[inline]
    fn from_order(order: i32) -> Self {
        let number = f32::from_bits(turn(order) as u32);
        if number.is_nan() { f32::NAN } else { number }
    }
}

impl Number for i32 {
    type Sum = i32;

    #[inline]
    fn to_sum(self) -> i32 {
        self
    }

    #[inline]
    fn from_sum(sum: i32) -> Self {
        sum
    }

    #[inline]
    fn order(self) -> Option<i32> {
        Some(self)
    }

    #[inline]
    fn from_order(order: i32) -> Self {
        order
    }
}

impl Number for u32 {
    type Sum = u32;

    #[inline]
    fn to_sum(self) -> u32 {
        self
    }

    #[inline]
    fn from_sum(sum: u32) -> Self {
        sum
    }

    #[inline]
    fn order(self) -> Option<i32> {
        Some((self ^ 1 << 31) as i32)
    }

    #[inline]
    fn from_order(order: i32) -> Self {
        order as u32 ^ 1 << 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_the_numbers_and_leads_back() {
        let ascending = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1.5,
            -f32::MIN_POSITIVE,
            -1e-45,
            -0.0,
            0.0,
            1e-45,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        let orders: Vec<i32> = ascending.iter().map(|x| x.order().expect("a number")).collect();
        assert!(orders.is_sorted_by(|a, b| a < b), "{orders:?}");
        for (x, order) in ascending.iter().zip(orders) {
            assert_eq!(f32::from_order(order).to_bits(), x.to_bits());
        }
        assert_eq!(f32::NAN.order(), None);
        assert_eq!((-f32::NAN).order(), None);
        assert!(f32::from_order(i32::MIN).is_nan() && f32::from_order(i32::MAX).is_nan());
        let unsigned = [0, 1, u32::MAX / 2, u32::MAX / 2 + 1, u32::MAX];
        assert!(unsigned.is_sorted_by_key(|x| x.order()));
        assert!(unsigned.iter().all(|x| x.order().map(u32::from_order) == Some(*x)));
    }
}
